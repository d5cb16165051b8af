"""What a video loses in its file: change at the borders of blocks, size, and how near its frames are.

    python -m benchmarks.files                      # 12 s of the tiny talker
    python -m benchmarks.files clip.mkv --crf 18 23 # frames of another video; a lossless one is best

Change is that of `evaluation`, on the frames themselves and on those of the written file. Borders where the file has a
key frame stand apart, since a key frame shows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.liveavatar.config import BLOCK_FRAMES, SamplingConfig
from avatar.engines.parts.planning.plan import Wish
from avatar.engines.parts.wan.geometry import TEMPORAL_STRIDE
from avatar.evaluation.metric import Layout
from avatar.evaluation.metrics.seams import BLOCKS, INSIDE, LATENTS, places
from avatar.evaluation.readers.difference import mean_difference
from avatar.media.mapped_sound import map_audio
from avatar.media.portrait import read_portrait
from avatar.media.speech import Speech
from avatar.media.writer import VideoWriter
from avatar.sessions.folder import FolderAvatar

from tools import talker as shipped

from .common import environment, print_table

FIRST = 9
LAYOUT = Layout(BLOCK_FRAMES, TEMPORAL_STRIDE, FIRST)
COLUMNS = ["inside latents", "between latents", "between blocks", "at key frames", "other borders"]


def talker() -> np.ndarray:
    """The frames of the tiny talker's example, uint8 [F, H, W, 3]."""
    avatar = FolderAvatar(shipped.BASE, shipped.lora(), torch.device("cpu"), torch.float32)
    speech = Speech.of([map_audio(shipped.EXAMPLE / "speech.ogg")], avatar.speech_encoder)
    portrait, config = read_portrait(shipped.EXAMPLE / "portrait.png"), SamplingConfig(seed=42)
    stream = avatar.open(portrait, speech, (shipped.SIDE, shipped.SIDE), config, Wish("auto"))
    return torch.cat(list(stream.blocks()))[: stream.frames].numpy()


def read(path: Path) -> tuple[np.ndarray, list[int]]:
    """The frames of a video, and the numbers of its key frames."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    shown = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    return shown, [number for number, frame in enumerate(frames) if frame.key_frame]


def changes(frames: np.ndarray, keys: list[int]) -> list[float | str]:
    """The mean changes of COLUMNS; nothing where there is no such place."""
    change = np.array([mean_difference(a, b) for a, b in zip(frames[1:], frames[:-1], strict=True)])
    place = places(len(change), LAYOUT).numpy()
    key = np.isin(np.arange(1, len(frames)), keys)
    border = place == BLOCKS
    chosen = (place == INSIDE, place == LATENTS, border, key, border & ~key)
    return [float(change[one].mean()) if one.any() else "" for one in chosen]


def blocks(frames: np.ndarray) -> Iterator[torch.Tensor]:
    """The frames as an engine gives them."""
    yield from torch.from_numpy(frames).tensor_split([*range(FIRST, len(frames), BLOCK_FRAMES)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("video", type=Path, nargs="?", help="default: the tiny talker makes its example")
    parser.add_argument("--crf", type=int, nargs="+", default=[18])
    args = parser.parse_args()
    with torch.inference_mode():
        frames = talker() if args.video is None else read(args.video)[0]
    _, height, width, _ = frames.shape
    rows = [("the frames", *changes(frames, []), "", "", "")]
    with tempfile.TemporaryDirectory() as folder:
        for crf in args.crf:
            path, took = Path(folder) / f"{crf}.mp4", []
            with VideoWriter(path, width=width, height=height, crf=crf) as writer:
                for block in blocks(frames):
                    start = time.process_time()
                    writer.write(block)
                    took.append(1e3 * (time.process_time() - start))
            shown, keys = read(path)
            wrong = float(
                np.mean([np.square(a - b.astype(float)).mean() for a, b in zip(shown, frames, strict=True)])
            )
            psnr = 10 * np.log10(255**2 / wrong)
            rows.append(
                (f"CRF {crf}", *changes(shown, keys), path.stat().st_size / 1e3, psnr, np.median(took))
            )
    print(environment(torch.device("cpu")))
    print(f"{len(frames)} frames of {width}x{height}; change of 255")
    print_table(["", *COLUMNS, "kB", "PSNR, dB", "CPU ms per block"], rows)


if __name__ == "__main__":
    main()
