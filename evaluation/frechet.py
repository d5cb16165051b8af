"""FID of a folder against real videos, by torch-fidelity. Only for videos of the same kind: see docs/EVALUATION.md."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from .clip import open_file

SECONDS = 1.0
LEAST_CLIPS = 256
"""FVD of fewer clips says nothing: its covariance has 400 rows."""


def frechet(made: Sequence[Path], real: Sequence[Path], weights: Path | None) -> dict[str, Any]:
    """ "FID" of one frame per second, or the reason why there is none.

    ``weights`` is torch-fidelity's Inception file (weights-inception-2015-12-05-6726825d.pth).
    """
    fewest = min(len(made), len(real))
    told = {
        "FVD": f"skipped: it needs {LEAST_CLIPS} clips on both sides and an I3D network; there are {fewest}."
    }
    if importlib.util.find_spec("torch_fidelity") is None:
        return {"FID": "skipped: install torch-fidelity.", **told}
    if weights is None or not weights.is_file():
        return {"FID": "skipped: give --inception torch-fidelity's weight file.", **told}
    _check(weights)
    from torch_fidelity import calculate_metrics

    with tempfile.TemporaryDirectory() as folder:
        sides = [_frames(paths, Path(folder) / name) for name, paths in (("made", made), ("real", real))]
        found = calculate_metrics(
            input1=str(sides[0]),
            input2=str(sides[1]),
            fid=True,
            cuda=torch.cuda.is_available(),
            verbose=False,
            feature_extractor_weights_path=str(weights),
        )
    return {"FID": round(float(found["frechet_inception_distance"]), 3), **told}


def _check(weights: Path) -> None:
    """torch-fidelity runs whatever code lies in the file, so nothing but tensors may."""
    try:
        torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a kind of its own for each fault
        raise ValueError(
            f"Download {weights} again: it has more in it than torch-fidelity's weights, or is damaged."
        ) from error


def _frames(paths: Sequence[Path], folder: Path) -> Path:
    folder.mkdir()
    for number, path in enumerate(paths):
        wanted = 0.0
        for piece in open_file(path).pieces():
            for time, frame in zip(piece.times.tolist(), piece.frames, strict=True):
                if time >= wanted - 1e-6:
                    Image.fromarray(frame.numpy()).save(folder / f"{number:05}_{time:09.3f}.png")
                    wanted += SECONDS
    return folder
