"""Sizes and settings of the PersonaLive networks and of the stream, as typed configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

LATENT_SCALE = 0.18215  # fixed by the model, whatever a VAE's own config says
VAE_STRIDE = 8
MOTION_TOKENS = 32
MOTION_WIDTH = 16
FACE_SIZE = 224  # pixels on each side of what the motion encoder sees


@dataclass(frozen=True)
class UNetConfig:
    """The part of a Stable Diffusion 1.x UNet's ``config.json`` that decides shapes."""

    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    layers_per_block: int = 2
    attention_head_dim: int = 8  # the number of heads at every level, despite its name
    cross_attention_dim: int = 768
    in_channels: int = 4
    out_channels: int = 4
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    motion_width: int = MOTION_WIDTH
    module_heads: int = 8
    position_length: int = 32

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> UNetConfig:
        """Read a diffusers UNet config; ValueError when it describes another kind of UNet."""
        for key in (
            "use_linear_projection",
            "class_embed_type",
            "addition_embed_type",
            "only_cross_attention",
        ):
            if config.get(key):
                raise ValueError(f"PersonaLive needs a Stable Diffusion 1.x UNet, but its config sets {key}.")
        known = {f.name for f in fields(cls)}
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in config.items() if k in known}
        if not isinstance(values.get("attention_head_dim", 8), int):
            raise ValueError(
                "PersonaLive needs a UNet with one number of heads (attention_head_dim) at every level."
            )
        return cls(**values)

    def diffusers(self) -> dict[str, Any]:
        """Arguments of ``diffusers.UNet2DConditionModel`` for the same base network."""
        own = {"motion_width", "module_heads", "position_length"}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in own}


@dataclass(frozen=True)
class MotionEncoderConfig:
    """Width of the patch transformers inside the motion encoder; its convolutions have one size only."""

    heads: int = 8
    head_width: int = 128


@dataclass(frozen=True)
class PoseGuiderConfig:
    """Channels of the convolutions that turn a keypoint drawing into pose features."""

    channels: tuple[int, ...] = (16, 32, 96, 256)
    out_channels: int = 320


@dataclass(frozen=True)
class SchedulerConfig:
    """The noise schedule (a DDIM variant; beta_end is not Stable Diffusion's)."""

    beta_start: float = 0.00085
    beta_end: float = 0.02
    train_steps: int = 1000


@dataclass(frozen=True)
class StreamConfig:
    """Settings of a stream; ValueError for values that do not go together.

    Attributes:
        steps: denoising passes that every frame sees, a multiple of ``piles``.
        piles, chunk: the window holds ``piles`` noise levels of ``chunk`` frames each (4 x 4 in the trained model).
        keyframe_threshold: distance of motion tokens above which a frame is new enough to be remembered.
        max_keyframes: most frames that are remembered (each costs attention); 0 switches them off.
        keyframe_after: number of chunks before the first one can be remembered.
        motion_strength, pose_strength: 1 follows the driving video, 0 keeps the portrait's own expression or pose.
    """

    steps: int = 4
    piles: int = 4
    chunk: int = 4
    keyframe_threshold: float = 17.0
    max_keyframes: int = 3
    keyframe_after: int = 9
    motion_strength: float = 1.0
    pose_strength: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < self.piles or self.steps % self.piles:
            raise ValueError(f"steps must be a multiple of {self.piles}, but it is {self.steps}.")
        if self.max_keyframes < 0:
            raise ValueError(f"max_keyframes must be 0 or more, but it is {self.max_keyframes}.")

    @property
    def window(self) -> int:
        """Frames the denoising UNet sees at once."""
        return self.piles * self.chunk

    @property
    def ramp(self) -> int:
        """Frames between the portrait and the first driving frame."""
        return self.window - self.chunk
