"""Functions that are replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .lanes import Lane

WARM_UP_RUNS = 3


class GraphLane(Lane):
    """A lane in which graphs are captured that run one after another and share its memory.

    The stream decides about the workspace that cuBLAS' products use. Graphs that are to run side by side need lanes of
    their own: a shared workspace hangs the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self.pool = torch.cuda.graph_pool_handle()


class CapturedCall:
    """A function of tensors that is replayed as a CUDA graph, one graph per combination of input shapes.

    Arguments are tensors or (nested) tuples and lists of them; the result is a tensor or a tuple of tensors
    and always a copy. All captures in the same `GraphLane` share scratch memory, so they must run one at a time.
    """

    def __init__(self, function: Callable[..., Any], lane: GraphLane, warm_up: int = WARM_UP_RUNS) -> None:
        self.function, self.lane, self._warm_up = function, lane, warm_up
        self._graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, tuple, Any]] = {}

    def __call__(self, *args: Any) -> Any:
        inputs = list(_flatten(args))
        key = tuple((tuple(t.shape), t.dtype) for t in inputs)
        if key not in self._graphs:
            self._graphs[key] = self._capture(args)
        graph, static, output = self._graphs[key]
        torch._foreach_copy_(list(_flatten(static)), inputs)
        graph.replay()
        return output.clone() if isinstance(output, Tensor) else tuple(t.clone() for t in output)

    def _capture(self, args: tuple) -> tuple[torch.cuda.CUDAGraph, tuple, Any]:
        static, graph = _copy(args), torch.cuda.CUDAGraph()
        cudnn = torch.backends.cudnn
        before, cudnn.benchmark = cudnn.benchmark, True  # shapes are fixed: the fastest convolutions are kept
        try:
            with self.lane.working():
                for _ in range(self._warm_up):
                    self.function(*static)
            self.lane.computation_waits(self.lane.mark())
            # Other threads may go on with their GPUs meanwhile.
            with torch.cuda.graph(graph, self.lane.pool, self.lane.stream, capture_error_mode="thread_local"):
                output = self.function(*static)
        finally:
            cudnn.benchmark = before
        return graph, static, output


def _flatten(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for item in value:
            yield from _flatten(item)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    items = [_copy(item) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)


def can_capture(device: torch.device) -> bool:
    """Whether CUDA graphs work on ``device``: on NVIDIA's, and with PyTorch's own allocator.

    What ``cudaMallocAsync`` gives out during a capture is refused by Triton, and taking it back ends the process.
    """
    return (
        device.type == "cuda"
        and torch.version.cuda is not None
        and torch.cuda.get_allocator_backend() == "native"
    )
