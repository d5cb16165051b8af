"""Typed configurations of LongCat-Video-Avatar: the network, what its versions differ in, and a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..parts.wan.geometry import SPATIAL_STRIDE, TEMPORAL_STRIDE

SIZE_MULTIPLE = 2 * SPATIAL_STRIDE
"""Widths and heights are multiples of this: VAE 8, patches 2."""
EPS = 1e-6
"""Added to the variance by all norms but that of the audio tokens."""


@dataclass(frozen=True)
class Version:
    """What a published version was trained with.

    Attributes:
        fps: video frames per second.
        stride: speech features per video frame.
        shift: timestep shift of the schedule.
        old_latents: a continuation sees the latents of the segment before; else its last frames, encoded again.
        distilled_steps: steps with the distillation LoRA.
    """

    name: str
    fps: int
    stride: int
    shift: float
    old_latents: bool
    distilled_steps: int


VERSIONS = {
    12: Version("1.0", fps=16, stride=2, shift=12.0, old_latents=True, distilled_steps=16),
    5: Version("1.5", fps=25, stride=1, shift=7.0, old_latents=False, distilled_steps=8),
}
"""By the groups of speech features: wav2vec2's 12 layers, or 5 means of Whisper's."""


@dataclass(frozen=True)
class LongCatConfig:
    """Architecture of an avatar transformer, with the names of its ``config.json``; the defaults are 1.5's."""

    in_channels: int = 16
    out_channels: int = 16
    hidden_size: int = 4096
    depth: int = 48
    num_heads: int = 32
    caption_channels: int = 4096
    model_max_length: int = 512
    mlp_ratio: int = 4
    adaln_tembed_dim: int = 512
    frequency_embedding_size: int = 256
    text_tokens_zero_pad: bool = True
    audio_window: int = 5
    audio_block: int = 5
    audio_channel: int = 1280
    intermediate_dim: int = 512
    output_dim: int = 768
    context_tokens: int = 32
    vae_scale: int = TEMPORAL_STRIDE
    audio_prenorm: bool = False
    class_range: int = 24
    class_interval: int = 4

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def ffn_dim(self) -> int:
        """Two thirds of the nominal width, up to a multiple of 256."""
        return -(-(2 * self.hidden_size * self.mlp_ratio // 3) // 256) * 256

    @property
    def version(self) -> Version:
        return VERSIONS[self.audio_block]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LongCatConfig:
        """Read a checkpoint's ``config.json``; ValueError when it describes another architecture."""
        kind = values.get("_class_name", "LongCatVideoAvatarTransformer3DModel")
        if kind != "LongCatVideoAvatarTransformer3DModel":
            raise ValueError(f"Choose a LongCat-Video-Avatar checkpoint: this one is a {kind!r:.60}.")
        required = {
            "patch_size": [1, 2, 2],
            "audio_window": 5,
            "vae_scale": TEMPORAL_STRIDE,
            "enable_bsa": False,
        }
        for key, expected in required.items():
            found = values.get(key, expected)
            found = list(found) if isinstance(found, tuple) else found
            if found != expected:
                raise ValueError(
                    f"Choose a published checkpoint: this one's {key} is {found!r:.60}, not {expected!r}."
                )
        known = {field.name for field in fields(cls)}
        config = cls(**{key: value for key, value in values.items() if key in known})
        if config.audio_block not in VERSIONS:
            raise ValueError(
                f"Choose LongCat-Video-Avatar 1.0 or 1.5: this checkpoint hears {config.audio_block} groups of "
                "speech features, those hear 12 and 5."
            )
        if config.hidden_size % config.num_heads or config.head_dim % 2:
            raise ValueError(
                f"Choose another checkpoint: a width of {config.hidden_size} cannot be shared among "
                f"{config.num_heads} heads."
            )
        return config


@dataclass(frozen=True)
class SamplingConfig:
    """Settings of one generation run.

    Attributes:
        steps: denoising steps of a segment.
        distilled: the schedule of the distillation LoRAs, which want no guidance.
        shift: timestep shift; that of the model's `Version`.
        text_guidance, audio_guidance: above 1 in either, a step takes three passes instead of one.
        frames: video frames of a segment, 1 + 4k.
        overlap: frames of a segment that a continuation sees, 1 + 4k.
        reference_position: position in time of the reference latent, counted in latents of the continuation. 0 to 24
            hold the person's likeness; 30 and -10 lie outside and repeat its pose less.
        skip_range: latents that far from that position do not see the reference, against repeated movements. Has
            no effect unless the whole range lies among a continuation's new latents.
        uniform_tail: a continuation ends in ten even steps from timestep 500 on; not with ``distilled``.
        seed: segment ``n`` draws its noise from ``seed + n``.
    """

    steps: int = 8
    distilled: bool = True
    shift: float = 7.0
    text_guidance: float = 1.0
    audio_guidance: float = 1.0
    frames: int = 93
    overlap: int = 13
    reference_position: int = 10
    skip_range: int = 3
    uniform_tail: bool = False
    seed: int = 42

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 50:
            raise ValueError(f"Set steps to 1 to 50: it is {self.steps}.")
        if not self.shift > 0:
            raise ValueError(f"Set shift to more than 0 (12 for version 1.0, 7 for 1.5): it is {self.shift}.")
        for name, value in (("frames", self.frames), ("overlap", self.overlap)):
            if value < 1 or (value - 1) % TEMPORAL_STRIDE:
                raise ValueError(f"Set {name} to 1 + 4k (93 and 13 were trained): it is {value}.")
        if self.overlap >= self.frames:
            raise ValueError(
                f"Set overlap below the {self.frames} frames of a segment: with {self.overlap} nothing is new."
            )
        if self.skip_range < 0:
            raise ValueError(f"Set skip_range to 0 or more: it is {self.skip_range}.")
        if self.uniform_tail and self.distilled:
            raise ValueError("Turn uniform_tail off: a distilled schedule has steps of its own.")

    @property
    def guided(self) -> bool:
        """Whether a step takes three passes."""
        return self.text_guidance > 1 or self.audio_guidance > 1

    @property
    def latents(self) -> int:
        """Latent frames of a segment."""
        return latent_count(self.frames)

    @property
    def overlap_latents(self) -> int:
        """Latent frames that stand for the overlap."""
        return latent_count(self.overlap)

    @property
    def new_frames(self) -> int:
        """Video frames that a continuation adds."""
        return self.frames - self.overlap

    def segments(self, frames: int, continues: bool = False) -> int:
        """Segments of a video of ``frames`` frames, which begins with a segment of its own or ``continues`` another
        video."""
        first = self.new_frames if continues else self.frames
        return 1 + max(0, -(-(frames - first) // self.new_frames))

    def sampled(self, frames: int, continues: bool = False) -> int:
        """New frames of all segments of such a video: the last one may reach beyond its end."""
        first = self.new_frames if continues else self.frames
        return first + (self.segments(frames, continues) - 1) * self.new_frames


def latent_count(frames: int) -> int:
    """Latent frames of 1 + 4k video frames."""
    return 1 + (frames - 1) // TEMPORAL_STRIDE
