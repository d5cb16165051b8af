"""Going on after the device ran out of memory: with smaller caches, from the block that failed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from ..parts.wan.streaming import StreamingDecoder
from .sampler import BlockSampler

Result = TypeVar("Result")


class Fallback:
    """Does a generation's work, and once more after it ran out of memory: then the caches wait in CPU memory.

    Args:
        int8: let them be stored in 8 bits then, if they are not.
        say: told in one sentence what happened.
    """

    def __init__(
        self, sampler: BlockSampler, decoder: StreamingDecoder, int8: bool, say: Callable[[str], None]
    ) -> None:
        self._sampler, self._decoder, self._int8, self._say = sampler, decoder, int8, say

    def __call__(self, work: Callable[[], Result]) -> Result:
        """What ``work`` returns, such as the decoder's next pixels; errors as in `each`."""
        (result,) = self.each(lambda: [work()])
        return result

    def each(self, begin: Callable[[], Iterable[Result]]) -> Iterator[Result]:
        """All that ``begin`` gives, such as the sampler's steps of a block; if memory runs out, what it gives when
        asked again.

        Raises:
            torch.OutOfMemoryError: it failed again, or there is nothing left to make smaller.
        """
        before = dict(vars(self._decoder))  # it replaces its state, and never changes it
        try:
            yield from begin()
            return
        except torch.OutOfMemoryError:
            if self._sampler.caches_on_cpu:
                raise
        # Outside of the except clause, where the failed work's tensors are gone.
        gc.collect()
        if self._sampler.device.type == "cuda":
            torch.cuda.empty_cache()
        self._sampler.move_caches_to_cpu(self._int8)
        vars(self._decoder).update(before)
        self._say(
            "The GPU's memory ran out: from this block on the caches wait in CPU memory, which is slower."
        )
        yield from begin()
