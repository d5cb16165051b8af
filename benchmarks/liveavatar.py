"""Speed and memory of LiveAvatar at full size with random weights: no checkpoint is needed.

    python -m benchmarks.liveavatar                                        # 14B, bf16, 704x384, 4 steps
    python -m benchmarks.liveavatar --size 384x256 --profile --json out.json
    python -m benchmarks.liveavatar --fp8 --decoder fast                      # TAEHV's decoder in place of the VAE's
    python -m benchmarks.liveavatar --config tiny --size 128x64 --device cpu  # a dry run

A block is 3 latent frames, 12 video frames. "Cold" is the first run in the process, with the weights in
place; "warm" is a later one. "Full" is a block that sees the whole attention window. Device times come from
CUDA events that are recorded while the engine runs freely; times to the first frame and end to end are the
host's, up to uint8 frames in its memory. Prints tables and, with --json, writes the same figures with the
environment.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.gpu.chain import on
from avatar.engines.gpu.fp8 import require_fp8
from avatar.engines.gpu.generation import indexed
from avatar.engines.gpu.replica import replica
from avatar.engines.gpu.transfer import fetch
from avatar.engines.liveavatar.condition import PRE_ROLL_FRAMES, PRIME_LATENTS, encode_reference
from avatar.engines.liveavatar.config import BLOCK_FRAMES, BLOCK_LATENTS, S2VConfig, SamplingConfig
from avatar.engines.liveavatar.fp8_blocks import quantise_transformer
from avatar.engines.liveavatar.pipeline import generate
from avatar.engines.liveavatar.relay import decoders
from avatar.engines.liveavatar.stages import Stage, generate_in_stages
from avatar.engines.liveavatar.transformer import S2VTransformer
from avatar.engines.parts.planning.performance import Performance
from avatar.engines.parts.planning.sharing import DECODING, DECODING_FAST, IN_TURN, Share, ways
from avatar.engines.parts.wan.streaming import to_uint8_frames
from avatar.engines.parts.wan.vae import WanVAE
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from .common import (
    ATTENTION,
    Clock,
    Figure,
    Recorder,
    ceilings,
    environment,
    print_profile,
    print_table,
    profiled,
)
from .liveavatar_models import (
    TINY,
    cache_format,
    cache_state,
    check_precision,
    floating_point_operations,
    random_fast_decoder,
    random_scene,
    random_transformer,
    random_vae,
    sampler_for,
)

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass
class Models:
    """What configurations can share: the transformer, and the VAE if there is one."""

    transformer: S2VTransformer
    vae: WanVAE | None
    fp8: bool = False
    replicas: dict[torch.device, S2VTransformer] = field(default_factory=dict)

    def on(self, device: torch.device) -> S2VTransformer:
        """The transformer, or a copy of it that is kept on another GPU."""
        source = self.transformer.blocks[0].modulation.device
        if device == source:
            return self.transformer
        if device not in self.replicas:
            self.replicas[device] = replica(self.transformer, source, device)
        return self.replicas[device]

    def quantise(self) -> None:
        """Turn the transformer's blocks to float8, for good."""
        require_fp8(self.transformer.blocks[0].modulation.device)
        self.replicas.clear()
        quantise_transformer(self.transformer)
        self.fp8 = True


