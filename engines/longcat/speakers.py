"""Several speakers: who of them a part of the picture belongs to, found by what it looks at in the first latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..parts.attention.product import attention
from ..parts.wan.rope import BASE, Rotation
from .config import LongCatConfig

MOST_WITH_MIDDLE = 3
"""Up to so many masks the background stands in the middle between two speakers, with more far from both."""
FAR = 100.0
BACKGROUND = 3
"""The number of its mask, which may be empty."""


@dataclass(frozen=True)
class Speakers:
    """Where speakers are in the first latent, and how far apart the model places their voices.

    Attributes:
        masks: per class and token of the first latent, 0 or 1, float32 [classes, tokens]: two speakers, the background,
            then further people.
        tracks: how many voices are heard.
        span: the model's ``class_range``.
        width: its ``class_interval``: positions that a speaker's tokens are spread over.
    """

    masks: Tensor
    tracks: int
    span: int
    width: int

    @property
    def background(self) -> float:
        return self.span / 2 if len(self.masks) <= MOST_WITH_MIDDLE else FAR

    def attention_map(self, q: Tensor, keys: Tensor) -> Tensor:
        """How much of what each noisy token looks at in the first latent belongs to each class: float32 [classes, noisy
        tokens], the mean over a mask's tokens and all heads.

        Args:
            q: rotated queries of the noisy tokens [1, noisy tokens, heads, head_dim].
            keys: rotated keys of the first latent [1, tokens, heads, head_dim].
        """
        # An attention whose values are the masks; kernels want values as wide as keys.
        masks = F.pad(self.masks, (0, 0, 0, keys.shape[-1] - len(self.masks))).to(keys)
        looked = attention(q, keys, masks.t()[None, :, None].expand_as(keys).contiguous())
        seen = looked[0, :, :, : len(self.masks)].float().mean(1).t()
        # No token is the background's where the speakers fill the picture.
        return seen / self.masks.sum(1, keepdim=True).clamp(min=1)

    def rotations(self, q: Tensor, keys: Tensor, tokens: int) -> tuple[Rotation, Rotation]:
        """Rotations by class of the noisy tokens, and of the ``tokens`` keys of each track, in this order."""
        seen = self.attention_map(q, keys)
        return (
            axis_rotation(self._positions(seen), q.shape[-1]),
            axis_rotation(self._track_positions(tokens).to(q.device), q.shape[-1]),
        )

    def _positions(self, seen: Tensor) -> Tensor:
        """The positions of the noisy tokens [noisy tokens] for their attention map."""
        owner = seen.argmax(0)
        positions = torch.full_like(seen[0], self.background)
        for speaker, first in enumerate((0, self.span - self.width)):
            low, high = seen[speaker].min(), seen[speaker].max()
            spread = first + self.width * (seen[speaker] - low) / (high - low + 1e-8)
            positions = torch.where(owner == speaker, spread, positions)
        return positions

    def _track_positions(self, tokens: int) -> Tensor:
        places = [self.width / 2, self.span - self.width / 2]
        places += [self.background] * (self.tracks - len(places))
        return torch.tensor(places).repeat_interleave(tokens)


def speakers(masks: Tensor, tracks: int, rows: int, columns: int, config: LongCatConfig) -> Speakers:
    """The speakers of a picture.

    Args:
        masks: [classes, H, W] in the video's size: two speakers, the background, then further people; see `fit_masks`.
        tracks: voices; the third and further ones are nobody's in particular.
        rows, columns: tokens of a latent.

    Raises:
        ValueError: a person's mask is empty on the token grid, or there are fewer masks than the voices need.
    """
    if len(masks) < 3 or tracks < 2:
        raise ValueError(
            f"Give two speakers' masks and the background's for two voices or more: there are {len(masks)} masks "
            f"and {tracks} voices."
        )
    if len(masks) > config.head_dim:
        raise ValueError(f"Give at most {config.head_dim} masks: there are {len(masks)}.")
    grid = token_masks(masks, rows, columns)
    for number, mask in enumerate(grid, 1):
        if number != BACKGROUND and not mask.any():
            raise ValueError(
                f"Make mask {number} larger: it covers no part of the picture that the model sees."
            )
    return Speakers(grid.flatten(1), tracks, config.class_range, config.class_interval)


def fit_masks(masks: Tensor, height: int, width: int) -> Tensor:
    """Masks [classes, H, W] made to cover the video's size and cropped to its middle, float32 [classes, height,
    width]."""
    scale = max(height / masks.shape[1], width / masks.shape[2])
    # The side that fits exactly must not lose a pixel to rounding.
    size = [
        max(int(scale * side), wanted) for side, wanted in zip(masks.shape[1:], (height, width), strict=True)
    ]
    fitted = F.interpolate(masks.float()[None], size=size, mode="bilinear", align_corners=False)[0]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    return fitted[:, top : top + height, left : left + width]


def token_masks(masks: Tensor, rows: int, columns: int) -> Tensor:
    """Masks [classes, H, W] sampled at the tokens, 0 or 1, float32 [classes, rows, columns]."""
    return (F.interpolate(masks.float()[None], size=(rows, columns), mode="nearest")[0] > 0).float()


def axis_rotation(positions: Tensor, head_dim: int) -> Rotation:
    """Rotations over a head's full width for positions [tokens] on one axis."""
    pairs = head_dim // 2
    frequencies = BASE ** (-torch.arange(pairs, dtype=torch.float64, device=positions.device) / pairs)
    angles = (positions.double()[:, None] * frequencies).float()
    return angles.cos(), angles.sin()
