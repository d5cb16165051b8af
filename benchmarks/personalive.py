"""Speed of PersonaLive at full size with random weights: no checkpoint is needed.

    # 512x512, 4 steps: eager, graphs with our kernels, compiled
    python -m benchmarks.personalive
    # our kernels against PyTorch: accuracy, single blocks, where the time of a chunk goes
    python -m benchmarks.personalive --modes graphs "graphs, norms" --check --kernels --profile graphs
    python -m benchmarks.personalive --sizes 384 512 768 --steps 4 8 --modes graphs --decoders full tiny
    # a dry run
    python -m benchmarks.personalive --tiny --device cpu --sizes 128 --modes eager --chunks 3

A chunk is four driving frames in (uint8 on the CPU) and four frames out (uint8 on the CPU), everything
between included. Prints a table and writes the same figures with the environment as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
import diffusers
import transformers
from avatar.engines.gpu.swap import replace_layers
from avatar.engines.personalive.codec import TinyCodec, channels_last
from avatar.engines.personalive.fast import temporal_attention
from avatar.engines.personalive.fast.table import NORMS
from avatar.engines.personalive.pipeline import PersonaLive
from avatar.engines.personalive.runtime import accelerate, plain
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .personalive_kernels import ATTENTION, check, kernel_table, print_profile
from .personalive_models import SETTLE_CHUNKS, Session, build, seconds, synchronize

# compile mode, CUDA graphs, kernels of our own: all, none, or norms alone
MODES: dict[str, tuple[str | None, bool, bool | str]] = {
    "eager": (None, False, False),
    "eager+kernels": (None, False, True),
    "graphs": (None, True, True),
    "graphs, norms": (None, True, "norms"),
    "graphs, no kernels": (None, True, False),
    "compile": ("default", False, True),
    "compile+graphs": ("default", True, True),
    "autotune+graphs": ("max-autotune-no-cudagraphs", True, True),
}
STAGES = ("denoise", "decode", "encode_motion", "extract_pose", "guide_pose")


@dataclass
class Row:
    """One measured configuration; times in milliseconds, memory in GB."""

    size: int
    steps: int
    mode: str
    decoder: str
    attention: str
    keyframes: int
    fps: float
    chunk_ms: float
    stream_fps: float
    unet_ms: float
    decode_ms: float
    motion_encoder_ms: float
    keypoints_ms: float
    pose_guider_ms: float
    prepare_s: float
    portrait_warm_ms: float
    first_frame_warm_ms: float
    weights_gb: float
    peak_gb: float
    reserved_gb: float
    finite: bool


class Timers:
    """Wraps an engine's calls and adds up what each takes per chunk, on the device's own clock."""

    def __init__(self, engine: PersonaLive):
        self.engine = engine
        self.marks: dict[str, list] = {stage: [] for stage in STAGES}

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        engine = self.engine
        places = [(engine, s, s) for s in STAGES if s != "decode"] + [(engine.codec, "decoder", "decode")]
        saved = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
        for (owner, name, function), (_, _, stage) in zip(saved, places, strict=True):
            setattr(owner, name, self._timed(function, stage))
        try:
            yield
        finally:
            for owner, name, function in saved:
                setattr(owner, name, function)

    def _timed(self, function: Callable, stage: str) -> Callable:
        def call(*args: Any) -> Any:
            start = mark(self.engine.device)
            result = function(*args)
            self.marks[stage].append((start, mark(self.engine.device)))
            return result

        return call

    def per_chunk(self, chunks: int) -> dict[str, float]:
        synchronize(self.engine.device)
        return {s: sum(elapsed(a, b) for a, b in pairs) / chunks for s, pairs in self.marks.items()}


def mark(device: torch.device) -> Any:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def elapsed(start: Any, end: Any) -> float:
    return (end - start) * 1e3 if isinstance(start, float) else start.elapsed_time(end)


def measure(
    engine: PersonaLive, args: argparse.Namespace, size: int, steps: int, mode: str, attention: str
) -> Row:
    device = engine.device
    session = Session(engine, size, steps, args.keyframes)
    compile_mode, graphs, kernels = MODES[mode]
    plain(engine)
    weights = memory(device, torch.cuda.memory_allocated)
    if kernels == "norms":
        replace_layers(engine.denoising_unet, NORMS)
        replace_layers(engine.codec.network, NORMS)
    accelerate(engine, compile_mode, graphs, kernels is True and not args.plain_kernels)

    def prepare() -> None:
        stream = session.stream(session.portrait())
        for _ in range(SETTLE_CHUNKS):
            session.chunk(stream)

    prepare_s, _ = seconds(device, prepare)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    portrait_s = min(seconds(device, session.portrait)[0] for _ in range(3))
    first_s = min(seconds(device, session.first_frame)[0] for _ in range(3))
    stream = session.stream(session.portrait())
    for _ in range(SETTLE_CHUNKS):
        session.chunk(stream)
    times = [seconds(device, lambda: session.chunk(stream)) for _ in range(args.chunks)]
    chunk_s = statistics.median(t for t, _ in times)
    timers = Timers(engine)
    with timers.attached():
        for _ in range(args.chunks):
            session.chunk(stream)
        stages = timers.per_chunk(args.chunks)
    finite = bool(stream.window.latents.isfinite().all())
    if mode in args.profile and device.type == "cuda":
        print_profile(session, mode)
    return Row(
        size=size,
        steps=steps,
        mode=mode,
        decoder=engine.codec.name,
        attention=attention,
        keyframes=args.keyframes,
        fps=len(session.frames) / chunk_s,
        chunk_ms=chunk_s * 1e3,
        stream_fps=session.streamed(session.portrait(), args.chunks + 8),
        unet_ms=stages["denoise"],
        decode_ms=stages["decode"],
        motion_encoder_ms=stages["encode_motion"],
        keypoints_ms=stages["extract_pose"],
        pose_guider_ms=stages["guide_pose"],
        prepare_s=prepare_s,
        portrait_warm_ms=portrait_s * 1e3,
        first_frame_warm_ms=first_s * 1e3,
        weights_gb=weights,
        peak_gb=memory(device, torch.cuda.max_memory_allocated),
        reserved_gb=memory(device, torch.cuda.max_memory_reserved),
        finite=finite,
    )


def memory(device: torch.device, ask: Callable[[], int]) -> float:
    """GB that the allocator answers, 0 on a CPU."""
    return ask() / 1e9 if device.type == "cuda" else 0.0


def environment(device: torch.device) -> dict[str, Any]:
    about = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": diffusers.__version__,
        "transformers": transformers.__version__,
        "device": platform.processor() or platform.machine(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        about |= {
            "device": properties.name,
            "memory_gb": round(properties.total_memory / 2**30, 1),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return about


def show(rows: list[Row]) -> None:
    columns = {
        "size": lambda r: str(r.size),
        "steps": lambda r: str(r.steps),
        "mode": lambda r: r.mode,
        "decoder": lambda r: r.decoder,
        "attention": lambda r: r.attention,
        "FPS": lambda r: f"{r.fps:.1f}",
        "FPS of animate": lambda r: f"{r.stream_fps:.1f}",
        "ms/chunk": lambda r: f"{r.chunk_ms:.1f}",
        "UNet": lambda r: f"{r.unet_ms:.1f}",
        "decode": lambda r: f"{r.decode_ms:.1f}",
        "motion enc.": lambda r: f"{r.motion_encoder_ms:.1f}",
        "keypoints": lambda r: f"{r.keypoints_ms:.1f}",
        "pose": lambda r: f"{r.pose_guider_ms:.1f}",
        "prepare s": lambda r: f"{r.prepare_s:.1f}",
        "portrait ms": lambda r: f"{r.portrait_warm_ms:.0f}",
        "first frame ms": lambda r: f"{r.first_frame_warm_ms:.0f}",
        "weights GB": lambda r: f"{r.weights_gb:.1f}",
        "peak GB": lambda r: f"{r.peak_gb:.1f}",
        "reserved GB": lambda r: f"{r.reserved_gb:.1f}",
        "finite": lambda r: "yes" if r.finite else "NO",
    }
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(cell(row) for cell in columns.values()) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[512], help="side of the square video in pixels"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=[4], help="denoising steps, multiples of 4")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["eager", "graphs", "compile+graphs"])
    parser.add_argument("--decoders", nargs="+", choices=["full", "tiny"], default=["full"])
    parser.add_argument("--attention", nargs="+", choices=["auto", *ATTENTION], default=["auto"])
    parser.add_argument("--keyframes", type=int, default=0, help="remembered frames in attention (at most 3)")
    parser.add_argument(
        "--plain-kernels",
        action="store_true",
        help="PyTorch's norms and temporal attention in every mode",
    )
    parser.add_argument("--kernels", action="store_true", help="single kernels and blocks at 512x512 first")
    parser.add_argument("--profile", nargs="+", choices=MODES, default=[], help="GPU time by kernel")
    parser.add_argument("--check", action="store_true", help="compare our kernels with PyTorch's first")
    parser.add_argument("--chunks", type=int, default=22, help="measured chunks; the median counts")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", choices=["float16", "bfloat16", "float32"], default="float16")
    parser.add_argument("--tiny", action="store_true", help="small networks, for trying the script")
    parser.add_argument("--output", type=Path, default=Path("personalive_benchmark.json"))
    args = parser.parse_args()

    device, dtype = torch.device(args.device), getattr(torch, args.dtype)
    about = environment(device)
    print(json.dumps(about))
    engine = build(device, dtype, args.tiny)
    if args.plain_kernels:
        temporal_attention.available = lambda device: False
    full = engine.codec
    with device:
        tiny_vae = diffusers.AutoencoderTiny()
    nn.Module.to(tiny_vae, dtype=dtype)
    channels_last(tiny_vae).eval().requires_grad_(False)
    session = Session(engine, args.sizes[0], args.steps[0], 0)
    cold_portrait, portrait = seconds(device, session.portrait)
    cold_chunk, _ = seconds(device, lambda: session.chunk(session.stream(portrait)))
    cold = {"portrait_s": cold_portrait, "first_chunk_s": cold_chunk}
    print(f"cold, eager, {args.sizes[0]}: portrait {cold_portrait:.2f} s, first chunk {cold_chunk:.2f} s")
    kernels = kernel_table(device, dtype) if args.kernels else {}
    for name, milliseconds in kernels.items():
        print(f"  {name:30s} {milliseconds:7.3f} ms")

    if args.check:
        check(engine, Session(engine, args.sizes[0], args.steps[0], 0))
    rows: list[Row] = []
    for attention, size, steps, mode, decoder in product(
        args.attention, args.sizes, args.steps, args.modes, args.decoders
    ):
        plain(engine)
        engine.codec = full if decoder == "full" else TinyCodec(full, tiny_vae)
        chosen = contextlib.nullcontext()
        if attention != "auto":
            # math stays allowed: no other kernel takes the widest single head of the VAE
            chosen = sdpa_kernel(
                [ATTENTION[attention], SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH], True
            )
        with chosen:
            rows.append(measure(engine, args, size, steps, mode, attention))
        show(rows[-1:])
        report = {
            "environment": about,
            "cold": cold,
            "kernels_ms": kernels,
            "rows": [asdict(r) for r in rows],
        }
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print()
    show(rows)


if __name__ == "__main__":
    main()
