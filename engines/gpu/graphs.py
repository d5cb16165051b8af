"""Functions that are replayed as CUDA graphs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from .lanes import Lane
from .weights import Weights, addresses

WARM_UP_RUNS = 3
ASYNCHRONOUS = "do not work with CUDA's asynchronous allocator; start ComfyUI with --disable-cuda-malloc"

_one_at_a_time = threading.Lock()
"""How convolutions are chosen during a capture is a setting of the whole process."""


class CaptureError(RuntimeError):
    """A graph could not be captured; the function itself may work."""


def obstacle(device: torch.device) -> str:
    """Why CUDA graphs cannot be had on ``device``, as the end of a sentence about them; empty where they can.

    What ``cudaMallocAsync`` gives out during a capture is refused by Triton, and taking it back ends the process.
    """
    if device.type != "cuda" or torch.version.cuda is None:
        return "need an NVIDIA GPU"
    return "" if torch.cuda.get_allocator_backend() == "native" else ASYNCHRONOUS


class GraphLane(Lane):
    """A lane in which graphs are captured that run one after another and share its memory.

    The stream decides about the workspace that cuBLAS' products use. Graphs that are to run side by side need lanes of
    their own: a shared workspace hangs the GPU.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._graphs: WeakSet[torch.cuda.CUDAGraph] = WeakSet()

    def capture(self, function: Callable[[], Any]) -> tuple[torch.cuda.CUDAGraph, Any]:
        """A graph of all that ``function`` asks for, and its result, into which every replay writes."""
        graph = torch.cuda.CUDAGraph()
        if not self._graphs:
            # PyTorch gives a pool up with its last graph. A capture cannot take what is reserved but not in use.
            torch.cuda.empty_cache()
            self._pool = torch.cuda.graph_pool_handle()
        # Not `torch.cuda.graph`, which empties the cache and may collect garbage for every graph. Other threads may go
        # on with their GPUs meanwhile.
        with torch.cuda.stream(self.stream):
            graph.capture_begin(self._pool, capture_error_mode="thread_local")
            try:
                result = function()
            except BaseException:
                with suppress(RuntimeError):  # which would hide the first one
                    graph.capture_end()
                raise
            graph.capture_end()
        self._graphs.add(graph)
        return graph, result


class CapturedCalls:
    """Functions of tensors that are replayed as CUDA graphs, one graph per kind and combination of input shapes.

    Arguments are tensors or (nested) tuples and lists of them; the result is a tensor or a tuple of tensors and always
    a copy. All captures in the same `GraphLane` share scratch memory, so they must run one at a time.

    A graph reads weights where they were when it was captured. So before each replay their memory is held and compared
    with what it was then; where any of it is another one, all graphs are dropped, and captured anew.

    Attributes:
        moves: how often weights were found elsewhere.

    Args:
        lane: where graphs are captured.
        weights: those of all networks that the functions use.
        try_convolutions: let cuDNN find out the fastest ones for the shapes, which may round in another way.
    """

    def __init__(self, lane: GraphLane, weights: Weights, try_convolutions: bool = True) -> None:
        self.lane, self.moves = lane, 0
        self._weights, self._try_convolutions = weights, try_convolutions
        self._captured_at: list[int] | None = None
        self._inputs: dict[tuple, Any] = {}
        self._graphs: dict[tuple, tuple[torch.cuda.CUDAGraph, Any]] = {}

    def __call__(
        self,
        function: Callable[..., Any],
        args: tuple,
        kind: Hashable = None,
        warm_up: int = WARM_UP_RUNS,
    ) -> Any:
        """What ``function`` gives for ``args``.

        Args:
            kind: what the function depends on besides its arguments.
            warm_up: how often it runs before it is captured; once is the least for whatever brings new kernels.

        Raises:
            CaptureError: see there.
        """
        given = list(_flatten(args))
        shapes = tuple((tuple(t.shape), t.dtype) for t in given)
        held = self._weights.held()  # until the replay has been asked for
        if self._moved(addresses(held)):
            self._drop(addresses(held))
        if shapes not in self._inputs:
            self._inputs[shapes] = _copy(args)
        static = self._inputs[shapes]
        torch._foreach_copy_(list(_flatten(static)), given)
        if (kind, shapes) not in self._graphs:
            found = self._capture(function, static, warm_up)
            if self._moved(addresses(self._weights.held())):  # meanwhile, by another thread
                self._drop(None)
                return function(*args)
            self._graphs[kind, shapes] = found
        graph, output = self._graphs[kind, shapes]
        graph.replay()
        return output.clone() if isinstance(output, Tensor) else tuple(t.clone() for t in output)

    def _moved(self, now: list[int]) -> bool:
        return now != self._captured_at

    def _drop(self, now: list[int] | None) -> None:
        self.moves += self._captured_at is not None
        self._captured_at = now
        self._graphs.clear()

    def _capture(
        self, function: Callable[..., Any], static: tuple, warm_up: int
    ) -> tuple[torch.cuda.CUDAGraph, Any]:
        cudnn = torch.backends.cudnn
        with _one_at_a_time:
            before, cudnn.benchmark = cudnn.benchmark, self._try_convolutions or cudnn.benchmark
            try:
                if warm_up:
                    with self.lane.working():
                        for _ in range(warm_up):
                            function(*static)
                    self.lane.computation_waits(self.lane.mark())
                return self.lane.capture(lambda: function(*static))
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                raise CaptureError(f"No CUDA graph could be captured ({error}).") from error
            finally:
                cudnn.benchmark = before


class CapturedCall:
    """A function of tensors that is replayed as CUDA graphs; see `CapturedCalls`.

    Args:
        networks: all whose weights the function uses.
    """

    def __init__(self, function: Callable[..., Any], lane: GraphLane, *networks: nn.Module) -> None:
        self.function, self._calls = function, CapturedCalls(lane, Weights(*networks))

    def __call__(self, *args: Any) -> Any:
        return self._calls(self.function, args)


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
