"""Ears, a mind and a voice on this computer, without a server."""

from __future__ import annotations

import comfy.model_management
from comfy_api.latest import io

from ...host.progress import Progress
from ...loaders.conversation.ears import ears_here
from ...loaders.conversation.files import EARS, MINDS, labels
from ...loaders.conversation.mind import mind_here
from ...loaders.conversation.voice import LABELS, LICENCE, voice_here
from ..schema import Node, schema
from ..types import AvatarEars, AvatarMind, AvatarVoice
from .services import CATEGORY, LANGUAGES, answer_inputs, cloned, language_input, prompt_input

DEVICES = ("cpu", "gpu")
KEPT = "It is kept loaded beside the avatar's model, and computes at the same time."


def download_input(what: str, optional: bool = False) -> io.Input:
    """The switch that allows a download."""
    return io.Boolean.Input(
        "download",
        default=False,
        optional=optional,
        tooltip=f"Allow fetching {what} from the Hugging Face hub, into models/avatar_conversation.",
    )


def device_input() -> io.Input:
    """The choice of a device."""
    return io.Combo.Input(
        "device",
        options=list(DEVICES),
        default=DEVICES[0],
        optional=True,
        tooltip=f"{KEPT} gpu: answers sooner, and takes memory and time from the video.",
    )


def torch_device(choice: str) -> str:
    """The device of a choice; ValueError where there is no GPU."""
    device = comfy.model_management.get_torch_device()
    if choice == "cpu":
        return "cpu"
    if device.type == "cpu":
        raise ValueError("Set device to cpu: ComfyUI runs without a GPU.")
    return str(device)


class AvatarLanguageModelHere(Node):
    """A small language model in this process."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarLanguageModelHere",
            search_aliases=["llm", "chat", "qwen", "local", "mind"],
            display_name="Language Model (this computer)",
            category=CATEGORY,
            description="A small Qwen by transformers, without a server. For better answers use Language Model.",
            inputs=[
                io.Combo.Input(
                    "model", options=labels(MINDS), tooltip="Model, size of its download, and licence."
                ),
                prompt_input("system_prompt"),
                download_input("the model"),
                *answer_inputs(),
                device_input(),
            ],
            outputs=[AvatarMind.Output(display_name="mind")],
        )

    @classmethod
    def execute(
        cls,
        model: str,
        system_prompt: str,
        download: bool,
        temperature: float = 0.7,
        max_tokens: int = 200,
        turns_remembered: int = 20,
        device: str = DEVICES[0],
    ) -> io.NodeOutput:
        found = mind_here(
            model,
            torch_device(device),
            download,
            Progress(),
            prompt=system_prompt,
            temperature=temperature,
            max_tokens=max_tokens,
            remembered=2 * turns_remembered + 1,
        )
        return io.NodeOutput(found)


class AvatarEarsHere(Node):
    """Whisper in this process."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarEarsHere",
            search_aliases=["asr", "stt", "speech to text", "whisper", "local"],
            display_name="Ears (this computer)",
            category=CATEGORY,
            description="Whisper, without a server: by transformers, or by faster-whisper where it is installed.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=labels(EARS),
                    tooltip="Model, size of its download, and licence. faster-whisper needs its package.",
                ),
                download_input("the model"),
                language_input(),
                device_input(),
            ],
            outputs=[AvatarEars.Output(display_name="ears")],
        )

    @classmethod
    def execute(
        cls, model: str, download: bool, language: str = "auto", device: str = DEVICES[0]
    ) -> io.NodeOutput:
        code = LANGUAGES[language]
        return io.NodeOutput(ears_here(model, code, torch_device(device), download, Progress()))


class AvatarVoiceHere(Node):
    """Pocket TTS in this process."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarVoiceHere",
            search_aliases=["tts", "text to speech", "clone", "pocket tts", "local"],
            display_name="Voice (this computer)",
            category=CATEGORY,
            description=(
                "Pocket TTS, without a server: English, Spanish, French, German, Italian, Portuguese; it clones a "
                "sample. Needs the package pocket-tts. For Chinese use Voice."
            ),
            inputs=[
                io.Combo.Input("voice", options=LABELS, tooltip=f"Language and voice. Licence of {LICENCE}."),
                download_input(
                    "the model of the language (and, with a sample, the one that clones: after a login)"
                ),
                io.Audio.Input(
                    "sample",
                    optional=True,
                    tooltip="3 to 20 seconds of a voice to clone. Ask the person whose voice it is.",
                ),
            ],
            outputs=[AvatarVoice.Output(display_name="voice")],
        )

    @classmethod
    def execute(cls, voice: str, download: bool, sample=None) -> io.NodeOutput:
        return io.NodeOutput(voice_here(voice, cloned(sample), download, Progress()))
