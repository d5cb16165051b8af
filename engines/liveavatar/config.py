"""Typed configurations of the model and of a sampling run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..parts.wan.geometry import TEMPORAL_STRIDE

FPS = 25
BLOCK_LATENTS = 3
"""Latent frames that are denoised together (LiveAvatar, section 3.2): 12 video frames."""
BLOCK_FRAMES = BLOCK_LATENTS * TEMPORAL_STRIDE
MOTION_FRAMES = 73
"""Frames of motion history the model was trained with: 19 latent frames."""
SIZE_MULTIPLE = 64
"""Widths and heights are multiples of this: VAE 8, patches 2, coarsest motion patches 4."""

FLOAT32_PARTS = ("time_embedding.", "time_projection.", "head.head", "casual_audio_encoder.")
"""Layers that the reference computes in float32 whatever the model's dtype is."""


@dataclass(frozen=True)
class S2VConfig:
    """Architecture of a Wan2.2-S2V transformer; the defaults are the 14B model's."""

    dim: int = 5120
    ffn_dim: int = 13824
    num_heads: int = 40
    num_layers: int = 40
    in_dim: int = 16
    out_dim: int = 16
    cond_dim: int = 16
    freq_dim: int = 256
    text_dim: int = 4096
    text_len: int = 512
    audio_dim: int = 1024
    audio_layers: int = 25
    num_audio_token: int = 4
    audio_inject_layers: tuple[int, ...] = (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)
    eps: float = 1e-6

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> S2VConfig:
        """Read a checkpoint's ``config.json``.

        Raises ValueError when it describes another architecture (a text-to-video model, the old motioner, ...).
        """
        if values.get("model_type", "s2v") != "s2v":
            raise ValueError(
                f"This is a Wan '{values['model_type']}' model; LiveAvatar needs the speech-to-video one "
                "(Wan2.2-S2V, model_type 's2v')."
            )
        required = {
            "patch_size": [1, 2, 2],
            "enable_framepack": True,
            "enable_motioner": False,
            "enable_adain": True,
            "adain_mode": "attn_norm",
            "zero_timestep": True,
            "qk_norm": True,
            "cross_attn_norm": True,
        }
        for key, expected in required.items():
            found = values.get(key, expected)
            found = list(found) if isinstance(found, tuple) else found
            if found != expected:
                raise ValueError(
                    f"The model's config has {key}={found!r}; LiveAvatar supports {expected!r} only."
                )
        known = {f.name for f in fields(cls)}
        chosen = {key: value for key, value in values.items() if key in known}
        if "audio_inject_layers" in chosen:
            chosen["audio_inject_layers"] = tuple(chosen["audio_inject_layers"])
        return cls(**chosen)


@dataclass(frozen=True)
class SamplingConfig:
    """Settings of one generation run.

    Attributes:
        steps: denoising steps per block; the LoRA is distilled for 4 (paper: 2 to 4), at most 50 are accepted.
        shift: timestep shift of the flow-matching schedule.
        seed: clip ``r`` draws its noise from ``seed + r``.
        frames_per_clip: video frames after which the noise is drawn anew and, once, the reference is replaced;
            a multiple of 12. It is also the attention window (current block and those before it).
        sink_distance: how far ahead of the current block, in latent frames, the reference is placed once it
            moves (4 to 30). The reference implementation draws it anew for every forward pass; None does the
            same, from ``seed``, block and step.
        replace_sink: after the first clip the first generated latent frame becomes the reference ("adaptive
            attention sink", section 3.3 of the paper), which keeps long videos from drifting.
        half_precision_rope: round the rotary tables to float16, as the model saw them in training.
        skip_last_step: leave out the last forward pass of every block, which moves the latents by 0.0089 of its flow;
            the step before it goes all the way. What the earlier passes compute stays bit for bit the same, until the
            first generated frame becomes the reference.
        guidance: how much further than without prompt and speech the flow goes with them; Wan2.2-S2V without a LoRA
            wants 20 to 50 steps and 4.5. 1 needs no second evaluation of a step.
    """

    steps: int = 4
    shift: float = 3.0
    seed: int = 42
    frames_per_clip: int = 48
    sink_distance: int | None = 30
    replace_sink: bool = True
    half_precision_rope: bool = True
    skip_last_step: bool = False
    guidance: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= 50:
            raise ValueError(f"steps is {self.steps}; choose 1 to 50 (4 is what the LoRA is made for).")
        if self.forwards < 1:
            raise ValueError(
                "Choose 2 steps or more, or keep the last one: nothing is left of 1 step without it."
            )
        if self.frames_per_clip < BLOCK_FRAMES or self.frames_per_clip % BLOCK_FRAMES:
            raise ValueError(
                f"frames_per_clip is {self.frames_per_clip}; it must be a multiple of {BLOCK_FRAMES} "
                "(48 is what the model was trained with)."
            )
        if self.sink_distance is not None and not 4 <= self.sink_distance <= 30:
            raise ValueError(
                f"sink_distance is {self.sink_distance}; choose 4 to 30, or none for a random one."
            )
        if not self.guidance >= 1:
            raise ValueError(f"Set guidance to 1 or more: it is {self.guidance}.")
        if self.shift <= 0:
            raise ValueError(f"shift is {self.shift}; it must be greater than 0 (3 is the model's).")

    @property
    def forwards(self) -> int:
        """Forward passes per block, each with caches of its own."""
        return self.steps - self.skip_last_step

    @property
    def guided(self) -> bool:
        """Whether every forward pass is done twice."""
        return self.guidance > 1

    @property
    def clip_latents(self) -> int:
        """Latent frames per clip, which is also the length of the rolling key-value window."""
        return self.frames_per_clip // TEMPORAL_STRIDE

    @property
    def clip_blocks(self) -> int:
        return self.clip_latents // BLOCK_LATENTS
