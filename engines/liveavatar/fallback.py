"""Going on after the device ran out of memory, from the block that failed: tidied up, then with caches elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch

from ..gpu.tidy import give_back
from ..parts.kv.cache import CacheFormat
from ..parts.wan.streaming import StreamingDecoder
from .sampler import BlockSampler

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

WITHOUT_GRAPHS = (
    "The GPU's memory ran out: from this block on there are no CUDA graphs, which take some of it."
)


class Fallback:
    """Does a generation's work, and again after the device ran out of memory: first with what nobody uses given back,
    then with one step's cache in CPU memory, then with all of them there.

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
        for count in (0, 1, None):
            before = None if self._decoder is None else self._decoder.snapshot()
            try:
                yield from begin(*args)
                return
            except torch.OutOfMemoryError:
                done = self._sampler is None or self._sampler.caches_on_cpu
                if count != 0 and done:
                    raise
            # Outside of the except clause, where the failed work's tensors are gone.
            if self._sampler is not None:
                if self._sampler.replays:
                    self._say(WITHOUT_GRAPHS)
                self._sampler.drop_unfinished()
            self._make_room(count)
            if before is not None:
                self._decoder.rewind(before)
        yield from begin(*args)

    def _make_room(self, count: int | None) -> None:
        """Give memory back that is reserved but not in use: on a full GPU there may be gigabytes between what is. Then
        move the caches of ``count`` more steps, or all."""
        give_back()
        if count == 0:
            logger.info("The GPU's memory ran out and was tidied up; the work is done once more.")
            return
        self._sampler.move_caches_to_cpu(self._format, count)
        what = "the caches wait" if count is None else "a step's cache waits"
        self._say(f"The GPU's memory ran out: from this block on {what} in CPU memory, which is slower.")
