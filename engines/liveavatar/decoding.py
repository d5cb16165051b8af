"""Blocks of latents become frames while the next block is sampled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor

from ..gpu.lanes import Lane
from ..gpu.transfer import fetch
from ..parts.wan.streaming import StreamingDecoder, to_uint8_frames
from .condition import PRE_ROLL_FRAMES
from .fallback import Fallback


class Decoding:
    """Decodes one block after the other; at most one is on its way.

    Args:
        decoder: stream over the video's latents, primed.
        attempt: goes on when the device runs out of memory.
        beside: a device beside whose other computation blocks are decoded; None: in turn with it.
    """

    def __init__(self, decoder: StreamingDecoder, attempt: Fallback, beside: torch.device | None) -> None:
        self._decoder, self._attempt = decoder, attempt
        self._lane = lane_beside(beside or torch.device("cpu"))  # there, everything happens at once
        self._lane.uses(*decoder.state().values())
        self._next: tuple[int, Tensor] | None = None
        self._wait: Callable[[], Tensor] | None = None

    def put(self, block: int, latents: Tensor) -> None:
        """Let the block ``block`` with latents [1, 16, 3, h, w] come next; its decoding does not begin yet."""
        self._next = block, latents

    def begin(self) -> None:
        """Begin to decode what was put; errors as in `Fallback.each`."""
        if self._next is not None:
            following, self._next = self._next, None
            self._wait = self._attempt(self._begin, *following)

    def frames(self) -> Iterator[Tensor]:
        """The uint8 frames [F, H, W, 3] on the CPU of the block that is on its way, if there is one; waits for them."""
        self.begin()
        if self._wait is not None:
            wait, self._wait = self._wait, None
            yield wait()

    def _begin(self, block: int, latents: Tensor) -> Callable[[], Tensor]:
        with self._lane.working():
            self._lane.uses(latents)
            return decode_block(self._decoder, block, latents)


def decode_block(decoder: StreamingDecoder, block: int, latents: Tensor) -> Callable[[], Tensor]:
    """Begin to decode the next block, of latents [1, 16, 3, h, w]; the answer waits for its uint8 frames [F, H, W, 3]
    on the CPU."""
    pixels = decoder(latents)
    return fetch(to_uint8_frames(pixels[:, :, PRE_ROLL_FRAMES:] if block == 0 else pixels))


@cache
def lane_beside(device: torch.device) -> Lane:
    """The lane for work beside the sampling; one for all runs, since PyTorch keeps memory for every stream."""
    return Lane(device)
