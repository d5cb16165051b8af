"""Where the latents of a segment stand in time, and which of them see which."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from ..parts.wan.rope import RotaryEmbedding, Rotation


@dataclass(frozen=True)
class Layout:
    """Clean latents in front of noisy ones.

    The clean ones are the reference, where there is one, and what the noisy ones go on from: the picture, or
    the end of the segment before. The reference sees itself only, the other clean latents see each other, and the noisy
    ones see everything but, in the skip range, the reference.

    Attributes:
        rows, columns: tokens of a latent.
        clean: clean latents, the reference included; 0 makes a video from text.
        noisy: latents that are denoised.
        position: the reference's position in time; None without a reference.
        skip: half the width of the skip range, in latents; 0: none.
    """

    rows: int
    columns: int
    clean: int
    noisy: int
    position: int | None = None
    skip: int = 0

    def __post_init__(self) -> None:
        if self.position is None and self.clean > 1:
            raise ValueError(
                f"Give a reference: only with it a segment goes on from {self.clean} clean latents."
            )
        if self.position is not None and self.clean < 2:
            raise ValueError("Give clean latents beside the reference to go on from.")

    @property
    def tokens(self) -> int:
        """Tokens of a latent."""
        return self.rows * self.columns

    @property
    def references(self) -> int:
        """Reference latents, 0 or 1."""
        return 0 if self.position is None else 1

    @property
    def clean_groups(self) -> list[slice]:
        """Clean tokens that see each other, and nothing else."""
        end, border = self.clean * self.tokens, self.references * self.tokens
        return [group for group in (slice(0, border), slice(border, end)) if group.start < group.stop]

    @property
    def skipped(self) -> range:
        """Noisy latents that do not see the reference: the whole skip range or none, as the model was trained."""
        if self.position is None or self.skip == 0:
            return range(0)
        middle = self.position - self.clean + self.references
        first, last = middle - self.skip, middle + self.skip + 1
        return range(first, last) if first >= 0 and last <= self.noisy else range(0)

    @property
    def noisy_groups(self) -> list[tuple[slice, slice]]:
        """Noisy tokens, and which of all tokens, clean and noisy, they see."""
        skipped, border = self.skipped, self.references * self.tokens
        edges = [0, skipped.start * self.tokens, skipped.stop * self.tokens, self.noisy * self.tokens]
        starts = [0, border, 0]
        groups = zip(pairwise(edges), starts, strict=True)
        return [(slice(first, last), slice(start, None)) for (first, last), start in groups if first < last]

    def clean_rotation(self, rope: RotaryEmbedding, device: torch.device) -> Rotation:
        """Rotations of the clean tokens: the reference at its position, the others from 0 on."""
        reference = [] if self.position is None else [self.position]
        return self._rotation(rope, [*reference, *range(self.clean - self.references)], device)

    def noisy_rotation(self, rope: RotaryEmbedding, device: torch.device) -> Rotation:
        """Rotations of the noisy tokens, which follow the clean ones."""
        first = self.clean - self.references
        return self._rotation(rope, range(first, first + self.noisy), device)

    def _rotation(self, rope: RotaryEmbedding, times: list[int] | range, device: torch.device) -> Rotation:
        return rope.grid(times, range(self.rows), range(self.columns), device)