class Benchmark:
    """One configuration on one device: `run` measures everything and returns the report.

    ``models``: those of an earlier one; by default they are drawn.
    """

    def __init__(self, args: argparse.Namespace, models: Models | None = None) -> None:
        self.args, self.models = args, models
        self.device, self.dtype = indexed(torch.device(args.device)), DTYPES[args.dtype]
        self.clock = Clock(self.device)
        self.config = S2VConfig() if args.config == "14b" else TINY
        if args.layers:
            kept = tuple(i for i in self.config.audio_inject_layers if i < args.layers)
            self.config = replace(self.config, num_layers=args.layers, audio_inject_layers=kept)
        self.sampling = SamplingConfig(steps=args.steps, skip_last_step=args.skip_last_step)
        self.performance = Performance(
            args.fp8,
            cache_format(args.int8_caches, args.attention8),
            ahead=not args.no_ahead,
            graphs=args.graphs,
        )
        self.full = 1 + self.sampling.clip_blocks * (1 + args.graphs)
        """The first block that sees a full window and neither prefills nor captures anything."""
        self.shown = "fast decoder" if args.decoder == "fast" else "VAE"

    def run(self) -> dict[str, Any]:
        args, clock = self.args, self.clock
        report: dict[str, Any] = {"flags": vars(args), "environment": environment(self.device)}
        print(json.dumps(report["environment"]))
        build_ms, _ = clock.wall(self.build)
        modules = [module for module in (self.model, self.vae and self.vae.model, self.network) if module]
        tensors = [x for module in modules for x in (*module.parameters(), *module.buffers())]
        weights = sum(x.numel() * x.element_size() for x in tensors) / 1e9
        print(f"weights {weights:.1f} GB, drawn in {build_ms / 1e3:.1f} s\n", flush=True)
        with self._attention():
            report |= self.measure()
            if clock.cuda:
                report["memory_GB"]["weights"] = weights
            if not self.stages:
                report["caches"] = cache_state(self.sampler)
                if args.profile:
                    report["profile"] = self._profile()
        self.sampler = self.model = self.models = None
        self.stages = []
        gc.collect()
        report["step_TFLOP"] = self._operations()
        if clock.cuda:
            report["ceilings"] = ceilings(self.device, self.dtype)
        return report

    def measure(self) -> dict[str, Any]:
        """Cold and warm times, and the peak of memory."""
        report: dict[str, Any] = {"cold_ms": self.first_use()}
        used = {self.device, *(stage.device for stage in self.stages)}
        if self.clock.cuda:
            for device in used:
                torch.cuda.reset_peak_memory_stats(device)
        report["times_ms"] = {**self._whole(), **(self._alone() if self.stages else self._parts())}
        report["gpus"] = " / ".join(share.text for share in self.shares)
        if self.clock.cuda:
            report["memory_GB"] = {
                "peak allocated": max(torch.cuda.max_memory_allocated(device) for device in used) / 1e9,
                "peak reserved": max(torch.cuda.max_memory_reserved(device) for device in used) / 1e9,
            }
        report["fps"] = self._fps(report["times_ms"])
        return report

    def build(self) -> None:
        """Draw what is not given."""
        args = self.args
        torch.manual_seed(0)
        if self.models is None:
            self.models = self._draw_models()
        if args.fp8 and not self.models.fp8:
            self.models.quantise()
        if self.models.fp8 and not args.fp8:
            raise ValueError("These models are in float8 for good; measure what needs bf16 first.")
        self.model, self.vae = self.models.transformer, self.models.vae
        self.decoder = self.vae
        self.network = None
        if args.decoder == "fast":
            self.decoder = random_fast_decoder(self.device, self.dtype)
            self.network = self.decoder.network
        self.scene = random_scene(self.config, args.size, args.blocks, self.device)
        columns, rows = args.size
        portrait = torch.rand(1, 3, 1, rows, columns, generator=torch.Generator().manual_seed(2))
        self.portrait = portrait.mul_(2).sub_(1)
        self.shares = self._shares()
        places = [(share.device or self.device, share.steps) for share in self.shares if share.steps]
        self.stages = [Stage(self.models.on(device), steps, device) for device, steps in places]
        self.decoders = decoders(self.decoder, self.shares) if self.stages else []

    def _shares(self) -> list[Share]:
        """Which GPU does what; on a CPU all stages are on it. None on a single one."""
        args, decoding = self.args, DECODING_FAST if self.args.decoder == "fast" else DECODING
        if args.gpus == 1:
            return []
        if self.clock.cuda and args.gpus > torch.cuda.device_count():
            raise ValueError(f"--gpus is {args.gpus}, and there are {torch.cuda.device_count()}.")
        found = ways(self.sampling.forwards, args.gpus, decoding, args.decoders or IN_TURN)
        if args.decoders:
            found = [way for way in found if len(way.decoders) == args.decoders]
        if args.share:
            found = [way for way in found if [len(steps) for steps in way.steps] == args.share]
        if not found:
            raise ValueError(
                f"--share or --decoders do not fit {self.sampling.forwards} forwards on {args.gpus} GPUs."
            )
        chosen, last = found[0], len(found[0].steps) - 1
        others = [torch.device("cuda", index) for index in range(args.gpus)] if self.clock.cuda else []
        others = [device for device in others if device != self.device] or [self.device] * args.gpus
        devices = [*others[:last], None]
        return [
            Share(device, steps, number in chosen.decoders, 0, 0)
            for number, (device, steps) in enumerate(zip(devices, chosen.steps, strict=True))
        ]

    def _draw_models(self) -> Models:
        width = 96 if self.args.config == "14b" else 8
        vae = None if self.args.no_vae else random_vae(width, self.device, self.dtype)
        return Models(random_transformer(self.config, self.device, self.dtype), vae)

    def _attention(self) -> contextlib.AbstractContextManager:
        if self.args.attention == "auto":
            return contextlib.nullcontext()
        return sdpa_kernel([ATTENTION[self.args.attention], *ATTENTION.values()], set_priority=True)

    def video(self) -> Iterator[Tensor]:
        """The product's own loop, or, without a VAE, blocks of latents on the host."""
        if self.vae is not None:
            frames = self.args.blocks * BLOCK_FRAMES - PRE_ROLL_FRAMES
            if self.stages:
                make = partial(generate_in_stages, self.stages, self.decoders)
            else:
                make = partial(generate, self.model, self.decoder)
            yield from make(self.scene, self.sampling, frames, performance=self.performance)
            return
        sampler = sampler_for(self.model, self.scene, self.sampling, self.performance)
        for features in itertools.islice(self.scene.speech.blocks(), self.args.blocks):
            yield sampler.next_block(features).cpu()

    def _timed_video(self) -> list[float]:
        """Milliseconds from the start to the first block, then from block to block."""
        self.clock.synchronize()
        times = [time.perf_counter()]
        for _ in self.video():
            times.append(time.perf_counter())
        return [(b - a) * 1e3 for a, b in itertools.pairwise(times)]

    def first_use(self) -> dict[str, float]:
        """The process's first run: it loads kernels, chooses algorithms, compiles and allocates."""
        found = {}
        if self.vae is not None:
            found["encode portrait"], latents = self.clock.wall(
                lambda: encode_reference(self.vae, self.portrait)
            )
            self.scene = replace(self.scene, reference=latents[0], motion=latents[1])
        found["first frames"] = self._timed_video()[0]
        return found

    def _whole(self) -> dict[str, Figure]:
        """Warm runs of the whole, on the host's clock."""
        found = {}
        if self.vae is not None:
            encode = [self.clock.wall(lambda: encode_reference(self.vae, self.portrait))[0] for _ in range(3)]
            found["encode portrait"] = Figure.of(encode)
        first, *later = self._timed_video()
        firsts = [first]
        for _ in range(2):
            video = self.video()
            firsts.append(self.clock.wall(lambda video=video: next(video))[0])
            video.close()
        found["first frames"] = Figure.of(firsts)
        # The last ones have no other beside them.
        steady = later[self.full - 1 : -max(1, len(self.shares))]
        if self.args.graphs:
            window = self.sampling.clip_blocks
            found["end to end per block, capturing"] = Figure.of(later[window - 2 : 2 * window - 1])
        if self.stages:  # blocks do not come out evenly
            found["end to end per block"] = replace(Figure.of(steady), median=statistics.mean(steady))
        else:
            found["end to end per block"] = Figure.of(steady)
        return found

    def _alone(self) -> dict[str, Figure]:
        """A full block in each stage while the others rest, and its decoding."""
        found = {f"stage {n}, alone": self._stage_alone(stage) for n, stage in enumerate(self.stages, 1)}
        if self.vae is not None:
            stream = self.decoder.stream()
            stream.prime(self.scene.motion[:, :, :PRIME_LATENTS])
            latents = self.scene.motion[:, :, :BLOCK_LATENTS]
            times = [self.clock.wall(lambda: _on_host(stream(latents)))[0] for _ in range(4)]
            found[f"{self.shown} decode, alone"] = Figure.of(times[1:])
        return found

    def _stage_alone(self, stage: Stage) -> Figure:
        scene, clock, times = self.scene.on(stage.device), Clock(stage.device), []
        sampler = sampler_for(stage.model, scene, self.sampling, self.performance, stage.steps)
        given = torch.randn_like(scene.motion[:, :, :BLOCK_LATENTS]).to(self.dtype)
        sampler.first_latent = given[:, :, :1]
        with on(stage.device):
            for features in itertools.islice(self.scene.speech.blocks(), self.full + 3):
                times.append(clock.wall(partial(sampler.next_block, features, latents=given))[0])
        return Figure.of(times[self.full :])

    def _parts(self) -> dict[str, Figure]:
        """Warm runs of the parts, on the device's clock."""
        args, recorder = self.args, Recorder(self.clock)
        gc.collect()
        sampler = self.sampler = sampler_for(self.model, self.scene, self.sampling, self.performance)
        for method in ("set_condition", "prepare_block", "predict", "next_block"):
            recorder.watch(sampler, method)
        for _ in range(3):
            sampler.set_condition(self.scene.reference, self.scene.motion)
        decode = self.decode = to_frames = None
        if self.vae is not None:
            stream = self.decoder.stream()
            recorder.timed("prime", stream.prime)(self.scene.motion[:, :, :PRIME_LATENTS])
            self.decode = stream
            decode, to_frames = recorder.timed("decode", stream), recorder.timed("frames", _on_host)
        for features in itertools.islice(self.scene.speech.blocks(), args.blocks):
            latents = sampler.next_block(features)
            if decode is not None:
                to_frames(decode(latents))
        self.latents = latents
        steps, blocks = recorder.milliseconds("predict"), recorder.milliseconds("next_block")
        prefills = recorder.milliseconds("set_condition")
        forwards = self.sampling.forwards
        found = {
            "prefill": Figure.of(prefills[:3]),
            "speech and positions per block": Figure.of(recorder.milliseconds("prepare_block")),
        }
        for block in range(self.full - 1):
            found[f"step, block {block + 1}"] = Figure.of(steps[block * forwards : (block + 1) * forwards])
        found["step, full"] = Figure.of(steps[self.full * forwards :])
        found["block, full"] = Figure.of(blocks[self.full :])
        found["block with new reference"] = Figure.of(blocks[self.full - 1 : self.full])
        if self.vae is not None:
            found[f"{self.shown} prime"] = Figure.of(recorder.milliseconds("prime"))
            found[f"{self.shown} decode per block"] = Figure.of(recorder.milliseconds("decode")[1:])
            found["frames to the host"] = Figure.of(recorder.milliseconds("frames")[1:])
        return found

    def _profile(self) -> dict[str, Any]:
        """One full block of the transformer and one of the decoder; the profiler itself adds idle time."""
        features = next(self.scene.speech.blocks(first=self.args.blocks - 1))
        profiled(lambda: self.latents + 1, self.device)  # starting the profiler takes time once
        found = {"transformer, one block": profiled(lambda: self.sampler.next_block(features), self.device)}
        if self.vae is not None:
            decode = lambda: _on_host(self.decode(self.latents))  # noqa: E731
            found[f"{self.shown}, one block"] = profiled(decode, self.device)
        return found

    def _operations(self) -> dict[str, float]:
        width, height = self.args.size
        tokens = (width // 16) * (height // 16)
        keys = tokens * 5 // 2 + tokens * self.sampling.clip_latents
        return floating_point_operations(self.config, tokens * BLOCK_LATENTS, keys)

    def _fps(self, times: dict[str, Figure]) -> dict[str, float]:
        parts = {
            "DiT alone": "block, full",
            f"{self.shown} alone": f"{self.shown} decode per block",
            "end to end": "end to end per block",
        }
        return {name: BLOCK_FRAMES * 1e3 / times[key].median for name, key in parts.items() if key in times}


def _on_host(pixels: Tensor) -> Tensor:
    return fetch(to_uint8_frames(pixels))()


def show(report: dict[str, Any]) -> None:
    """Print a report's figures as tables."""
    flags = report["flags"]
    title = "{config}, {size[0]}x{size[1]}, {steps} steps, {dtype}, attention {attention}, {decoder} decoder"
    title = title.format(**flags)
    chosen = [name for name in ("fp8", "int8_caches", "attention8") if flags[name]]
    print(", ".join([title, *chosen, *([report["gpus"]] if report["gpus"] else [])]))
    rows = [[f"{name} (cold)", ms, "", "", 1] for name, ms in report["cold_ms"].items()]
    rows += [[name, *asdict(figure).values()] for name, figure in report["times_ms"].items()]
    print_table(["ms", "median", "min", "max", "n"], rows)
    print_table(["FPS", ""], list(report["fps"].items()))
    for name in ("memory_GB", "ceilings"):
        if name in report:
            print_table([name, ""], list(report[name].items()))
    if "caches" in report:
        step, work = report["times_ms"]["step, full"].median, report["step_TFLOP"]
        print_table(
            ["TFLOP of a full step", ""], [*work.items(), ["per second", sum(work.values()) / step * 1e3]]
        )
        print_table(list(report["caches"][0]), [list(cache.values()) for cache in report["caches"]])
    for name, found in report.get("profile", {}).items():
        print_profile(name, found)


def show_precision(found: list[dict[str, Any]]) -> None:
    print("Small model on this device against float32 on the CPU")
    rows = [[e["kind"], e["block"], f"{e['relative error']:.1e}", f"{e['cosine']:.6f}"] for e in found]
    print_table(["kind", "block", "relative error", "cosine"], rows)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="704x384", help="width x height in pixels, multiples of 64")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps per block")
    parser.add_argument(
        "--skip-last-step", action="store_true", help="leave out each block's last forward pass"
    )
    parser.add_argument("--graphs", action="store_true", help="replay denoising steps as CUDA graphs")
    parser.add_argument("--gpus", type=int, default=1, help="GPUs that share the steps of a block")
    parser.add_argument("--share", help="steps of each GPU, such as 3+1")
    parser.add_argument("--decoders", type=int, help="GPUs that decode in turn")
    parser.add_argument(
        "--blocks", type=int, default=12, help="blocks per run; those with a full window count"
    )
    parser.add_argument("--dtype", choices=DTYPES, default="bf16", help="of the weights and hidden states")
    parser.add_argument("--config", choices=["14b", "tiny"], default="14b")
    parser.add_argument("--layers", type=int, help="fewer layers than the configuration has")
    parser.add_argument(
        "--attention", choices=["auto", *ATTENTION], default="auto", help="the kernel to prefer"
    )
    parser.add_argument(
        "--fp8", action="store_true", help="multiply the transformer's large matrices in float8"
    )
    parser.add_argument("--int8-caches", action="store_true", help="keep keys and values in 8 bits")
    parser.add_argument("--attention8", action="store_true", help="attend to keys and values in 8 bits")
    parser.add_argument(
        "--decoder",
        choices=["full", "fast"],
        default="full",
        help="the VAE's own, or one of TAEHV's size in its place",
    )
    parser.add_argument(
        "--no-ahead", action="store_true", help="wait for each block's frames before the next is begun"
    )
    parser.add_argument("--no-vae", action="store_true", help="leave out portrait, decoder and frames")
    parser.add_argument("--profile", action="store_true", help="where the time of one block goes")
    parser.add_argument(
        "--no-check", action="store_true", help="leave out the comparison with float32 on the CPU"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    args = parser.parse_args(arguments)
    try:
        width, height = (int(side) for side in args.size.split("x"))
    except ValueError:
        parser.error(f"--size is {args.size}; write it like 704x384.")
    if width % 64 or height % 64 or min(width, height) < 64:
        parser.error(f"--size is {args.size}; both sides must be multiples of 64.")
    args.size = (width, height)
    if args.decoder == "fast" and args.no_vae:
        parser.error("--decoder fast and --no-vae exclude each other.")
    if args.gpus > 1 and (args.no_vae or args.profile):
        parser.error("--gpus goes with neither --no-vae nor --profile.")
    if args.share:
        args.share = [int(steps) for steps in args.share.split("+")]
    least = SamplingConfig().clip_blocks * (1 + args.graphs) + 3 + 2 * (args.gpus - 1)
    if args.blocks < least:
        parser.error(f"--blocks is {args.blocks}; at least {least} are needed to see a full window.")
    return args


def main() -> None:
    args = parse()
    benchmark = Benchmark(args)
    report = benchmark.run()
    show(report)
    save(report, args.json)
    if args.no_check:
        return
    # Last, since it takes as long as the rest.
    report["precision"] = check_precision(benchmark.device, benchmark.dtype, benchmark.performance)
    show_precision(report["precision"])
    save(report, args.json)


def save(report: dict[str, Any], path: Path | None) -> None:
    if path:
        text = json.dumps(report, indent=1, default=lambda x: asdict(x) if isinstance(x, Figure) else str(x))
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
