"""PersonaLive's single kernels and blocks, timed, profiled and compared with PyTorch's; part of the benchmark."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Any

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.gpu.swap import replace_layers
from avatar.engines.gpu.triton_support import available
from avatar.engines.personalive.codec import channels_last
from avatar.engines.personalive.config import LATENT_SCALE
from avatar.engines.personalive.fast import temporal_attention
from avatar.engines.personalive.fast.table import DRAWING, NORMS
from avatar.engines.personalive.modules import (
    BlockContext,
    MotionModule,
    SpatialTransformer,
    TemporalModule,
)
from avatar.engines.personalive.pipeline import PersonaLive
from avatar.engines.personalive.runtime import accelerate, plain
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .personalive_models import SETTLE_CHUNKS, Session, seconds

ATTENTION = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
}
KINDS = {  # by words in the names of kernels, the first that fits
    "attention": ("fmha", "flash", "sdpa", "attention", "softmax"),
    "convolution": ("conv", "implicit", "xmma_fprop", "nhwckrsc", "winograd"),
    "GEMM": ("gemm", "cublas", "nvjet", "cutlass"),
    "copy": ("memcpy", "memset", "copy", "cat", "nchw"),
}


def kernel_table(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds of single kernels at 512x512: the largest attention (16 frames, 8 heads, 4096 queries,
    8192 keys, width 40), the largest temporal attention, the largest group norms of the UNet and of the
    decoder."""
    q, k, v = (torch.randn(16, 8, n, 40, device=device, dtype=dtype) for n in (4096, 8192, 8192))
    table = {}
    for name, backend in ATTENTION.items():
        with contextlib.suppress(RuntimeError), sdpa_kernel(backend):
            table[f"attention {name}"] = fastest(
                device, lambda: nn.functional.scaled_dot_product_attention(q, k, v)
            )
    q, k, v = (torch.randn(16, 4096, 320, device=device, dtype=dtype) for _ in range(3))
    with torch.inference_mode():
        if available(device):
            table["temporal tiled"] = fastest(device, lambda: temporal_attention.tiled(q, k, v, 8))
        table["temporal plain"] = fastest(device, lambda: temporal_attention.plain(q, k, v, 8))
        for name, shape in {"norm UNet": (16, 320, 64, 64), "norm decoder": (4, 128, 512, 512)}.items():
            x = torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
            norm = nn.GroupNorm(32, shape[1], device=device, dtype=dtype)
            table[f"{name} plain"] = fastest(device, lambda norm=norm, x=x: norm(x))
            norm = replace_layers(norm, NORMS)
            table[f"{name} channels-last"] = fastest(device, lambda norm=norm, x=x: norm(x))
        for name, (module, inputs) in fused_blocks(device, dtype).items():
            for way in ("plain", "fused"):
                table[f"{name} {way}"] = fastest(device, lambda m=module, i=inputs: m(*i))
                module = replace_layers(module, DRAWING)
    return table


def fused_blocks(device: torch.device, dtype: torch.dtype) -> dict[str, tuple[nn.Module, tuple]]:
    """The largest block of every kind that has a fused version, at 512x512, with its inputs."""

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    def maps(*shape: int) -> Tensor:
        return random(*shape).to(memory_format=torch.channels_last)

    reference = (random(1, 4096, 320), random(1, 4096, 320), random(320))
    with device:
        blocks = {
            "resnet UNet": (
                ResnetBlock2D(in_channels=640, out_channels=320, temb_channels=1280),
                (maps(16, 640, 64, 64), random(16, 1280)),
            ),
            "resnet decoder": (
                ResnetBlock2D(in_channels=128, out_channels=128, temb_channels=None),
                (maps(4, 128, 512, 512), None),
            ),
            "upsample UNet": (Upsample2D(640, use_conv=True), (maps(16, 640, 32, 32),)),
            "upsample decoder": (Upsample2D(256, use_conv=True), (maps(4, 256, 256, 256),)),
            "spatial": (
                SpatialTransformer(320, 8, 768, 32),
                (maps(16, 320, 64, 64), BlockContext(*reference)),
            ),
            "motion": (MotionModule(320, 8, 16), (maps(16, 320, 64, 64), random(16, 32, 16))),
            "temporal": (TemporalModule(320, 8, 32), (maps(16, 320, 64, 64),)),
        }
    for module, _ in blocks.values():
        channels_last(module.to(dtype)).eval()
    return blocks


