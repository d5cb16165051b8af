"""Work that passes through several threads, each with a device of its own, so that the devices compute at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import torch

_END = object()


class Stopped(Exception):
    """Raised by `Stop.check` in the threads of a chain that is no longer wanted."""


class Stop:
    """Says in every thread of a chain whether it is still wanted."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    @property
    def wanted(self) -> bool:
        """Whether somebody still wants the chain's results."""
        return not self._event.is_set()

    def check(self) -> None:
        """Raise `Stopped` when nobody wants the chain's results any more; ask this often."""
        if not self.wanted:
            raise Stopped


@dataclass(frozen=True)
class Link:
    """A thread of a chain: ``work`` makes of each item what the next link gets, on ``device``."""

    device: torch.device
    work: Callable[[Any], Any]


class Chain:
    """Leads the items of a source through all links, in order; the source is read in a thread of its own.

    The first exception of any thread ends the chain: results that are there come first, then it is raised by `results`;
    the other threads are told by ``stop``. An exception of the source comes after everything that it has given.

    Args:
        source: read when there is room for another item, and closed in the end.
        most: items that may be on their way at once, from when the source is asked until `finished`.
        stop: what the work of the links asks now and then.
    """

    def __init__(
        self, source: Generator[Any, None, None], links: Sequence[Link], most: int, stop: Stop
    ) -> None:
        self._source, self._most, self._stop = source, most, stop
        self._changed = threading.Condition()
        self._under_way, self._held = 0, False
        self._queues: list[SimpleQueue] = [SimpleQueue() for _ in range(len(links) + 1)]
        self._threads = [threading.Thread(target=self._read, name="avatar source", daemon=True)]
        for index, link in enumerate(links):
            name = f"avatar stage {index + 1}"
            self._threads.append(
                threading.Thread(target=self._run, args=(index, link), name=name, daemon=True)
            )
        for thread in self._threads:
            thread.start()

    def results(self) -> Iterator[Any]:
        """What comes out of the last link; the source's end ends it. Call `finished` for each result."""
        while True:
            kind, value = self._queues[-1].get()
            if kind is _END:
                if value is not None:
                    raise value
                return
            yield value

    def finished(self) -> None:
        """A result was used up, so that there is room for another item."""
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def hold(self) -> None:
        """Read nothing more from the source until `go_on`."""
        with self._changed:
            self._held = True

    def go_on(self) -> None:
        """End what `hold` has begun."""
        with self._changed:
            self._held = False
            self._changed.notify_all()

    @property
    def resting(self) -> bool:
        """Whether it is held and nothing is on its way any more, so that no thread touches anything."""
        with self._changed:
            return self._held and self._under_way == 0

    def close(self) -> None:
        """Stop all threads and wait for them; each ends when its work asks ``stop``."""
        self._stop.set()
        with self._changed:
            self._changed.notify_all()
        for queue in self._queues:
            queue.put((_END, None))
        for thread in self._threads:
            thread.join()

    def _read(self) -> None:
        try:
            with torch.inference_mode():
                while self._enter():
                    item = next(self._source, _END)
                    if item is _END:
                        break
                    self._queues[0].put((None, item))
            self._queues[0].put((_END, None))
        except Stopped:
            pass
        except BaseException as error:  # whatever it is, the consumer shall know
            self._queues[0].put((_END, error))
        finally:
            self._source.close()

    def _enter(self) -> bool:
        """Wait for room; False when the chain is no longer wanted."""

        def ready() -> bool:
            return not self._stop.wanted or (not self._held and self._under_way < self._most)

        with self._changed:
            self._changed.wait_for(ready)
            self._under_way += 1
            return self._stop.wanted

    def _run(self, index: int, link: Link) -> None:
        taken, given = self._queues[index], self._queues[index + 1]
        try:
            # Triton launches on the current device, which is each thread's own, as is inference mode.
            with on(link.device), torch.inference_mode():
                while True:
                    kind, item = taken.get()
                    if kind is _END:
                        given.put((_END, item))
                        return
                    self._stop.check()
                    given.put((None, link.work(item)))
                    del item
        except Stopped:
            pass
        except BaseException as error:  # whatever it is, the consumer shall know
            self._queues[-1].put((_END, error))  # behind the results that are there
            self._stop.set()


def on(device: torch.device) -> AbstractContextManager:
    """Inside this, ``device`` is the current one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
