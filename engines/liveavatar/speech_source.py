"""Where the features of a video's speech come from, block by block."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from .speech_timing import block_features

Features = Generator[Tensor, None, None]


def nothing() -> None:
    """The callback of who has nothing to do."""


class SpeechSource(Protocol):
    """Features of the speech of one or several people, for one block of video frames after the other.

    Attributes:
        speakers: how many people speak.
        layers, dim: hidden layers of the audio encoder, and their width.
    """

    speakers: int
    layers: int
    dim: int

    def blocks(self, first: int = 0, after_encoding: Callable[[], None] = nothing) -> Features:
        """Features of block ``first`` and of every one behind it, [speakers, layers, dim, 12] each.

        Every call is a pass of its own; close it when it is abandoned. Speech of known length gives blocks
        without an end; live speech gives its last block and stops. ``after_encoding`` is called after each time
        that the audio encoder was on the computing device, where it may have taken the place of other models.
        """
        ...

    def take_back(self, wait: Callable[[], None]) -> bool:
        """Whether the block that was given last is void: silence in whose place live speech has arrived, or speech that
        was called off. The pass gives the same block anew then. To be asked only while nobody has seen it. ``wait`` is
        called first where this is possible, so that the device has done what it was told and the answer is not given
        long before.
        """
        ...


class Recorded:
    """What all `SpeechSource`s of speech that was said before have in common."""

    def take_back(self, wait: Callable[[], None]) -> bool:
        """Never: nothing arrives."""
        return False


@dataclass(frozen=True)
class Tracks(Recorded):
    """Speech that is encoded already: per speaker a track [layers, length, dim] of 30 features per second."""

    tracks: list[Tensor]

    @property
    def speakers(self) -> int:
        return len(self.tracks)

    @property
    def layers(self) -> int:
        return self.tracks[0].shape[0]

    @property
    def dim(self) -> int:
        return self.tracks[0].shape[2]

    def blocks(self, first: int = 0, after_encoding: Callable[[], None] = nothing) -> Features:
        """As in `SpeechSource`; after the tracks' end the features are zero, as in the reference."""
        while True:
            yield block_features(self.tracks, first)
            first += 1
