"""Blocks are decoded on several devices in turn, so that these have equally much to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache

import torch
from torch import Tensor

from ..gpu.chain import on
from ..gpu.lanes import Lane, arrive
from ..gpu.turns import Turn, Turns
from ..parts.planning.sharing import Share
from ..parts.wan.streaming import LatentDecoder, StreamingDecoder
from .decoding import decode_block
from .fallback import Fallback


def decoders(loaded: LatentDecoder, shares: Iterable[Share]) -> list[LatentDecoder]:
    """The loaded one, and a copy for every other device whose share of the work has decoding in it."""
    return [loaded, *(loaded.on(s.device) for s in shares if s.decodes and s.device is not None)]


class Relay:
    """Decodes each block on the next device, beside what that computes.

    The past of the stream goes along: 1.3 GB of Wan's VAE at 704x384, which takes 4 ms between two H200.

    Args:
        decoder: of the video, primed, on the device of the first of ``vaes``.
        vaes: decoders of the same weights, each on a device of its own. One that has no room is passed over from then
            on.
        attempt: goes on when a device runs out of memory.
        say: told in one sentence when one is passed over.
    """

    def __init__(
        self,
        decoder: StreamingDecoder,
        vaes: Sequence[LatentDecoder],
        attempt: Fallback,
        turns: Turns,
        say: Callable[[str], None],
    ) -> None:
        self._decoder, self._attempt, self._say = decoder, attempt, say
        self._places = [(vae, Turn(turns, vae.device)) for vae in vaes]
        self._lanes = [_lane(vae.device) for vae in vaes]
        for lane in self._lanes:
            with lane.working():  # after the weights have come, and the past
                lane.uses(*(x for x in decoder.state().values() if x.device == lane.device))

    def __call__(self, block: int, latents: Tensor, mark: object) -> Callable[[], Tensor]:
        """Begin to decode latents [1, 16, 3, h, w], which arrive with ``mark``; the answer waits for the uint8 frames
        [F, H, W, 3] on the CPU."""
        before = self._decoder.snapshot()
        while True:
            vae, turn = self._places[block % len(self._places)]
            try:
                with self._beside(vae.device), turn.taken(block):
                    self._decoder.go_to(vae)
                    here = arrive(latents, mark).to(vae.device, non_blocking=True)
                    return self._attempt(decode_block, self._decoder, block, here)
            except torch.OutOfMemoryError:
                if len(self._places) == 1:
                    raise
            self._places.remove((vae, turn))
            self._decoder.rewind(before)
            self._say(f"{vae.device} has no room to decode: from this block on the other GPUs do.")

    @contextmanager
    def _beside(self, device: torch.device) -> Iterator[None]:
        """Inside this, all devices work in their lanes, and ``device`` is the current one."""
        with ExitStack() as lanes:
            for lane in self._lanes:
                if lane.stream is not None:
                    lanes.enter_context(torch.cuda.stream(lane.stream))
            lanes.enter_context(on(device))
            yield


@cache
def _lane(device: torch.device) -> Lane:
    """One for all runs, since PyTorch keeps memory for every stream. Not the one in which speech is encoded, which
    would wait for the pictures. Urgent, since the oldest block holds up the others and their steps fill a GPU."""
    return Lane(device, urgent=True)
