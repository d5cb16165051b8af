"""Running the networks faster on CUDA: compiled, and replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..gpu.triton_support import available, require_compiler
from .fast.blocks import use_fused, use_plain
from .fast.group_norm import use_channels_last_norms, use_plain_norms
from .fast.reading import use_fused_reading, use_plain_reading
from .pipeline import PersonaLive

WARM_UP_RUNS = 3


class Lane:
    """What captured graphs that run one after another share: memory, and the stream that they are captured on.

    The stream decides about the workspace that cuBLAS' products use. Graphs that are to run side by side need lanes of
    their own: a shared workspace hangs the GPU.
    """

    def __init__(self) -> None:
        self.stream, self.pool = torch.cuda.Stream(), torch.cuda.graph_pool_handle()


class CapturedCall:
    """A function of tensors that is replayed as a CUDA graph, one graph per combination of input shapes.

    Arguments are tensors or (nested) tuples and lists of them; the result is a tensor or a tuple of tensors
    and always a copy. All captures in the same :class:`Lane` share scratch memory, so they must run one at a time.
    """

    def __init__(self, function: Callable[..., Any], lane: Lane | None = None):
        self.function = function
        self.lane = lane or Lane()
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
        static = _copy(args)
        side, graph = self.lane.stream, torch.cuda.CUDAGraph()
        cudnn = torch.backends.cudnn
        before, cudnn.benchmark = cudnn.benchmark, True  # shapes are fixed: the fastest convolutions are kept
        try:
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(WARM_UP_RUNS):
                    self.function(*static)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(graph, self.lane.pool, side):
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


def compiled_denoiser(engine: PersonaLive, mode: str) -> Callable[..., Tensor]:
    """The denoising UNet compiled once for every number of keyframes."""
    network = torch.compile(engine.denoising_unet, mode=mode, fullgraph=True, dynamic=False)

    def denoise(x: Tensor, timesteps: Tensor, motion: Tensor, pose: Tensor, contexts: list) -> Tensor:
        for context in contexts:
            torch._dynamo.mark_dynamic(context.keys, 1)
            torch._dynamo.mark_dynamic(context.values, 1)
        return network(x, timesteps, motion, pose, contexts)

    return denoise


def accelerate(
    engine: PersonaLive, compile_mode: str | None = None, graphs: bool = True, kernels: bool = True
) -> PersonaLive:
    """Replace the engine's calls by faster ones, in place; the first call of each shape then takes longer.

    compile_mode: one of ``torch.compile``'s modes for the denoising UNet and the decoder (minutes, once per
    size); RuntimeError without Triton.
    graphs: capture every repeated call as a CUDA graph (seconds). The networks must then stay where they are: call
    :func:`plain` before moving them. Not where :func:`can_capture` says no.
    kernels: norms that keep channels-last order, the blocks of :mod:`.fused_reading` and, where nothing is compiled, of
    :mod:`.fused`; they need Triton and are left out without it.
    """
    if compile_mode is not None:
        require_compiler(engine.device)
    if kernels and available(engine.device):
        for network in (engine.denoising_unet, engine.codec.network, engine.motion_encoder):
            use_channels_last_norms(network)
        if compile_mode is None:
            use_fused(engine.denoising_unet)
            use_fused(engine.codec.network)
        use_fused_reading(engine.motion_encoder)
        use_fused_reading(engine.motion_extractor)
    if compile_mode is not None:
        engine.denoise = compiled_denoiser(engine, compile_mode)
        engine.codec.decoder = torch.compile(engine.codec.decoder, mode=compile_mode, dynamic=False)
    if graphs:
        drawing, reading = Lane(), Lane()
        lanes = {"denoise": drawing, "guide_pose": drawing, "encode_motion": reading, "extract_pose": reading}
        for name, lane in lanes.items():
            setattr(engine, name, CapturedCall(getattr(engine, name), lane))
        engine.codec.decoder = CapturedCall(engine.codec.decoder, drawing)
        engine.reading = torch.cuda.Stream(engine.device)
        # weights may still be on their way, or being laid side by side
        engine.reading.wait_stream(torch.cuda.current_stream(engine.device))
    return engine


def plain(engine: PersonaLive) -> PersonaLive:
    """Undo :func:`accelerate`: captured graphs and their memory are freed."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)  # nothing may still be running in their memory
    engine.use_networks()
    engine.reading = None
    engine.codec.use_network()
    for network in (engine.denoising_unet, engine.codec.network):
        use_plain(network)
    for network in (engine.motion_encoder, engine.motion_extractor):
        use_plain_reading(network)
    for network in (engine.denoising_unet, engine.codec.network, engine.motion_encoder):
        use_plain_norms(network)
    return engine


def can_capture(device: torch.device) -> bool:
    """Whether CUDA graphs work here: on NVIDIA, and with PyTorch's own allocator. What ``cudaMallocAsync`` gives out
    during a capture is refused by Triton, and taking it back ends the process."""
    return (
        device.type == "cuda"
        and torch.version.cuda is not None
        and torch.cuda.get_allocator_backend() == "native"
    )
