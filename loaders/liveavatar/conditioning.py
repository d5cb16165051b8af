"""Portrait and pose inside ComfyUI's CONDITIONING, under the names that the host's own S2V nodes use.

Latents in a CONDITIONING are raw, as the host's VAE gives them; the engine's are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from ...engines.parts.wan.geometry import SPATIAL_STRIDE

if TYPE_CHECKING:
    from ...engines.parts.wan.vae import WanVAE

LATENT_CHANNELS = 16
REFERENCE, MOTION, POSE = "reference_latents", "reference_motion", "control_video"

Conditioning = list[list[Any]]


@dataclass(frozen=True)
class Condition:
    """The content of a CONDITIONING for the sampler; latents are raw.

    ``context`` [tokens, text_dim], ``reference`` [1, 16, 1, h, w], ``motion`` [1, 16, frames, h, w], ``pose``
    [1, 16, frames, h, w] or None.
    """

    context: Tensor
    reference: Tensor
    motion: Tensor
    pose: Tensor | None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the video in pixels."""
        height, width = self.reference.shape[-2:]
        return height * SPATIAL_STRIDE, width * SPATIAL_STRIDE


def with_reference(positive: Conditioning, vae: WanVAE, reference: Tensor, motion: Tensor) -> Conditioning:
    """The prompt with a portrait and its motion history (normalised latents) added."""
    return with_values(
        positive,
        {REFERENCE: [vae.denormalise(reference).cpu()], MOTION: vae.denormalise(motion).cpu()},
    )


def with_pose(positive: Conditioning, vae: WanVAE, pose: Tensor) -> Conditioning:
    """The prompt with the latents of a pose video (normalised) added."""
    return with_values(positive, {POSE: vae.denormalise(pose).cpu()})


def picture_size(positive: Conditioning) -> tuple[int, int]:
    """Height and width in pixels of the portrait in a CONDITIONING; ValueError when it has none."""
    return read(positive).size


def read(positive: Conditioning) -> Condition:
    """The sampler's part of a CONDITIONING; ValueError, saying which node is missing, when it is not there."""
    context, values = single_prompt(positive)
    if not values.get(REFERENCE) or values.get(MOTION) is None:
        raise ValueError("The prompt has no portrait; connect it through LiveAvatar Reference Image first.")
    reference = values[REFERENCE][-1]
    found = {"portrait": reference, "history": values[MOTION], "pose video": values.get(POSE)}
    for name, latents in found.items():
        if latents is not None:
            _check_latents(name, latents, reference)
    return Condition(context, reference, values[MOTION], values.get(POSE))


def read_prompt(conditioning: Conditioning) -> Tensor:
    """The text embedding of a prompt alone [tokens, text_dim]; errors as in `single_prompt`."""
    return single_prompt(conditioning)[0]


def single_prompt(conditioning: Conditioning) -> tuple[Tensor, dict[str, Any]]:
    """The text embedding [tokens, text_dim] of a CONDITIONING and what is beside it; ValueError unless it is one
    prompt, of numbers."""
    if len(conditioning) != 1:
        raise ValueError(
            f"Connect a single text encode: the prompt consists of {len(conditioning)} parts, and only one is taken."
        )
    context, values = conditioning[0]
    if not context.isfinite().all():
        raise ValueError("Check the text encoder: its prompt holds NaN or infinite values.")
    return context[0], values


def check_width(prompt: Tensor, expected: int) -> None:
    """ValueError for a text embedding [tokens, text_dim] of another text encoder than the model reads."""
    if prompt.shape[-1] != expected:
        raise ValueError(
            f"Use the UMT5-XXL text encoder: the prompt was encoded {prompt.shape[-1]} wide, the model expects "
            f"{expected}."
        )


def _check_latents(name: str, latents: Any, reference: Tensor) -> None:
    """ValueError unless latents are Wan 2.1's, of one video, of the portrait's size, and numbers."""
    shape = list(getattr(latents, "shape", ()))
    if len(shape) != 5 or shape[:2] != [1, LATENT_CHANNELS] or shape[3:] != list(reference.shape[3:]):
        raise ValueError(
            f"The {name} in the prompt is {shape or type(latents).__name__}, not latents of one Wan 2.1 video of the "
            "portrait's size; connect the prompt through LiveAvatar Reference Image."
        )
    if not latents.isfinite().all():
        raise ValueError(
            f"The {name} in the prompt holds NaN or infinite values; encode it anew with another VAE or precision."
        )


def with_values(positive: Conditioning, values: dict[str, Any]) -> Conditioning:
    """A prompt with more beside its text."""
    return [[context, {**options, **values}] for context, options in positive]
