"""Running the networks faster on CUDA: compiled, and replayed as CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..gpu.graphs import CapturedCall, GraphLane
from ..gpu.swap import put_back, replace_layers
from ..gpu.triton_support import available, require_compiler
from .pipeline import PersonaLive


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

    Args:
        compile_mode: one of ``torch.compile``'s modes for the denoising UNet and the decoder (minutes, once per size).
        graphs: capture every repeated call as a CUDA graph (seconds), where `graphs.obstacle` has none. Call `plain`
            before the networks are moved: otherwise the memory of the graphs stays until the next call.
        kernels: use the layers of `fast.table`, which need Triton and are left out without it.

    Raises:
        RuntimeError: ``compile_mode`` is given and Triton is missing.
    """
    if compile_mode is not None:
        require_compiler(engine.device)
    if kernels and available(engine.device):
        from .fast.table import DRAWING, NORMS, READING  # names the layers of diffusers

        table = NORMS if compile_mode is not None else {**NORMS, **DRAWING}
        replace_layers(engine.denoising_unet, table)
        vae = engine.codec.vae
        vae.decoder = replace_layers(vae.decoder, table)
        replace_layers(engine.motion_encoder, {**NORMS, **READING})
        replace_layers(engine.motion_extractor, READING)
    if compile_mode is not None:
        engine.denoise = compiled_denoiser(engine, compile_mode)
        engine.codec.decoder = torch.compile(engine.codec.decoder, mode=compile_mode, dynamic=False)
    if graphs:
        drawing, reading = GraphLane(engine.device), GraphLane(engine.device)
        calls = {
            "denoise": (drawing, engine.denoising_unet),
            "guide_pose": (drawing, engine.pose_guider),
            "encode_motion": (reading, engine.motion_encoder),
            "extract_pose": (reading, engine.motion_extractor),
        }
        for name, (lane, network) in calls.items():
            setattr(engine, name, CapturedCall(getattr(engine, name), lane, network))
        engine.codec.decoder = CapturedCall(engine.codec.decoder, drawing, engine.codec.vae)
        engine.reading = torch.cuda.Stream(engine.device)
        # weights may still be copied, or laid side by side
        engine.reading.wait_stream(torch.cuda.current_stream(engine.device))
    return engine


def plain(engine: PersonaLive) -> PersonaLive:
    """Undo `accelerate`: captured graphs and their memory are freed."""
    if engine.device.type == "cuda":
        torch.cuda.synchronize(engine.device)  # nothing may still be running in their memory
    engine.use_networks()
    engine.reading = None
    engine.codec.use_network()
    for network in (engine.denoising_unet, engine.motion_encoder, engine.motion_extractor):
        put_back(network)
    vae = engine.codec.vae
    vae.decoder = put_back(vae.decoder)
    return engine
