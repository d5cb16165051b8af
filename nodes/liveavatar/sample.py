"""The sampler node."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from comfy_api.latest import io

from ...engines.liveavatar.config import BLOCK_FRAMES, SamplingConfig
from ...engines.parts.planning.plan import CHOICES, NO_WISH, Wish
from ...host.progress import check_interrupt, show_text
from ...loaders.liveavatar.conditioning import read, read_prompt
from ...loaders.liveavatar.host_source import HostSource
from ...loaders.liveavatar.moods import Mood
from ...loaders.wan.fast_decoder import decoder_from_host
from ...loaders.wan.vae import vae_from_host
from ...media.speech import LiveSpeech, Speech
from ...sessions.liveavatar import Inputs, open_video
from ..inputs import max_seconds as max_seconds_input
from ..inputs import seed as seed_input
from ..schema import FOLDED, Node, schema
from ..types import AvatarDecoder, AvatarMoods, AvatarPerformance, AvatarSpeech, AvatarStreamType


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
                seed_input(),
                io.Int.Input(
                    "steps",
                    default=4,
                    min=1,
                    max=50,
                    tooltip=(
                        "Denoising steps; the LoRA is made for 4. With 3, generation is a quarter faster, and in the "
                        "paper lip sync (Sync-C) falls from 7.03 to 6.58. Without the LoRA 20 to 50, with guidance."
                    ),
                ),
                max_seconds_input(),
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
                        "The picture that the face is held to after the first clip: the first generated frame, which "
                        "keeps long videos from drifting, or the portrait itself."
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
                        "auto: the fastest plan that fits, with fp8 where the GPU has it. quality: nothing is rounded "
                        "more than in the model. balanced: fp8 only where the model does not fit otherwise. fast: like "
                        "auto, with attention in 8 bits. low memory: the smallest plan."
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
                AvatarMoods.Input(
                    "moods",
                    optional=True,
                    tooltip="From LiveAvatar Mood: further prompts, between which the video switches.",
                ),
                io.Float.Input(
                    "guidance",
                    default=1.0,
                    min=1.0,
                    max=5.0,
                    step=0.1,
                    tooltip=(
                        "For the model without the LoRA: 4.5, with 20 to 50 steps. Above 1 every step is done twice "
                        "and takes twice the caches. 1 with the LoRA."
                    ),
                    **FOLDED,
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="What the video shall not show; needed for guidance, may be an empty prompt.",
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
        speech: Speech | LiveSpeech,
        seed: int,
        steps: int,
        max_seconds: float,
        frames_per_clip: int = 48,
        sink: str = "own first frame",
        sink_distance: int = 30,
        performance: str = "auto",
        options: Wish | None = None,
        decoder=None,
        moods: tuple[Mood, ...] = (),
        guidance: float = 1.0,
        negative=None,
    ) -> io.NodeOutput:
        config = SamplingConfig(
            steps=steps,
            seed=seed,
            frames_per_clip=frames_per_clip,
            replace_sink=sink == "own first frame",
            sink_distance=sink_distance or None,
            guidance=guidance,
        )
        inputs = Inputs(
            HostSource.of(model),
            vae_from_host(vae),
            read(positive),
            speech,
            None if decoder is None else decoder_from_host(decoder),
            moods,
            None if negative is None else read_prompt(negative),
        )
        stream = open_video(
            inputs,
            config,
            replace(options or NO_WISH, choice=performance),
            max_seconds,
            check_interrupt=check_interrupt,
            say=partial(show_text, hidden=cls.hidden),
        )
        return io.NodeOutput(stream)
