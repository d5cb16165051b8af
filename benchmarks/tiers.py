"""What LiveAvatar does with less GPU memory: the plan, its speed and its peak for cards of several sizes.

    python -m benchmarks.tiers --json tiers.json                  # 14B, random weights, one process per card
    python -m benchmarks.tiers 24:auto "16:low memory"
    python -m benchmarks.tiers --config tiny --size 128x64 --device cpu   # a dry run

A card's size (GiB) is a limit for PyTorch on the GPU at hand, less what the driver has taken: speed of arithmetic and
of the bus are those of this GPU, not of a smaller one. Speed is the host's clock from block to block, uint8 frames in
its memory, over the blocks that see a full window. The weights are the same in all runs; "error" is the distance of
the last block's latents from those of the first run with the model's own precision.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.gpu.offload import spread
from avatar.engines.gpu.pinned import PinnedMemory
from avatar.engines.liveavatar.condition import PRE_ROLL_FRAMES
from avatar.engines.liveavatar.config import BLOCK_FRAMES, FPS, S2VConfig, SamplingConfig
from avatar.engines.liveavatar.costs import Model, VideoCosts, fp8_bytes
from avatar.engines.liveavatar.fp8_blocks import quantise_transformer
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.transformer import S2VTransformer
from avatar.engines.parts.planning.performance import Performance
from avatar.engines.parts.planning.plan import Machine, Wish, make_plan
from avatar.loaders.liveavatar.conditioning import Condition
from avatar.loaders.liveavatar.model import Placed, Report, machine_on
from avatar.loaders.liveavatar.speech import ENGINE
from avatar.loaders.wan.vae import OwnVAE
from avatar.loaders.wan.wav2vec2 import SAMPLE_RATE
from avatar.media.speech import Speech
from avatar.sessions.liveavatar import Inputs, open_video
from torch import Tensor

from .common import Clock, Recorder, environment, print_table
from .liveavatar_models import TINY, fill, random_scene, random_vae

GIB = 2**30
RUNS = ("140:quality", "140:auto", "80:auto", "48:auto", "24:auto", "16:auto", "16:low memory")


class Card:
    """A `TransformerSource` of random weights on a card of ``size`` bytes, which PyTorch is held to.

    Attributes:
        build_seconds: what drawing the weights took, once they have been placed.
    """

    streams = False

    def __init__(
        self, config: S2VConfig, device: torch.device, dtype: torch.dtype, size: int, ram: int | None
    ) -> None:
        self.architecture, self.device, self.dtype = config, device, dtype
        with torch.device("meta"):
            parameters = S2VTransformer(config).parameters()
        self.bytes = sum(parameter.numel() for parameter in parameters) * dtype.itemsize
        self.size, self.free, self.ram = size, size, ram
        self.build_seconds = 0.0
        if device.type == "cuda":
            torch.zeros(1, device=device) @ torch.zeros(1, device=device)
            left, total = torch.cuda.mem_get_info()
            self.free -= total - left - torch.cuda.memory_reserved()
            torch.cuda.set_per_process_memory_fraction(self.free / total)

    def machine(self, wish: Wish) -> Machine:
        """See `TransformerSource`; a float8 copy takes no CPU memory here, as its weights are drawn on the device."""
        copied = fp8_bytes(self.architecture, self.dtype)[0]
        machine = machine_on(self.device, self.architecture.head_dim, self.size, self.free, wish, copied)
        return machine if self.ram is None else replace(machine, free_cpu=self.ram)

    def place(self, performance: Performance, memory: int, beside: Sequence[Any], report: Report) -> Placed:
        """See `TransformerSource`: made block by block, so that no more is ever in memory than in the end."""
        started = time.perf_counter()
        with torch.inference_mode(False), torch.no_grad():
            placed = self._drawn(performance)
        self.build_seconds = time.perf_counter() - started
        return placed

    def identity(self) -> list[Any]:
        """See `TransformerSource`; nothing is gone on with here."""
        return []

    def _drawn(self, performance: Performance) -> Placed:
        device, dtype, config = self.device, self.dtype, self.architecture
        with torch.device("meta"):
            model = S2VTransformer(config, dtype)
        model.eval().requires_grad_(False)
        generator = torch.Generator(device).manual_seed(0)
        for name, child in model.named_children():
            if name not in ("blocks", "audio_injector"):
                fill(child, device, dtype, generator, f"{name}.")
        fill(model.audio_injector, device, dtype, generator)

        def draw(index: int) -> None:
            fill(model.blocks[index], device, dtype, generator)

        if performance.fp8:
            waiting = spread(performance.blocks_on_cpu, config.num_layers)
            return Placed(model, quantise_transformer(model, waiting, draw))
        for index in range(config.num_layers):
            draw(index)
        return Placed(model)


def drawn_inputs(card: Card, args: argparse.Namespace) -> Inputs:
    """What a session makes ``args.blocks`` blocks of; features of the speech are drawn, its sound is silence."""
    vae = random_vae(96 if args.config == "14b" else 8, card.device, card.dtype)
    scene = random_scene(card.architecture, args.size, args.blocks, card.device)
    raw = vae.denormalise(scene.reference), vae.denormalise(scene.motion)
    seconds = (args.blocks * BLOCK_FRAMES - PRE_ROLL_FRAMES) / FPS
    silence = {"waveform": torch.zeros(1, 1, round(seconds * SAMPLE_RATE)), "sample_rate": SAMPLE_RATE}
    speech = Speech.of([silence], encoder="drawn")
    speech.remember(ENGINE, lambda: scene.speech)
    return Inputs(card, OwnVAE(vae, card.device), Condition(scene.context, *raw, None), speech)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """One card and choice, in this process, through the session that nodes use."""
    device, wish = torch.device(args.device), Wish(args.choice)
    cuda = device.type == "cuda"
    config = S2VConfig() if args.config == "14b" else TINY
    ram = args.ram * GIB if args.ram else None
    card = Card(config, device, torch.bfloat16, args.card * GIB, ram)
    sampling, (width, height) = SamplingConfig(steps=args.steps), args.size
    costs = VideoCosts(Model(config, card.bytes, card.dtype, card.streams), height, width, sampling)
    plan = make_plan(costs, card.machine(wish), wish)
    print(plan.text, flush=True)
    performance = plan.performance

    recorder, kept = Recorder(Clock(device)), []
    BlockSampler.predict = recorder.timed("predict", BlockSampler.predict)
    finish = BlockSampler.finish_block

    def keep(sampler: BlockSampler, latents: Tensor) -> None:
        kept[:] = [latents.clone()]
        finish(sampler, latents)

    BlockSampler.finish_block = keep
    said: list[str] = []
    with torch.inference_mode():
        stream = open_video(drawn_inputs(card, args), sampling, wish, say=said.append)
        if cuda:
            torch.cuda.reset_peak_memory_stats()
        times = [time.perf_counter()]
        for block, _ in enumerate(stream.blocks()):
            times.append(time.perf_counter())
            if args.squeeze and block == sampling.clip_blocks:
                torch.cuda.empty_cache()
                left = card.free - torch.cuda.memory_reserved() - GIB // 2
                ballast = torch.empty(left, dtype=torch.uint8, device=device)  # noqa: F841
    blocks = [b - a for a, b in itertools.pairwise(times)]
    full = blocks[sampling.clip_blocks + 1 : -1]  # the last one has no other beside it
    steps = recorder.milliseconds("predict")[(sampling.clip_blocks + 1) * sampling.steps :]
    torch.save(kept[0].float().cpu(), args.latents)
    waiting = performance.blocks_on_cpu * fp8_bytes(config, card.dtype)[1]
    found = {
        "card GiB": args.card,
        "choice": args.choice,
        "plan": stream.plan,
        "performance": asdict(performance),
        "build s": card.build_seconds,
        "first frames s, cold": blocks[0] - card.build_seconds,
        "ms per step": statistics.median(steps),
        "ms per block": 1e3 * statistics.median(full),
        "FPS end to end": BLOCK_FRAMES / statistics.median(full),
        "planned GB": plan.needed / 1e9,
        "locked CPU GB": (plan.cpu + waiting) / 1e9,
        "said": [text for text in said if not text.startswith(plan.text)],
        "environment": environment(device),
    }
    if cuda:
        found["peak allocated GB"] = torch.cuda.max_memory_allocated() / 1e9
        found["peak reserved GB"] = torch.cuda.max_memory_reserved() / 1e9
        found |= bus_speed(device)
    return found


def bus_speed(device: torch.device, size: int = 2 * GIB) -> dict[str, float]:
    """GB/s at which CPU memory is locked, and at which it is copied to the device and back in one piece."""
    clock = Clock(device)
    locked_ms, memory = clock.wall(lambda: PinnedMemory(size))
    target = torch.empty(size, dtype=torch.uint8, device=device)
    to, back = (
        statistics.median(clock.wall(lambda: out.copy_(source))[0] for _ in range(5))  # noqa: B023
        for out, source in ((target, memory.bytes), (memory.bytes, target))
    )
    milliseconds = {"locked": locked_ms, "to the GPU": to, "from the GPU": back}
    return {f"{name} GB/s": size / 1e6 / took for name, took in milliseconds.items()}


def compare(report: list[dict[str, Any]], folder: Path) -> None:
    """Add each run's distance from the first one that computes in the model's own precision."""
    exact = next((run for run in report if "failed" not in run and not run["performance"]["fp8"]), None)
    if exact is None:
        return
    truth = torch.load(folder / exact["latents"], weights_only=True)
    for run in report:
        if "failed" not in run:
            ours = torch.load(folder / run["latents"], weights_only=True)
            run["error"] = float((ours - truth).norm() / truth.norm())
            run["cosine"] = float(torch.cosine_similarity(ours.flatten(), truth.flatten(), dim=0))


def show(report: list[dict[str, Any]]) -> None:
    columns = ["ms per step", "ms per block", "FPS end to end", "planned GB", "peak allocated GB"]
    columns += ["peak reserved GB", "locked CPU GB", "error"]
    rows = []
    for run in report:
        rows.append([run["card GiB"], run["choice"], run.get("plan", run.get("failed", "")).split(":")[0]])
        rows[-1] += [run.get(column, "") for column in columns]
        print("".join(f"{run['card GiB']} {run['choice']}: {text}\n" for text in run.get("said", [])), end="")
    print_table(["card GiB", "choice", "plan", *columns], rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", default=RUNS, help="GiB:choice")
    parser.add_argument("--size", default="704x384", help="width x height in pixels, multiples of 64")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--blocks", type=int, default=9)
    parser.add_argument("--config", choices=["14b", "tiny"], default="14b")
    parser.add_argument(
        "--squeeze", action="store_true", help="let something else take all free memory after the fifth block"
    )
    parser.add_argument(
        "--ram", type=int, help="GiB of CPU memory to lock at most; default: 80 %% of what is free"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write all figures to this file, after every run anew")
    parser.add_argument("--card", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--choice", help=argparse.SUPPRESS)
    parser.add_argument("--latents", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.size = tuple(int(side) for side in args.size.split("x"))
    return args


def run_all(args: argparse.Namespace) -> None:
    report: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for card, choice in (run.split(":") for run in args.runs):
            name, figures = f"{card}-{choice}.pt", folder / "figures.json"
            command = [sys.executable, "-m", "benchmarks.tiers", "--card", card, "--choice", choice]
            command += ["--size", "x".join(map(str, args.size)), "--steps", str(args.steps)]
            command += ["--blocks", str(args.blocks), "--config", args.config, "--device", args.device]
            command += ["--json", str(figures), "--latents", str(folder / name)]
            command += ["--squeeze"] * args.squeeze
            command += ["--ram", str(args.ram)] if args.ram else []
            print(f"\n{card} GiB, {choice}", flush=True)
            done = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
            if done.returncode == 0:
                report.append({**json.loads(figures.read_text()), "latents": name})
            else:
                last = done.stderr.strip().splitlines()[-1:]
                print(done.stderr[-2000:])
                report.append({"card GiB": int(card), "choice": choice, "failed": "".join(last)})
            compare(report, folder)
            save(report, args.json)
    show(report)


def save(report: Any, path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(report, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    arguments = parse()
    if arguments.card is None:
        run_all(arguments)
    else:
        save(measure(arguments), arguments.json)
