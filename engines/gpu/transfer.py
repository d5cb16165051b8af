"""Tensors on their way to a GPU and back, without anybody waiting.

An ordinary copy from CPU memory returns only when the GPU has done all that it was told before, and a small tensor
that is made "on" a GPU is such a copy; nothing can then be prepared meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def send(x: Tensor, device: torch.device | str) -> Tensor:
    """``x`` on a device; to a GPU through pinned memory."""
    if torch.device(device).type != "cuda" or x.is_cuda:
        return x.to(device)
    return x.contiguous().pin_memory().to(device, non_blocking=True)


@contextmanager
def beside(stream: torch.cuda.Stream | None, *inputs: Tensor | None) -> Iterator[None]:
    """Run on another stream, beside what the present one still has to do; without a stream, as always.

    What the present stream is given afterwards waits for it. Inputs that are on the GPU are waited for.
    """
    if stream is None:
        yield
        return
    present = torch.cuda.current_stream(stream.device)
    if any(x is not None and x.is_cuda for x in inputs):
        stream.wait_stream(present)
    try:
        with torch.cuda.stream(stream):
            yield
    finally:
        present.wait_stream(stream)


def hand_over(made: Iterable[Tensor]) -> None:
    """Keep the memory of what was made beside the present stream until that has used it."""
    for x in made:
        if x.is_cuda:
            x.record_stream(torch.cuda.current_stream(x.device))


def fetch(x: Tensor) -> Callable[[], Tensor]:
    """Start copying to the CPU; the answer waits for the end of it and gives the copy."""
    if not x.is_cuda:
        return x.cpu
    copy = x.to("cpu", non_blocking=True)  # into pinned memory
    done = torch.cuda.Event()
    done.record()

    def wait() -> Tensor:
        done.synchronize()
        return copy

    return wait
