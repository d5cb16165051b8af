"""Going on after the device ran out of memory: with smaller caches, from the block that failed."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from ..parts.kv.cache import CacheFormat
from ..parts.wan.streaming import StreamingDecoder
from .sampler import BlockSampler

Result = TypeVar("Result")


class Fallback:
    """Does a generation's work, and once more after the device ran out of memory: then the caches wait in CPU memory.

    Args:
        sampler: whose caches are moved; None where there are none.
        decoder: goes back to where it was; None where there is none.
        format: how caches in the model's format are kept then; see `BlockSampler.move_caches_to_cpu`.
        say: told in one sentence what happened.
    """

    def __init__(
        self,
        sampler: BlockSampler | None,
        decoder: StreamingDecoder | None,
        format: CacheFormat,
        say: Callable[[str], None],
    ) -> None:
        self._sampler, self._decoder, self._format, self._say = sampler, decoder, format, say

    def __call__(self, work: Callable[..., Result], *args: Any) -> Result:
        """What ``work`` returns for ``args``, such as a block's frames; errors as in `each`."""
        (result,) = self.each(lambda: [work(*args)])
        return result

    def each(self, begin: Callable[..., Iterable[Result]], *args: Any) -> Iterator[Result]:
        """All that ``begin`` gives for ``args``, such as the sampler's steps of a block; if memory runs out, what it
        gives when asked again.

        Raises:
            torch.OutOfMemoryError: it failed again, or there is nothing left to make smaller.
        """
        before = None if self._decoder is None else self._decoder.snapshot()
        try:
            yield from begin(*args)
            return
        except torch.OutOfMemoryError:
            if self._sampler is None or self._sampler.caches_on_cpu:
                raise
        # Outside of the except clause, where the failed work's tensors are gone.
        gc.collect()
        if self._sampler.device.type == "cuda":
            torch.cuda.empty_cache()
        self._sampler.move_caches_to_cpu(self._format)
        if before is not None:
            self._decoder.rewind(before)
        self._say(
            "The GPU's memory ran out: from this block on the caches wait in CPU memory, which is slower."
        )
        yield from begin(*args)
