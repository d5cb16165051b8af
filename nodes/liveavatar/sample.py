"""The sampler node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from comfy_api.latest import io
from torch import Tensor

from ...engines.gpu.offload import BlockOffload
from ...engines.liveavatar.config import BLOCK_FRAMES, FPS, SamplingConfig
from ...engines.liveavatar.pipeline import Scene, generate
from ...engines.liveavatar.state import GenerationState
from ...engines.parts.planning.plan import CHOICES, NO_WISH, Wish
from ...host.progress import check_interrupt, show_text
from ...loaders.liveavatar.conditioning import Condition, read
from ...loaders.liveavatar.fingerprint import run_fingerprint
from ...loaders.liveavatar.speech import Speech
from ...loaders.liveavatar.transformer import host_config
from ...loaders.wan.fast_decoder import HostDecoder, check_fits, decoder_from_host
from ...loaders.wan.vae import HostVAE, vae_from_host
from ...media.audio import trim
from ...media.frames import AvatarStream, Resumable
from ...sessions.liveavatar import load_for_sampling, plan_run
from ...sessions.out_of_memory import memory_explained
from ..schema import MAX_SEED, Node, schema
from ..types import AvatarDecoder, AvatarPerformance, AvatarSpeech, AvatarStreamType

FIRST_BLOCK = "First block: kernels for this GPU are loaded, or made (about 10 s, once; they stay on disk)."


class LiveAvatarSampler(Node):
    """Describes the video; frames are made as the stream is consumed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarSampler",
            search_aliases=["talking head", "lip sync", "speech to video", "wan s2v", "avatar"],
            display_name="LiveAvatar Sampler",
            description=(
                "Makes the portrait say the speech at 25 frames per second, for any length, in blocks of 12 frames. "
                "The stream is generated while the node after it writes or shows it, so memory does not grow with "
                "the length."
            ),
            inputs=[
                io.Model.Input("model", tooltip="Wan2.2-S2V with the LiveAvatar LoRA."),
                io.Vae.Input("vae", tooltip="Wan 2.1's VAE; decodes block by block."),
                io.Conditioning.Input(
                    "positive", tooltip="Prompt with the portrait (LiveAvatar Reference Image)."
                ),
                AvatarSpeech.Input("speech", tooltip="From LiveAvatar Encode Speech."),
                io.Int.Input(
                    "seed",
                    default=42,
                    min=0,
                    max=MAX_SEED,
                    control_after_generate=True,
                    tooltip="The same seed gives the same video on the same device.",
                ),
                io.Int.Input(
                    "steps",
                    default=4,
                    min=1,
                    max=50,
                    tooltip=(
                        "Denoising steps; the LoRA is made for 4. 3 are a quarter faster; in the paper lip "
                        "sync (Sync-C) falls from 7.03 to 6.58 with 3."
                    ),
                ),
                io.Float.Input(
                    "max_seconds",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.04,
                    tooltip="Stop after this time; 0 is the whole speech.",
                ),
                io.Int.Input(
                    "frames_per_clip",
                    default=48,
                    min=BLOCK_FRAMES,
                    max=480,
                    step=BLOCK_FRAMES,
                    optional=True,
                    tooltip="Length of the attention window, in frames. 48 is what the model was trained with.",
                ),
                io.Combo.Input(
                    "sink",
                    options=["own first frame", "portrait"],
                    optional=True,
                    tooltip=(
                        "What the face is held to after the first clip: the first generated frame, which keeps "
                        "long videos from drifting, or the portrait itself."
                    ),
                ),
                io.Int.Input(
                    "sink_distance",
                    default=30,
                    min=0,
                    max=30,
                    optional=True,
                    tooltip=(
                        "How far ahead, in latent frames, the model believes that picture to be: 4 to 30. "
                        "0 draws it anew for every step, as the reference implementation does."
                    ),
                ),
                io.Combo.Input(
                    "performance",
                    options=list(CHOICES),
                    optional=True,
                    tooltip=(
                        "auto: the fastest that fits, with fp8 where the GPU has it. quality: nothing is rounded more "
                        "than in the model. balanced: fp8 only where the model does not fit otherwise. fast: auto "
                        "with attention in 8 bits. low memory: the smallest."
                    ),
                ),
                AvatarPerformance.Input(
                    "options",
                    optional=True,
                    tooltip="From LiveAvatar Performance Options, for people who measure.",
                ),
                io.MultiType.Input(
                    "decoder",
                    types=[AvatarDecoder, io.Vae],
                    optional=True,
                    tooltip=(
                        "From LiveAvatar Load Fast Decoder: makes the pictures in place of the VAE, faster and softer."
                    ),
                ),
            ],
            outputs=[AvatarStreamType.Output(display_name="stream")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Settings that do not go together are refused when the workflow is queued, not once the models are loaded."""
        super().check(values)
        settings = {name: values[name] for name in ("steps", "frames_per_clip") if name in values}
        SamplingConfig(**settings, sink_distance=values.get("sink_distance") or None)

    @classmethod
    def execute(
        cls,
        model,
        vae,
        positive,
        speech: Speech,
        seed: int,
        steps: int,
        max_seconds: float,
        frames_per_clip: int = 48,
        sink: str = "own first frame",
        sink_distance: int = 30,
        performance: str = "auto",
        options: Wish | None = None,
        decoder=None,
    ) -> io.NodeOutput:
        config = SamplingConfig(
            steps=steps,
            seed=seed,
            frames_per_clip=frames_per_clip,
            replace_sink=sink == "own first frame",
            sink_distance=sink_distance or None,
        )
        condition = read(positive)
        vae = vae_from_host(vae)
        fast = _fast_decoder(decoder)
        _check(model, vae, condition, speech, fast)
        frames = _frames(speech, max_seconds)
        live = frames is None
        height, width = condition.size
        wish = replace(options or NO_WISH, choice=performance, fast_decoder=fast.name if fast else "")
        plan_run(model, config, height, width, wish)  # what cannot be is said before anything is loaded
        hidden = cls.hidden

        def start(state: GenerationState | None = None) -> Iterator[Tensor]:
            with memory_explained(model, config, height, width, wish):
                loaded = load_for_sampling(model, vae, config, height, width, wish, hidden, fast)
                transformer, wan_vae, device = loaded.transformer, loaded.vae, loaded.device

                def normalised(latents: Tensor | None) -> Tensor | None:
                    return (
                        None
                        if latents is None
                        else wan_vae.normalise(latents.to(device)).to(transformer.dtype)
                    )

                scene = Scene(
                    context=condition.context,
                    reference=normalised(condition.reference),
                    motion=normalised(condition.motion),
                    speech=speech.source,
                    pose=normalised(condition.pose),
                    masks=speech.masks,
                )
                said: list[str] = []

                def say(text: str) -> None:
                    said.append(text)
                    show_text(text, hidden)

                if device.type == "cuda":
                    show_text(f"{loaded.plan.text}\n{FIRST_BLOCK}", hidden)
                with BlockOffload(loaded.waiting, device):
                    blocks = generate(
                        transformer,
                        loaded.decoder,
                        scene,
                        config,
                        frames,
                        check_interrupt,
                        after_encoding=loaded.bring_back,
                        state=state,
                        performance=loaded.plan.performance,
                        say=say,
                    )
                    with closing(blocks):
                        for number, block in enumerate(blocks):
                            if number == 0 and device.type == "cuda" and not said:
                                show_text(loaded.plan.text, hidden)
                            yield block
                            # Whoever took the block may have needed the memory, as PersonaLive does.
                            if loaded.decoder.device != device:
                                loaded.bring_back()

        def identity() -> str:
            chosen = plan_run(model, config, height, width, wish).performance
            rounding = [chosen.fp8, chosen.int8_caches, chosen.attention8]
            return run_fingerprint(model, vae, condition, speech, config, frames, rounding, fast)

        resumable = Resumable(
            fingerprint=identity,
            state=partial(GenerationState, check_interrupt=check_interrupt),
            about={"width": width, "height": height, "frames": frames, "settings": asdict(config)},
        )
        return io.NodeOutput(
            AvatarStream(
                start,
                frames=frames,
                width=width,
                height=height,
                fps=FPS,
                audio=speech.audio if live else trim(speech.audio, seconds=frames / FPS),
                resumable=None if live else resumable,
            )
        )


def _frames(speech: Speech, max_seconds: float) -> int | None:
    """How many frames the video has; None for live speech."""
    if speech.frames is None:
        if max_seconds:
            raise ValueError("Live speech ends by its own max_seconds; set that of LiveAvatar Sampler to 0.")
        return None
    return max(1, min(speech.frames, round(max_seconds * FPS)) if max_seconds else speech.frames)


def _fast_decoder(decoder) -> HostDecoder | None:
    """What is connected to the input ``decoder``: our loader's object, or a VAE of the host."""
    return decoder if decoder is None or isinstance(decoder, HostDecoder) else decoder_from_host(decoder)


def _check(model, vae: HostVAE, condition: Condition, speech: Speech, fast: HostDecoder | None) -> None:
    """Everything that would otherwise fail after the models have been loaded."""
    expected = host_config(model)
    if fast is not None:
        check_fits(fast, vae.vae)
    width = condition.context.shape[-1]
    if width != expected.text_dim:
        raise ValueError(
            f"The prompt was encoded {width} wide, the model expects {expected.text_dim}; use the UMT5-XXL text "
            "encoder."
        )
    source = speech.source
    if (source.layers, source.dim) != (expected.audio_layers, expected.audio_dim):
        raise ValueError(
            f"The speech was encoded as {source.layers} layers of {source.dim}, the model expects "
            f"{expected.audio_layers} of {expected.audio_dim}; use wav2vec2-large-xlsr-53-english."
        )
    if source.speakers > 1 and speech.masks is None:
        raise ValueError("Two people speak, but nobody knows where they are; add LiveAvatar Speaker Masks.")
