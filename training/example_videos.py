"""The shipped pose video and driving video: a skeleton as DWPose draws it, and a drawn face that speaks."""

from __future__ import annotations

import colorsys
import math
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from PIL import Image, ImageDraw

from . import faces
from .corpus import RATE
from .draw import render
from .motion import FPS, frames_of, talking

# Pairs of joints that are connected. The order decides a limb's colour, from red over green to blue.
LIMBS = [
    ("neck", "right shoulder"),
    ("neck", "left shoulder"),
    ("right shoulder", "right elbow"),
    ("right elbow", "right wrist"),
    ("left shoulder", "left elbow"),
    ("left elbow", "left wrist"),
    ("neck", "nose"),
    ("nose", "right eye"),
    ("right eye", "right ear"),
    ("nose", "left eye"),
    ("left eye", "left ear"),
]
# Where the joints are at rest: x to the right, y down, in parts of the picture.
REST = {
    "nose": (0.5, 0.42),
    "right eye": (0.45, 0.37),
    "left eye": (0.55, 0.37),
    "right ear": (0.38, 0.41),
    "left ear": (0.62, 0.41),
    "neck": (0.5, 0.68),
    "right shoulder": (0.27, 0.72),
    "left shoulder": (0.73, 0.72),
    "right elbow": (0.2, 0.92),
    "left elbow": (0.8, 0.92),
}
TURNS = 2.5
"""The driving head moves this many times as far as a head of the training data, so that one sees it follow."""


def write_pose(path: Path, seconds: float, size: int) -> None:
    """Somebody who nods and raises one hand after the other, ``size`` pixels wide and high."""
    count = round(seconds * FPS)
    _write(path, (_skeleton(index / FPS, size) for index in range(count)), size)


def write_driving(path: Path, seed: int, track: np.ndarray, sound: np.ndarray, size: int) -> None:
    """The face of a seed with mouth shapes ``track`` [T, 3] says ``sound`` [samples], at RATE."""
    generator = torch.Generator().manual_seed(seed)
    who = faces.sample(1, generator)
    count = round(len(sound) / RATE * FPS)
    mouth = frames_of(torch.from_numpy(track), 0.0, count)[None]
    motion = talking(mouth, generator, torch.tensor([True]))
    for name in ("dx", "dy", "roll", "yaw"):
        motion[name] = motion[name] * TURNS

    def frames() -> Iterable[np.ndarray]:
        for index in range(count):
            moment = {name: value[:, index : index + 1] for name, value in motion.items()}
            pixels = (render(who, moment, 2 * size)[0] + 1) / 2
            small = torch.nn.functional.avg_pool2d(pixels, 2)[0].permute(1, 2, 0)
            yield (small * 255).round().byte().numpy()

    _write(path, frames(), size, sound)


def _skeleton(second: float, size: int) -> np.ndarray:
    wave = math.sin(second * 2 * math.pi / 2.5)
    sway = 0.012 * math.sin(second * 2 * math.pi / 3.5)
    joints = dict(REST)
    for name in ("nose", "right eye", "left eye", "right ear", "left ear"):
        x, y = REST[name]
        joints[name] = (x + 2 * sway, y + 0.012 * math.sin(second * 2 * math.pi / 1.25))
    joints["right wrist"] = (0.3, 0.95 - 0.3 * max(0.0, wave))
    joints["left wrist"] = (0.7, 0.95 - 0.3 * max(0.0, -wave))
    # Drawn twice as large and made smaller, for smooth edges.
    picture = Image.new("RGB", (2 * size, 2 * size))
    draw = ImageDraw.Draw(picture)
    places = {name: ((x + sway) * 2 * size, y * 2 * size) for name, (x, y) in joints.items()}
    for number, (start, end) in enumerate(LIMBS):
        colour = tuple(round(255 * part * 0.6) for part in colorsys.hsv_to_rgb(number / len(LIMBS), 1, 1))
        draw.line([places[start], places[end]], fill=colour, width=size // 32)
    for number, (x, y) in enumerate(places.values()):
        colour = tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number / len(places), 1, 1))
        radius = size / 64
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))


def _write(path: Path, frames: Iterable[np.ndarray], size: int, sound: np.ndarray | None = None) -> None:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=FPS, options={"crf": "26", "preset": "slow"})
        video.width, video.height, video.pix_fmt = size, size, "yuv420p"
        audio = None if sound is None else out.add_stream("aac", rate=RATE, layout="mono")
        for pixels in frames:
            out.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        out.mux(video.encode())
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), format="fltp", layout="mono")
            samples.sample_rate, samples.time_base, samples.pts = RATE, Fraction(1, RATE), 0
            cut = av.AudioResampler("fltp", "mono", RATE, frame_size=1024)
            for piece in [*cut.resample(samples), *cut.resample(None)]:
                out.mux(audio.encode(piece))
            out.mux(audio.encode())
