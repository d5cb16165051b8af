"""The nodes that say who hears, thinks and speaks in a conversation."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...conversation.server import KEY_PREFIX, Server
from ...conversation.services import EarsServer, MindServer, VoiceServer
from ...media.audio import duration, to_mono, usable
from ..schema import Node, schema
from ..types import AvatarEars, AvatarMind, AvatarVoice

CATEGORY = "LiveAvatar/Conversation"
PROMPT = "Answer in one to three short spoken sentences, in the language of the question."
SAMPLE_RATE = 24_000
SAMPLE_SECONDS = 3.0, 20.0
LANGUAGES = {
    "auto": "",
    "English": "en",
    "Chinese": "zh",
    "Spanish": "es",
    "French": "fr",
    "German": "de",
    "Italian": "it",
    "Portuguese": "pt",
    "Russian": "ru",
    "Japanese": "ja",
    "Korean": "ko",
}
"""The languages that can be chosen, and their codes."""


def address_input(url: str, example: str) -> io.Input:
    """The widget for a server's address."""
    return io.String.Input("url", default=url, tooltip=f"Address of the server, ending in /v1: {example}.")


def key_input() -> io.Input:
    """The widget for the name of a key."""
    return io.String.Input(
        "key",
        default="",
        optional=True,
        tooltip=(
            f"Name of an environment variable such as {KEY_PREFIX}MINE, never the key itself. The variable holds the "
            "server's origin and the key: https://api.example.com sk-... Empty: no key."
        ),
    )


def prompt_input(name: str) -> io.Input:
    """The widget for what a model is told about itself."""
    return io.String.Input(
        name, default=PROMPT, multiline=True, tooltip="Who the avatar is, and how it shall answer."
    )


def answer_inputs() -> list[io.Input]:
    """The widgets that shape an answer."""
    return [
        io.Float.Input(
            "temperature",
            default=0.7,
            min=0.0,
            max=2.0,
            step=0.1,
            optional=True,
            tooltip="0: always the most likely answer.",
        ),
        io.Int.Input(
            "max_tokens",
            default=200,
            min=1,
            max=8192,
            optional=True,
            tooltip="Longest answer, in tokens (about 4 letters each).",
        ),
        io.Int.Input(
            "turns_remembered",
            default=20,
            min=0,
            max=200,
            optional=True,
            tooltip="Questions and answers before this one that the model is told.",
        ),
    ]


def language_input() -> io.Input:
    """The choice of the language that is heard."""
    return io.Combo.Input(
        "language",
        options=list(LANGUAGES),
        default="auto",
        optional=True,
        tooltip="auto: the model finds out, and may mishear short answers.",
    )


class ServerNode(Node):
    """A node that names a server, which is checked when a workflow is queued."""

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Addresses and keys that cannot be used are refused when the workflow is queued."""
        super().check(values)
        if "url" in values:
            Server(values["url"], "server", values.get("key", "")).check()


class AvatarLanguageModel(ServerNode):
    """Names a language model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarLanguageModel",
            search_aliases=["llm", "chat", "ollama", "openai", "vllm", "llama.cpp", "mind"],
            display_name="Language Model",
            category=CATEGORY,
            description="A language model on a server with OpenAI's interface: Ollama, llama.cpp, vLLM, or a service.",
            inputs=[
                address_input(
                    "http://127.0.0.1:11434/v1", "11434 is Ollama's port, 8080 llama.cpp's, 8000 vLLM's"
                ),
                io.String.Input(
                    "model", default="qwen3:4b-instruct", tooltip="Name of the model on that server."
                ),
                prompt_input("system_prompt"),
                *answer_inputs(),
                key_input(),
            ],
            outputs=[AvatarMind.Output(display_name="mind")],
        )

    @classmethod
    def execute(
        cls,
        url: str,
        model: str,
        system_prompt: str,
        temperature: float = 0.7,
        max_tokens: int = 200,
        turns_remembered: int = 20,
        key: str = "",
    ) -> io.NodeOutput:
        server = Server(url, "language model", key)
        lines = 2 * turns_remembered + 1
        return io.NodeOutput(MindServer(server, model, system_prompt, temperature, max_tokens, lines))


class AvatarVoiceNode(ServerNode):
    """Names a voice, and the sound that it is cloned from."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarVoice",
            search_aliases=["tts", "text to speech", "clone", "qwen3-tts", "kokoro", "xtts"],
            display_name="Voice",
            category=CATEGORY,
            description=(
                "A voice on a server with OpenAI's interface. vllm-omni with Qwen3-TTS clones a sample in ten "
                "languages, English, Chinese and Spanish among them."
            ),
            inputs=[
                address_input("http://127.0.0.1:8091/v1", "8091 is vllm-omni's port, 8880 Kokoro-FastAPI's"),
                io.String.Input(
                    "model",
                    default="Qwen/Qwen3-TTS-12Hz-1.7B-Base",
                    tooltip="Name of the model on that server.",
                ),
                io.String.Input(
                    "voice",
                    default="",
                    optional=True,
                    tooltip="Name of one of the server's voices. Empty: the server's own choice, or the sample.",
                ),
                io.Audio.Input(
                    "sample",
                    optional=True,
                    tooltip="3 to 20 seconds of the voice to clone, alone and clear. Ask the person whose voice it is.",
                ),
                io.String.Input(
                    "transcript",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What is said in the sample, word for word.",
                ),
                io.Combo.Input(
                    "language",
                    options=list(LANGUAGES),
                    default="auto",
                    optional=True,
                    tooltip="auto: the model finds out.",
                ),
                key_input(),
            ],
            outputs=[AvatarVoice.Output(display_name="voice")],
        )

    @classmethod
    def execute(
        cls,
        url: str,
        model: str,
        voice: str = "",
        sample=None,
        transcript: str = "",
        language: str = "auto",
        key: str = "",
    ) -> io.NodeOutput:
        named = "" if language == "auto" else language
        server = Server(url, "voice", key)
        return io.NodeOutput(
            VoiceServer(server, model, voice, cloned(sample), " ".join(transcript.split()), named)
        )


class AvatarEarsNode(ServerNode):
    """Names what turns speech into text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarEars",
            search_aliases=["asr", "stt", "speech to text", "whisper", "transcribe"],
            display_name="Ears",
            category=CATEGORY,
            description="Speech to text on a server with OpenAI's interface: speaches, vLLM, LocalAI, or a service.",
            inputs=[
                address_input("http://127.0.0.1:8000/v1", "8000 is the port of speaches and vLLM"),
                io.String.Input(
                    "model",
                    default="Systran/faster-whisper-large-v3",
                    tooltip="Name of the model on that server.",
                ),
                language_input(),
                key_input(),
            ],
            outputs=[AvatarEars.Output(display_name="ears")],
        )

    @classmethod
    def execute(cls, url: str, model: str, language: str = "auto", key: str = "") -> io.NodeOutput:
        return io.NodeOutput(EarsServer(Server(url, "ears", key), model, LANGUAGES[language]))


def cloned(sample) -> tuple | None:
    """The sound of an AUDIO to be cloned; ValueError where it is too short or too long."""
    if sample is None:
        return None
    seconds, (least, most) = duration(usable(sample)), SAMPLE_SECONDS
    if not least <= seconds <= most:
        raise ValueError(
            f"Give the voice a sample of {least:g} to {most:g} seconds (Trim Audio): it has {seconds:.1f}."
        )
    return to_mono(sample, SAMPLE_RATE), SAMPLE_RATE
