"""Measures videos, and says by its exit code whether a limit is broken.

    python -m evaluation FOLDER --reference portrait.png --face 0.3,0.2,0.7,0.7 --blocks 12,4,9 --out report
    python -m evaluation genbench --portraits FOLDER --voices FOLDER --out bench --command '...'

The first writes report.html, report.json and a picture per video; videos that are measured already are not measured
again. The second makes the videos of a list first. Exit code: 0 fine, 1 a limit is broken, 2 nothing or not all could
be measured.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..engines.parts.face.boxes import FaceFinder, HaarFinder, YuNetFinder
from . import genbench
from .folder import Job, find_videos, run
from .frechet import frechet
from .instruments import load_instruments
from .quality_process import QAlign
from .subjects import layout_of, read_picture

NETWORKS = {
    "dino": "folder of facebook/dinov2-base: Dino-S and its slope",
    "syncnet": "file syncnet_v2.model: Sync-C, Sync-D, offset",
    "speaker": "folder of microsoft/wavlm-base-plus-sv: speaker similarity",
    "whisper": "folder of openai/whisper-small: WER and language",
    "qalign": "Python that has transformers 4.37, for Q-Align in a process of its own",
    "qalign-model": "folder of q-future/one-align, whose code that process runs",
    "yunet": "OpenCV's face detector face_detection_yunet_2023mar.onnx",
    "inception": "torch-fidelity's weights, for FID against --real",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if arguments[:1] == ["genbench"]:
            return genbench.main(arguments[1:])
        return evaluate(parser().parse_args(arguments))
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        print(error, file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    made = argparse.ArgumentParser(
        "evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("videos", type=Path, nargs="+", help="folders of videos, or videos")
    made.add_argument("--out", type=Path, default=Path("report"), help="folder of the report")
    made.add_argument("--reference", type=Path, help="the portrait of all videos")
    made.add_argument("--real", type=Path, nargs="+", help="real videos of the same kind, for FID")
    made.add_argument("--face", type=_parts, help="face as left,top,right,bottom in parts of the frame")
    made.add_argument(
        "--mouth", type=_parts, help="mouth in the same way; default: where it is in an upright face"
    )
    made.add_argument("--eyes", type=_parts, help="eyes in the same way")
    made.add_argument(
        "--blocks", type=_blocks, help="frames per block, per latent, first frame of a block: 12,4,9"
    )
    made.add_argument("--language", help="the language that should be spoken, such as en, es or zh")
    made.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for name, text in NETWORKS.items():
        made.add_argument(f"--{name}", type=Path, help=text)
    return made


def evaluate(args: argparse.Namespace) -> int:
    """Measure, write, and judge."""
    videos = find_videos(args.videos)
    common: dict[str, Any] = {
        name: value
        for name in ("face", "mouth", "eyes", "blocks", "language")
        if (value := getattr(args, name))
    }
    if ("mouth" in common or "eyes" in common) and "face" not in common:
        raise ValueError("Give --face as well: mouth and eyes alone are no face.")
    paths = {name.replace("-", "_"): getattr(args, name.replace("-", "_")) for name in NETWORKS}
    if (paths["qalign"] is None) != (paths["qalign_model"] is None):
        raise ValueError("Give --qalign and --qalign-model together.")
    settings = {
        **common,
        **{name: str(path) for name, path in paths.items() if path},
        "reference": str(args.reference),
    }
    job = Job(videos, args.out, common, read_picture(args.reference) if args.reference else None, settings)
    if args.device == "cpu" and not any(paths.values()):
        torch.set_num_threads(
            1
        )  # without networks all steps are short, and threads would only wait for each other
    tools = load_instruments(paths, torch.device(args.device), finder(paths["yunet"]))
    judge = QAlign(paths["qalign"], paths["qalign_model"]) if paths["qalign"] else None
    try:
        scores = frechet(videos, find_videos(args.real), paths["inception"]) if args.real else {}
        total = run(job, replace(tools, qalign=judge), _say, _bar, scores)
    finally:
        if judge is not None:
            judge.close()
    print(f"{args.out / 'report.html'}: {len(total['videos'])} measured, {len(total['failed'])} scores fail")
    if total["not measured"]:
        return 2
    return 1 if total["failed"] else 0


def finder(yunet: Path | None) -> FaceFinder | None:
    """OpenCV's face finder, with the file that is given or with the older one that some OpenCV carry; else None."""
    if yunet is not None:
        return YuNetFinder(yunet)
    try:
        return HaarFinder()
    except (ImportError, AttributeError):  # OpenCV 5 has no such models
        return None


def _parts(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _blocks(text: str) -> list[int]:
    numbers = [int(part) for part in text.split(",")]
    layout_of(numbers)
    return numbers


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)
    print(text, flush=True)


def _bar(name: str, done: int, total: int) -> None:
    if sys.stderr.isatty() and total:
        filled = 30 * done // total
        print(
            f"\r{'█' * filled}{'·' * (30 - filled)} {done}/{total} {name[:40]}",
            end="",
            file=sys.stderr,
            flush=True,
        )
