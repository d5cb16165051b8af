"""Copies that run beside the computation: what is needed next travels to the GPU while something else is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


class Lane:
    """A queue of work beside the one in which the device computes; on a CPU everything happens at once.

    Args:
        urgent: the GPU prefers its work to what it was told elsewhere.
    """

    def __init__(self, device: torch.device, urgent: bool = False) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device, priority=-int(urgent)) if device.type == "cuda" else None

    def working(self) -> AbstractContextManager:
        """Inside this, work goes to the lane; it starts after all computation asked for before."""
        if self.stream is None:
            return nullcontext()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        return torch.cuda.stream(self.stream)

    def mark(self) -> Any:
        """A point in the lane, after all work asked for before; None on a CPU."""
        return None if self.stream is None else self.stream.record_event()

    def wait(self, mark: Any) -> None:
        """Let the lane's later work wait for a point in another lane."""
        if mark is not None:
            self.stream.wait_event(mark)

    def computation_waits(self, mark: Any) -> None:
        """Let later computation wait for a point in the lane."""
        if mark is not None:
            torch.cuda.current_stream(self.device).wait_event(mark)

    def finish(self) -> None:
        """Wait here until all of it is done."""
        if self.stream is not None:
            self.stream.synchronize()

    def uses(self, *tensors: Tensor) -> None:
        """Keep the memory of GPU tensors from being given away while the lane may still work on it."""
        if self.stream is not None:
            for tensor in tensors:
                tensor.record_stream(self.stream)


class Crossing:
    """The way of tensors from one device to another, beside what both compute; on a CPU everything happens at once.

    An ordinary copy between two GPUs waits for all that either was told to compute before.
    """

    def __init__(self, source: torch.device, target: torch.device) -> None:
        self._target = target
        apart = source.type == target.type == "cuda" and source != target
        self._lanes = (Lane(source), Lane(target)) if apart else None

    def send(self, x: Tensor) -> tuple[Tensor, Any]:
        """``x`` on its way, and a mark for `arrive`; call it where ``x`` was computed."""
        if self._lanes is not None:
            leaving, coming = self._lanes
            with leaving.working():
                leaving.uses(x)
                with torch.cuda.stream(coming.stream):
                    return x.to(self._target, non_blocking=True), coming.mark()
        x = x.to(self._target)
        return x, torch.cuda.current_stream(x.device).record_event() if x.is_cuda else None


def arrive(x: Tensor, mark: Any) -> Tensor:
    """What a `Crossing` sent, for computation that is asked for from now on here, where it lies."""
    if mark is not None:
        stream = torch.cuda.current_stream(x.device)
        stream.wait_event(mark)
        x.record_stream(stream)
    return x


class Prefetcher:
    """Fills a few buffers in turn with the items that are needed next.

    Args:
        buffers: how many there are; `fill` is told which one to use.
        fill: (buffer, item) -> None, copies an item into a buffer; runs in the lane.
        following: which item is needed after a given one.
    """

    def __init__(
        self,
        lane: Lane,
        buffers: int,
        fill: Callable[[int, Any], None],
        following: Callable[[Any], Hashable],
    ) -> None:
        self.lane, self._fill, self._following = lane, fill, following
        self._free = deque(range(buffers))
        self._coming: deque[tuple[Hashable, int, Any]] = deque()
        self._taken: tuple[Hashable, int] | None = None

    def take(self, item: Hashable) -> int:
        """The buffer that holds ``item``, for computation asked for from now on; ends the use of the one before.

        An item that was not expected is fetched now, and what was on its way is forgotten.
        """
        if self._taken is not None:
            if self._taken[0] == item:
                return self._taken[1]
            self.release()
        if not self._coming or self._coming[0][0] != item:
            self._free.extend(buffer for _, buffer, _ in self._coming)
            self._coming.clear()
            self._fetch(item)
        _, buffer, mark = self._coming.popleft()
        self.lane.computation_waits(mark)
        self._taken = item, buffer
        self._fetch_following(item)
        return buffer

    def release(self) -> None:
        """The taken buffer has been read by all computation asked for so far; the next copy may go there."""
        if self._taken is not None:
            item, buffer = self._taken
            self._taken = None
            self._free.append(buffer)
            self._fetch_following(item)

    def _fetch_following(self, item: Hashable) -> None:
        last = self._coming[-1][0] if self._coming else item
        while self._free:
            last = self._following(last)
            self._fetch(last)

    def _fetch(self, item: Hashable) -> None:
        buffer = self._free.popleft()
        with self.lane.working():
            self._fill(buffer, item)
        self._coming.append((item, buffer, self.lane.mark()))
