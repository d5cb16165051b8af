"""The portraits, voices and videos that are shipped with the checkpoint.

    python -m training.examples --out talker/example --openings tests/talker/openings.json

The faces are drawn with seeds that no training used, the sentence is spoken by espeak-ng with a voice that only the
held-out recordings have. `openings.json` says how far the mouth should be open in each frame; the tests compare the
video with it. The large pictures, the second voice and the videos are for the workflows of the large models.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
from PIL import Image
from scipy.signal import resample_poly

from . import faces
from .corpus import RATE
from .draw import render
from .example_videos import write_driving, write_pose
from .motion import FPS, frames_of, still
from .speech import Speaker
from .visemes import TRACK_RATE, mouth_track

SEEDS = {"portrait": 7009, "portrait_2": 7007, "portrait_3": 7042}
LARGE = {"portrait_large": 7009, "portrait_2_large": 7007}
TEXT = (
    "Hello! I am the small avatar that comes with this pack. Somebody drew me with a few lines of code, "
    "and my voice is synthetic too. Play me your own words, and I will say them."
)
ANSWER = "And I am the second speaker. I wait until you are done, and then I answer."
SIZE, LARGE_SIZE = 256, 512


@dataclass(frozen=True)
class Saying:
    """Sound as float64 [samples] at RATE, and mouth shapes [T, 3] at TRACK_RATE that begin and end with it."""

    sound: np.ndarray
    track: np.ndarray


def portrait(seed: int, size: int = SIZE) -> tuple[faces.Identity, np.ndarray]:
    """The identity that a seed draws, and its portrait as uint8 [size, size, 3]."""
    who = faces.sample(1, torch.Generator().manual_seed(seed))
    pixels = (render(who, still(1, 1), 2 * size)[0] + 1) / 2
    small = torch.nn.functional.avg_pool2d(pixels, 2)[0].permute(1, 2, 0)
    return who, (small * 255).round().byte().numpy()


def say(
    speaker: Speaker, text: str, voice: str, rate: int, before: float = 0.2, after: float = 0.5
) -> Saying:
    """A sentence between silences of ``before`` and ``after`` seconds."""
    said, phonemes = speaker.say(text, voice, rate, 55, 55)
    sound = resample_poly(said.astype(np.float64) / 32768, 320, speaker.sample_rate * 320 // RATE)
    sound = np.pad(sound / np.abs(sound).max() * 0.8, (int(RATE * before), int(RATE * after)))
    track = mouth_track(phonemes, said, speaker.sample_rate)
    return Saying(sound, np.pad(track, ((int(TRACK_RATE * before), int(TRACK_RATE * after)), (0, 0))))


def write_sound(path: Path, sound: np.ndarray) -> None:
    soundfile.write(path, sound, RATE, format="OGG", subtype="OPUS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("talker/example"))
    parser.add_argument("--openings", type=Path, help="where to write how far the mouth should be open")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, seed in SEEDS.items():
        Image.fromarray(portrait(seed)[1]).save(args.out / f"{name}.png", optimize=True)
    large = {name: portrait(seed, LARGE_SIZE)[1] for name, seed in LARGE.items()}
    for name, pixels in {**large, "two_people": np.concatenate(list(large.values()), axis=1)}.items():
        Image.fromarray(pixels).save(args.out / f"{name}.png", optimize=True)

    speaker = Speaker()
    first = say(speaker, TEXT, "en-us+Alicia", 185)
    write_sound(args.out / "speech.ogg", first.sound)
    answer = say(speaker, ANSWER, "en-us+m3", 175)
    # The second person is silent while the first one speaks.
    write_sound(args.out / "speech_2.ogg", np.concatenate([np.zeros(len(first.sound)), answer.sound]))
    seconds = len(answer.sound) / RATE
    write_pose(args.out / "pose.mp4", seconds, LARGE_SIZE)
    write_driving(args.out / "driving.mp4", SEEDS["portrait_3"], answer.track, answer.sound, LARGE_SIZE)
    if args.openings:
        opened = frames_of(torch.from_numpy(first.track), 0.0, len(first.track) * FPS // TRACK_RATE)[:, 0]
        args.openings.parent.mkdir(parents=True, exist_ok=True)
        args.openings.write_text(json.dumps([round(value, 2) for value in opened.tolist()]) + "\n")


if __name__ == "__main__":
    main()
