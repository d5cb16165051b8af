"""The portraits and the speech that are shipped with the checkpoint.

    python -m training.examples --out talker/example --openings tests/talker/openings.json

The faces are drawn with seeds that no training used, the sentence is spoken by espeak-ng with a voice that only the
held-out recordings have. `openings.json` says how far the mouth should be open in each frame; the tests compare the
video with it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from scipy.signal import resample_poly

from . import faces
from .corpus import RATE
from .draw import render
from .motion import FPS, frames_of, still
from .speech import Speaker
from .visemes import TRACK_RATE, mouth_track

SEEDS = {"portrait": 7009, "portrait_2": 7007, "portrait_3": 7042}
TEXT = (
    "Hello! I am the small avatar that comes with this pack. Somebody drew me with a few lines of code, "
    "and my voice is synthetic too. Play me your own words, and I will say them."
)
SIZE = 256


def portrait(seed: int, size: int = SIZE) -> tuple[faces.Identity, np.ndarray]:
    """The identity that a seed draws, and its portrait as uint8 [size, size, 3]."""
    who = faces.sample(1, torch.Generator().manual_seed(seed))
    pixels = (render(who, still(1, 1), 2 * size)[0] + 1) / 2
    small = torch.nn.functional.avg_pool2d(pixels, 2)[0].permute(1, 2, 0)
    return who, (small * 255).round().byte().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("talker/example"))
    parser.add_argument("--openings", type=Path, help="where to write how far the mouth should be open")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, seed in SEEDS.items():
        Image.fromarray(portrait(seed)[1]).save(args.out / f"{name}.png", optimize=True)
    speaker = Speaker()
    said, phonemes = speaker.say(TEXT, "en-us+Alicia", 185, 55, 55)
    sound = resample_poly(said.astype(np.float64) / 32768, 320, speaker.sample_rate * 320 // RATE)
    sound = np.pad(sound / np.abs(sound).max() * 0.8, (RATE // 5, RATE // 2))
    soundfile.write(args.out / "speech.ogg", sound, RATE, format="OGG", subtype="OPUS")
    if args.openings:
        track = np.pad(
            mouth_track(phonemes, said, speaker.sample_rate), ((TRACK_RATE // 5, TRACK_RATE // 2), (0, 0))
        )
        opened = frames_of(torch.from_numpy(track), 0.0, len(track) * FPS // TRACK_RATE)[:, 0]
        args.openings.parent.mkdir(parents=True, exist_ok=True)
        args.openings.write_text(json.dumps([round(value, 2) for value in opened.tolist()]) + "\n")


if __name__ == "__main__":
    main()
