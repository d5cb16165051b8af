"""Speed of LongCat-Video-Avatar at full size with random weights: no checkpoint is needed.

    # version 1.5 at 832x480, 8 steps in one pass each: the first segment and a continuation, in all formats
    python -m benchmarks.longcat --weights plain bf16 fp8 fast int8 --json longcat.json
    # a card of 24 GiB, where 20 blocks wait in CPU memory
    python -m benchmarks.longcat --weights fp8 fast --card 24 --waiting 20
    # version 1.0 with guidance, three passes a step
    python -m benchmarks.longcat --version 1.0 --passes 3
    # a dry run
    python -m benchmarks.longcat --tiny --device cpu --width 48 --height 32

``plain`` is bf16 by PyTorch's functions alone, one kernel after the other; ``fast`` is fp8 with attention in 8 bits.
A step is all of its passes of the network, from latents to latents. Preparing is the clean latents' pass and the speech
tokens, once for a segment; decoding is not part of it. Prints a line for each segment; ``--json`` writes the same
figures with the environment.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from unittest.mock import patch

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.gpu.offload import BlockOffload, WaitingBlock, spread
from avatar.engines.longcat.config import VERSIONS, LongCatConfig, SamplingConfig
from avatar.engines.longcat.fp8 import use_fp8
from avatar.engines.longcat.int8 import Int8Linear, use_int8
from avatar.engines.longcat.layout import Layout
from avatar.engines.longcat.sampler import Prompts, SegmentSampler
from avatar.engines.longcat.transformer import LongCatTransformer
from avatar.engines.parts import regions
from avatar.engines.parts.attention import few_keys
from torch import nn

from tools.tiny_longcat import TINY

from .common import environment

WORDS = 60
"""Tokens of a usual prompt."""
GROUPS = {version.name: groups for groups, version in VERSIONS.items()}
CHANNELS = {"1.0": 768, "1.5": 1280}


@dataclass
class Row:
    """One measured configuration; times in milliseconds, memory in GB."""

    version: str
    weights: str
    segment: str
    passes: int
    width: int
    height: int
    prepare_ms: float
    step_ms: float
    segment_s: float
    """All steps of a segment and what prepares them, without decoding."""
    sampling_fps: float
    """New video frames for a second of that."""
    peak_gb: float | None
    """On a GPU."""


def build(
    config: LongCatConfig, weights: str, device: torch.device, waiting: int
) -> tuple[LongCatTransformer, list[WaitingBlock]]:
    """A network with random weights, block after block, and its blocks that wait in CPU memory."""
    dtype = torch.float32 if weights == "float32" else torch.bfloat16
    with torch.device("meta"):
        model = LongCatTransformer(config, dtype)
        if weights == "int8":
            use_int8(model)
    waits, places = [], spread(waiting, config.depth)
    for name, part in model.named_children():
        if name != "blocks":
            draw(part.to_empty(device=device), dtype)
    for index, block in enumerate(model.blocks):
        draw(block.to_empty(device=device), dtype)
        if weights in ("fp8", "fast"):
            use_fp8(block)
        if index in places:
            waits.append(WaitingBlock(block.to("cpu")))
    return model.eval().requires_grad_(False), waits


def draw(part: nn.Module, dtype: torch.dtype) -> None:
    """Random weights that keep the size of what passes through them."""
    for layer in part.modules():
        if isinstance(layer, Int8Linear):
            layer.weight_int8.random_(-127, 128)
            layer.weight_scale.fill_(layer.in_features**-0.5 / 73)
    for name, parameter in part.named_parameters():
        parameter.data = parameter.data.to(dtype)
        if parameter.ndim > 1:
            parameter.data.normal_(std=parameter[0].numel() ** -0.5)
        else:
            parameter.data.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)


def measure(
    model: LongCatTransformer,
    config: SamplingConfig,
    size: tuple[int, int],
    repeats: int,
    device: torch.device,
    attention8: bool = False,
) -> list[Row]:
    """The first segment of a portrait, and a continuation; ``size`` is width and height."""
    architecture, (width, height) = model.config, size
    passes = 3 if config.guided else 1
    words = torch.randn(WORDS, architecture.caption_channels, device=device)
    with torch.inference_mode():
        text = model.encode_text(words, architecture.model_max_length - WORDS)
    sampler = SegmentSampler(model, config, Prompts(text, text), None, device, attention8=attention8)
    grid = height // 16, width // 16
    overlap = config.overlap_latents
    segments = {
        "first": Layout(*grid, 1, config.latents - 1),
        "continuation": Layout(
            *grid, 1 + overlap, config.latents - overlap, config.reference_position, config.skip_range
        ),
    }
    windows = torch.randn(1, config.frames, 5, architecture.audio_block, architecture.audio_channel)
    rows = []
    for name, layout in segments.items():
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        clean = torch.randn(1, 16, layout.clean, height // 8, width // 8, device=device)
        noise = torch.randn(1, 16, layout.noisy, height // 8, width // 8, device=device)

        prepare = partial(sampler.prepare, layout, clean, windows)
        preparing = timed(prepare, repeats, device)
        step = partial(sampler.flow, noise, torch.tensor(900.0), prepare())
        stepping = timed(step, repeats, device)
        total = (preparing + config.steps * stepping) / 1000
        new = config.frames if name == "first" else config.new_frames
        peak = torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else None
        rows.append(
            Row(
                architecture.version.name, "", name, passes, width, height, preparing, stepping, total,
                new / total, peak,
            )
        )  # fmt: skip
    return rows


def timed(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    """The median milliseconds of a call, after one that does not count."""
    taken = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", choices=sorted(GROUPS), default="1.5")
    parser.add_argument(
        "--weights", nargs="+", choices=["plain", "bf16", "fp8", "fast", "int8", "float32"], default=["bf16"]
    )
    parser.add_argument("--waiting", type=int, default=0, help="blocks that wait in CPU memory")
    parser.add_argument("--card", type=float, default=0, help="GiB that PyTorch is held to; 0: all")
    parser.add_argument("--passes", type=int, choices=[1, 3], default=1, help="3: with guidance")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a network of a few layers, for a dry run")
    parser.add_argument("--json", type=Path, help="where the figures are written")
    given = parser.parse_args()
    device = torch.device(given.device)
    full = LongCatConfig(audio_block=GROUPS[given.version], audio_channel=CHANNELS[given.version])
    config = TINY[given.version] if given.tiny else full
    settings = SamplingConfig(steps=given.steps, distilled=False, shift=config.version.shift)
    if given.passes == 3:
        settings = replace(settings, text_guidance=4.0, audio_guidance=4.0)
    if given.card:
        total = torch.cuda.mem_get_info()[1]
        torch.cuda.set_per_process_memory_fraction(given.card * 2**30 / total)
    rows, size = [], (given.width, given.height)
    for weights in given.weights:
        model, waiting = build(config, weights, device, given.waiting)
        with ExitStack() as stack:
            stack.enter_context(BlockOffload(waiting, device))
            if weights == "plain":
                stack.enter_context(patch.object(regions, "available", lambda device: False))
                stack.enter_context(patch.object(few_keys, "usable", lambda q, k: False))
            for row in measure(model, settings, size, given.repeats, device, weights == "fast"):
                rows.append(replace(row, weights=weights))
                print(", ".join(f"{name} {value}" for name, value in asdict(rows[-1]).items()), flush=True)
        del model, waiting
        gc.collect()
    if given.json:
        report = {
            "environment": environment(device),
            "card GiB": given.card,
            "rows": [asdict(row) for row in rows],
        }
        given.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
