"""LongCat's sampler node."""

from __future__ import annotations

from functools import partial
from typing import Any

from comfy_api.latest import io

from ...engines.longcat.config import SamplingConfig
from ...host.progress import check_interrupt, show_text
from ...loaders.liveavatar.conditioning import read_prompt
from ...loaders.longcat.conditioning import read
from ...loaders.longcat.model import LongCatModel
from ...loaders.wan.fast_decoder import decoder_from_host
from ...loaders.wan.vae import vae_from_host
from ...media.speech import LiveSpeech, Speech
from ...sessions.longcat import Inputs, open_video
from ..inputs import max_seconds as max_seconds_input
from ..inputs import seed as seed_input
from ..schema import FOLDED, Node, schema
from ..types import AvatarDecoder, AvatarSpeech, AvatarStreamType, LongCatType
from .load import CATEGORY

DISTILLED = ("auto", "yes", "no")


class LongCatSampler(Node):
    """Describes the video; frames are made as the stream is consumed."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LongCatSampler",
            search_aliases=["longcat video avatar", "talking head", "lip sync", "speech to video"],
            display_name="LongCat Sampler",
            category=CATEGORY,
            description=(
                "Lets a person say the speech, for any length, in segments of 93 frames that go on from each other. "
                "The stream is generated while the node after it writes or shows it."
            ),
            inputs=[
                LongCatType.Input("longcat", tooltip="From LongCat Load Model."),
                io.Vae.Input("vae", tooltip="Wan 2.1's VAE."),
                io.Conditioning.Input(
                    "positive", tooltip="From LongCat Reference Image or LongCat Continue Video."
                ),
                AvatarSpeech.Input(
                    "speech", tooltip="From LiveAvatar Encode Speech with LongCat's audio encoder."
                ),
                seed_input(),
                io.Int.Input(
                    "steps",
                    default=8,
                    min=1,
                    max=50,
                    tooltip="8 with dmd_lora (1.5), 10 to 16 with cfg_step_lora (1.0), 50 without a LoRA.",
                ),
                io.Float.Input(
                    "text_guidance",
                    default=1.0,
                    min=1.0,
                    max=5.0,
                    step=0.1,
                    tooltip="How closely the prompt is followed: 4 without a LoRA, 1 with one. Above 1 takes 3 passes.",
                ),
                io.Float.Input(
                    "audio_guidance",
                    default=1.0,
                    min=1.0,
                    max=5.0,
                    step=0.1,
                    tooltip="How clearly lips move: 3 to 5 without a LoRA, 1 with one. Above 1 takes 3 passes.",
                ),
                max_seconds_input(),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="What the video shall not show; for guidance."
                ),
                io.Combo.Input(
                    "distilled",
                    options=list(DISTILLED),
                    tooltip="The schedule of few steps. auto: with a distillation LoRA.",
                    **FOLDED,
                ),
                io.Int.Input(
                    "overlap",
                    default=13,
                    min=5,
                    max=45,
                    step=4,
                    tooltip="Frames of a segment that the next one goes on from; 13 is trained.",
                    **FOLDED,
                ),
                io.Int.Input(
                    "reference_position",
                    default=10,
                    min=-30,
                    max=60,
                    tooltip="Where in time the portrait stands: 0 to 24 keep the likeness, 30 or -10 repeat less.",
                    **FOLDED,
                ),
                io.Int.Input(
                    "skip_range",
                    default=3,
                    min=0,
                    max=10,
                    tooltip="Latents around that place that do not see the portrait, against repeated movements.",
                    **FOLDED,
                ),
                io.Int.Input(
                    "blocks_on_cpu",
                    default=-1,
                    min=-1,
                    max=48,
                    tooltip="Blocks of the model that wait in CPU memory. -1: as few as have to.",
                    **FOLDED,
                ),
                io.MultiType.Input(
                    "decoder",
                    types=[AvatarDecoder, io.Vae],
                    optional=True,
                    tooltip="From LiveAvatar Load Fast Decoder: faster than the VAE, and softer.",
                ),
            ],
            outputs=[AvatarStreamType.Output(display_name="stream")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Settings that do not go together are refused when the workflow is queued, not once the models are loaded."""
        super().check(values)
        names = ("steps", "overlap", "skip_range")
        SamplingConfig(distilled=False, **{name: values[name] for name in names if name in values})

    @classmethod
    def execute(
        cls,
        longcat: LongCatModel,
        vae,
        positive,
        speech: Speech | LiveSpeech,
        seed: int,
        steps: int,
        text_guidance: float,
        audio_guidance: float,
        max_seconds: float,
        negative=None,
        distilled: str = "auto",
        overlap: int = 13,
        reference_position: int = 10,
        skip_range: int = 3,
        blocks_on_cpu: int = -1,
        decoder=None,
    ) -> io.NodeOutput:
        few = longcat.distilled if distilled == "auto" else distilled == "yes"
        config = SamplingConfig(
            steps=steps,
            distilled=few,
            shift=longcat.architecture.version.shift,
            text_guidance=text_guidance,
            audio_guidance=audio_guidance,
            overlap=overlap,
            reference_position=reference_position,
            skip_range=skip_range,
            uniform_tail=not few,  # as the model's authors sample
            seed=seed,
        )
        inputs = Inputs(
            longcat,
            vae_from_host(vae),
            read(positive),
            speech,
            None if negative is None else read_prompt(negative),
            None if decoder is None else decoder_from_host(decoder),
        )
        stream = open_video(
            inputs,
            config,
            max_seconds,
            None if blocks_on_cpu < 0 else blocks_on_cpu,
            check_interrupt=check_interrupt,
            say=partial(show_text, hidden=cls.hidden),
        )
        return io.NodeOutput(stream)