def fastest(device: torch.device, function: Callable[[], Any], runs: int = 5) -> float:
    function()
    return min(seconds(device, function)[0] for _ in range(runs)) * 1e3


def print_profile(session: Session, mode: str, chunks: int = 4) -> None:
    """GPU milliseconds per chunk by kind of kernel, and the ten longest kernels."""
    stream = session.stream(session.portrait())
    for _ in range(SETTLE_CHUNKS):
        session.chunk(stream)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(chunks):
            session.chunk(stream)
    kernels = [
        (e.key, e.self_device_time_total / 1e3 / chunks, e.count / chunks) for e in profile.key_averages()
    ]
    kinds: dict[str, float] = {}
    for name, milliseconds, _ in kernels:
        kind = next((k for k, words in KINDS.items() if any(w in name.lower() for w in words)), "elementwise")
        kinds[kind] = kinds.get(kind, 0.0) + milliseconds
    print(f"profile of {mode}: " + ", ".join(f"{kind} {t:.1f}" for kind, t in sorted(kinds.items())) + " ms")
    for name, milliseconds, count in sorted(kernels, key=lambda k: -k[1])[:30]:
        print(f"  {milliseconds:7.2f} ms {count:6.0f}x {name[:110]}")


@torch.inference_mode()
def check(engine: PersonaLive, session: Session) -> None:
    """Print the relative errors of the networks against themselves in float32 (those that read: on the CPU, since a
    GPU convolves in TF32): as PyTorch runs them, and with our kernels."""
    plain(engine)
    seen: list[tuple] = []
    engine.denoise = lambda *inputs: seen.append(inputs) or engine.denoising_unet(*inputs)
    read: dict[str, tuple] = {}
    for name in ("encode_motion", "extract_pose"):
        setattr(engine, name, _keeper(getattr(engine, name), read, name))
    stream = session.stream(session.portrait())
    for _ in range(4):
        latents = stream.push_latents(engine.observe(session.frames, session.box.expand(4, -1)))
    dtype = engine.denoising_unet.conv_in.weight.dtype
    networks = {
        "keypoints": (lambda: engine.motion_extractor, read["extract_pose"]),
        "motion encoder": (lambda: engine.motion_encoder, read["encode_motion"]),
        "UNet": (lambda: engine.denoising_unet, seen[-1]),
        "decoder": (lambda: engine.codec.network, ((latents / LATENT_SCALE).to(dtype).contiguous(),)),
    }
    for name, (network, inputs) in networks.items():
        outputs = {"plain": _joined(network()(*inputs))}
        accelerate(engine, graphs=False)
        outputs["our kernels"] = _joined(network()(*inputs))
        plain(engine)
        where = "cpu" if name in ("keypoints", "motion encoder") else engine.device
        exact = _joined(copy.deepcopy(network()).float().to(where)(*_float(inputs, where)))
        for way, output in outputs.items():
            apart = ((output.to(where) - exact).norm() / exact.norm()).item()
            print(f"{name}, {way}: relative error against float32 {apart:.2e}")


def _keeper(function: Callable, kept: dict[str, tuple], name: str) -> Callable:
    """The function, whose last arguments are kept under a name."""

    def call(*inputs: Tensor) -> Any:
        kept[name] = inputs
        return function(*inputs)

    return call


def _joined(output: Tensor | tuple[Tensor, ...]) -> Tensor:
    """One float32 tensor of whatever a network puts out."""
    if isinstance(output, Tensor):
        return output.float()
    return torch.cat([part.float().flatten(1) for part in output], 1)


def _float(value: Any, where: torch.device | str) -> Any:
    if isinstance(value, Tensor):
        return value.float().to(where)
    items = [_float(item, where) for item in value]
    return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
