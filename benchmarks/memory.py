"""Resident memory over the length of a video, for each way in which a stream is consumed.

    python -m benchmarks.memory [--sinks file frames player core] [--seconds 10000] [--output memory.json]

The tiny checkpoint (random weights) at 64x64 in one step, with a VAE of width 1 so that hours pass in minutes: a
stream's memory does not depend on what the weights say. Every sink runs in a process of its own. The first tenth of a
run (at most a minute of video) warms up allocators and caches; the rest must stay within 2 %. An mp4's index has an
entry for every frame and sound packet, which libavformat collects: finishing a file takes memory for that for a moment
(shown apart), and copying one while it copies (allowed for: INDEX_BYTES per frame).

    file     Avatar Stream to Video's writer, with its journal and snapshots
    frames   the lazy images of Avatar Stream to Frames, as VideoHelperSuite's Video Combine reads them
    player   the writer with a live player that follows the stream
    core     the finished file as a VIDEO: packets copied, as the core's Save Video does
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import av
import psutil
import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.liveavatar.config import BLOCK_FRAMES, FPS, S2VConfig, SamplingConfig
from avatar.engines.liveavatar.pipeline import Scene, generate
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.state import GenerationState
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.liveavatar.transformer import load_transformer
from avatar.media.frames import AvatarStream, FrameStream, Resumable
from avatar.media.live import LiveStream
from avatar.media.recording import Snapshots, record
from avatar.media.writer import VideoWriter
from diffusers import AutoencoderKLWan

from tools.tiny_checkpoint import make

from .common import environment, print_table

SIDE = 64
SAMPLE_RATE = 16_000
LATENTS = SIDE // 8
ALLOWED = 0.02
WARM_UP_SECONDS = 60
SNAPSHOT_BYTES = 10**9
INDEX_BYTES = 100  # for a frame and its sound


@dataclass(frozen=True)
class Sample:
    """Frames made, seconds on the clock and bytes resident then."""

    frames: int
    time: float
    resident: int


class Watch:
    """Takes a `Sample` now and then."""

    def __init__(self, total: int) -> None:
        self._process, self._start = psutil.Process(), time.perf_counter()
        self._every, self._next = max(12, total // 200), 0
        self.samples: list[Sample] = []
        self.finished = 0

    def finish(self) -> None:
        """Call it once more, when all is closed."""
        self.finished = self._process.memory_info().rss

    def __call__(self, frames: int) -> None:
        if frames >= self._next:
            self._next = frames + self._every
            self.samples.append(
                Sample(frames, time.perf_counter() - self._start, self._process.memory_info().rss)
            )


def talking(folder: Path, seconds: float) -> AvatarStream:
    """A stream of the tiny model. Sound and features of hours are views of a second of them."""
    make(folder)
    model = load_transformer(folder / "tiny", torch.float32)
    torch.manual_seed(0)
    vae = WanVAE(AutoencoderKLWan(base_dim=1, decoder_base_dim=1).eval().requires_grad_(False))
    config: S2VConfig = model.config
    features = torch.randn(config.audio_layers, 1, config.audio_dim).expand(-1, round(seconds * 30) + 60, -1)
    scene = Scene(
        context=torch.randn(5, config.text_dim),
        reference=torch.randn(1, 16, 1, LATENTS, LATENTS),
        motion=torch.randn(1, 16, 19, LATENTS, LATENTS),
        speech=Tracks([features]),
    )
    sampling = SamplingConfig(steps=1, frames_per_clip=24)
    frames = round(seconds * FPS)
    audio = {
        "waveform": torch.zeros(1, 1, 1).expand(1, 1, round(seconds * SAMPLE_RATE)),
        "sample_rate": SAMPLE_RATE,
    }
    return AvatarStream(
        lambda state=None: generate(model, vae, scene, sampling, frames, state=state),
        frames=frames,
        width=SIDE,
        height=SIDE,
        fps=FPS,
        audio=audio,
        resumable=Resumable(lambda: "benchmark", GenerationState),
    )


def to_file(stream: AvatarStream, folder: Path, watch: Watch) -> Iterator[VideoWriter]:
    """Write the file; yields the writer after each block."""
    path = folder / "video.mp4"
    size = {"width": stream.width, "height": stream.height}
    with VideoWriter(path, **size, fps=stream.fps, audio=stream.audio, fingerprint="benchmark") as writer:
        for reached, _ in record(stream, writer, Snapshots(path, SNAPSHOT_BYTES)):
            watch(reached)
            yield writer


def file(stream: AvatarStream, folder: Path, watch: Watch) -> None:
    for _ in to_file(stream, folder, watch):
        pass


def frames(stream: AvatarStream, folder: Path, watch: Watch) -> None:
    images = FrameStream(stream)
    images[0].shape  # noqa: B018  (what Video Combine does first)
    for number, image in enumerate(images):
        (image * 255).to(torch.uint8).numpy().tobytes()
        watch(number + 1)


def player(stream: AvatarStream, folder: Path, watch: Watch) -> None:
    live = LiveStream(fps=stream.fps, total_frames=stream.frames, place={}, owner={})
    read, ended = 0, threading.Event()

    def follow() -> None:
        nonlocal read
        with live.reader():
            while not ended.is_set() or read < live.size:
                piece = live.read(read, 256 * 1024)
                read += len(piece)
                if not piece:
                    time.sleep(0.01)

    blocks = to_file(stream, folder, watch)
    writer = next(blocks)
    with live.readable(writer.path):
        live.advance(writer.frames_written, writer.mime_type, joinable=writer.joinable)
        reader = threading.Thread(target=follow)
        reader.start()
        for writer in blocks:
            live.advance(writer.frames_written, writer.mime_type, joinable=writer.joinable)
            live.status()
            if writer.frames_written == stream.frames:
                ended.set()
                reader.join()


def core(stream: AvatarStream, folder: Path, watch: Watch) -> None:
    """A finished file handed on: only the copying is watched, so its frames need no model."""
    block = torch.randint(256, (BLOCK_FRAMES, SIDE, SIDE, 3), dtype=torch.uint8)
    with VideoWriter(folder / "video.mp4", width=SIDE, height=SIDE, audio=stream.audio) as writer:
        while writer.frames_written < stream.frames:
            writer.write(block)
    seen = 0
    with av.open(str(folder / "video.mp4")) as source, av.open(str(folder / "copy.mp4"), "w") as out:
        streams = {one: out.add_stream_from_template(one, opaque=True) for one in source.streams}
        for packet in source.demux():
            if packet.dts is None:
                continue
            if packet.stream.type == "video":
                seen += 1
                watch(seen)
            packet.stream = streams[packet.stream]
            out.mux(packet)


SINKS: dict[str, Callable[[AvatarStream, Path, Watch], None]] = {
    "file": file,
    "frames": frames,
    "player": player,
    "core": core,
}


def measure(sink: str, seconds: float) -> dict:
    """Run one sink in this process; figures in bytes and seconds."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stream = talking(folder, seconds)
        watch = Watch(stream.frames)
        SINKS[sink](stream, folder, watch)
        watch.finish()
    warm = min(WARM_UP_SECONDS, seconds / 10) * FPS
    after = [sample.resident for sample in watch.samples if sample.frames >= warm]
    return {
        "sink": sink,
        "seconds": seconds,
        "frames": stream.frames,
        "took": watch.samples[-1].time,
        "warm": after[0],
        "last": after[-1],
        "greatest": max(after),
        "growth": (max(after) - (INDEX_BYTES * stream.frames if sink == "core" else 0)) / after[0] - 1,
        "finished": watch.finished,
        "samples": [asdict(sample) for sample in watch.samples],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Resident memory over the length of a video.")
    parser.add_argument("--sinks", nargs="+", choices=SINKS, default=list(SINKS))
    parser.add_argument("--seconds", type=float, default=10_000)
    parser.add_argument("--output", type=Path, help="write everything as JSON")
    parser.add_argument("--one", choices=SINKS, help=argparse.SUPPRESS)  # in this process, JSON to stdout
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one, arguments.seconds)))
        return
    found = []
    for sink in arguments.sinks:
        command = [
            sys.executable,
            "-m",
            "benchmarks.memory",
            "--one",
            sink,
            "--seconds",
            str(arguments.seconds),
        ]
        found.append(
            json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
        )
    print_table(
        [
            "sink",
            "seconds of video",
            "frames",
            "took s",
            "warm MB",
            "last MB",
            "greatest MB",
            "growth %",
            "finished MB",
            "flat",
        ],
        [
            [
                row["sink"],
                row["seconds"],
                row["frames"],
                row["took"],
                *(row[name] / 1e6 for name in ("warm", "last", "greatest")),
                100 * row["growth"],
                row["finished"] / 1e6,
                "yes" if row["growth"] <= ALLOWED else "NO",
            ]
            for row in found
        ],
    )
    if arguments.output:
        about = environment(torch.device("cpu"))
        arguments.output.write_text(json.dumps({"environment": about, "sinks": found}, indent=1) + "\n")
    if any(row["growth"] > ALLOWED for row in found):
        sys.exit("Memory grows.")


if __name__ == "__main__":
    main()
