# ruff: noqa: SIM905
"""The speech corpus: recordings of synthetic voices with their mouth tracks, small enough to travel.

    python -m training.corpus --minutes 60 --out training/.state/corpus

writes NNN.ogg (Opus, 16 kHz mono) and NNN.npy (uint8 [T, 3] at 100 per second) for each recording of about
20 s. The last HELD_OUT recordings use voices that no other recording has, in English, Spanish and Mandarin in turn;
training never reads them.
"""

from __future__ import annotations

import argparse
import os
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import resample_poly

from .sentences import sentence
from .speech import Speaker
from .visemes import mouth_track

RATE = 16000
HELD_OUT = 12
_LOW, _SPAN = np.array([0, -1, 0]), np.array([1, 2, 1])
_LANGUAGES = "en-us en-us en en en-029 en-gb-scotland en-gb-x-rp en-us-nyc de fr it nl".split() + 2 * (
    "es es-419 cmn-latn-pinyin".split()
)
_HELD_OUT_LANGUAGES = "en-us es cmn-latn-pinyin".split()
_VARIANTS = (
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Alex Andrea Andy Annie Denis Gene Hugo Jacky Lee Marco Michael Mike "
    "adam anika antonio aunty belinda benjamin boris caleb david ed edward linda max miguel paul pedro quincy rob "
    "robert sandro shelby steph travis victor iven grandma grandpa klatt2 klatt4"
).split()
HELD_OUT_VARIANTS = (
    "Alicia Mario Henrique Diogo john michel steph3 edward2 iven3 klatt3 norbert marcelo".split()
)


@dataclass(frozen=True)
class Recording:
    """Samples float32 [-1, 1] at 16 kHz and the mouth track float32 [T, 3] at 100 per second."""

    name: str
    samples: np.ndarray
    track: np.ndarray


def record(speaker: Speaker, seed: int, seconds: float, held_out: bool = False) -> Recording:
    """One recording of one voice saying random sentences with pauses between them."""
    rng = random.Random(seed)
    # Held-out recordings take turns: every three of them speak English, Spanish and Mandarin.
    language = _HELD_OUT_LANGUAGES[seed % 3] if held_out else rng.choice(_LANGUAGES)
    voice = f"{language}+{rng.choice(HELD_OUT_VARIANTS if held_out else _VARIANTS)}"
    tongue = {"es": "es", "es-419": "es", "cmn-latn-pinyin": "cmn"}.get(language, "en")
    rate, pitch, span = rng.randint(120, 215), rng.randint(15, 85), rng.randint(25, 75)
    sound, shapes, length = [], [], 0.0
    while length < seconds:
        said, phonemes = speaker.say(sentence(rng, tongue), voice, rate, pitch, span)
        track = mouth_track(phonemes, said, speaker.sample_rate)
        said = resample_poly(said.astype(np.float64) / 32768, 320, speaker.sample_rate * 320 // RATE)
        pause = rng.choice((0.05, 0.2, 0.5, 1.2))
        steps = len(track) + int(pause * 100)
        sound.append(np.pad(said, (0, steps * RATE // 100))[: steps * RATE // 100])
        shapes.append(np.pad(track, ((0, steps - len(track)), (0, 0))))
        length += steps / 100
    samples = np.concatenate(sound)
    return Recording(
        voice, (samples / np.abs(samples).max() * 0.8).astype(np.float32), np.concatenate(shapes)
    )


def pack_track(track: np.ndarray) -> np.ndarray:
    """Mouth track to uint8."""
    return np.round((track - _LOW) / _SPAN * 255).astype(np.uint8)


def unpack_track(packed: np.ndarray) -> np.ndarray:
    """uint8 back to the mouth track, float32."""
    return (packed.astype(np.float32) / 255 * _SPAN + _LOW).astype(np.float32)


def load(folder: Path, held_out: bool = False) -> list[Recording]:
    """All training recordings of `folder` (or the held-out ones), in order. FileNotFoundError if there are none."""
    names = sorted(path.stem for path in Path(folder).glob("*.ogg"))
    if len(names) <= HELD_OUT:
        raise FileNotFoundError(f"No speech corpus in {folder}: make it with `python -m training.corpus`.")
    chosen = names[-HELD_OUT:] if held_out else names[:-HELD_OUT]
    result = []
    for name in chosen:
        samples, _ = soundfile.read(Path(folder) / f"{name}.ogg", dtype="float32")
        track = unpack_track(np.load(Path(folder) / f"{name}.npy"))
        steps = min(len(track), len(samples) * 100 // RATE)
        result.append(Recording(name, samples[: steps * RATE // 100], track[:steps]))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("training/.state/corpus"))
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    count = int(args.minutes * 3)
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(partial(_write, args.out, args.seed * 100_000, count), range(count + HELD_OUT)))


@cache
def _speaker() -> Speaker:
    """This process's; the library keeps global state."""
    return Speaker()


def _write(folder: Path, seed: int, count: int, index: int) -> None:
    made = record(_speaker(), seed + index, 19, held_out=index >= count)
    soundfile.write(folder / f"{index:03d}.ogg", made.samples, RATE, format="OGG", subtype="OPUS")
    np.save(folder / f"{index:03d}.npy", pack_track(made.track))


if __name__ == "__main__":
    main()
