"""A portrait and a voice for the demo and the tests, made here so that nothing foreign is shipped."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SAMPLE_RATE = 24_000

# First three formants in Hz (a speaker with a mid-sized vocal tract) of the vowels that the voice says.
VOWELS = {
    "a": (760, 1250, 2550),
    "e": (480, 1950, 2600),
    "i": (300, 2250, 3000),
    "o": (480, 880, 2500),
    "u": (330, 800, 2350),
}
# Vowels, consonant noise before them ("s", "t" or none) and pauses, as a sentence without meaning.
SENTENCE = (
    " a",
    "se",
    "ti",
    " o",
    "--",
    "tu",
    " a",
    "si",
    " e",
    "to",
    "--",
    "sa",
    " i",
    "te",
    " u",
    "ta",
    "--",
)


def portrait(path: Path, size: int = 512) -> Path:
    """Draw a friendly cartoon face, looking into the camera, as a ``size`` x ``size`` picture at ``path``."""
    scale = 2 * size / 512  # drawn at twice the size, then reduced, for smooth edges
    canvas = Image.new("RGB", (2 * size, 2 * size))
    rows = np.linspace(0, 1, 2 * size)[:, None, None]
    backdrop = (1 - rows) * np.array([196, 220, 232]) + rows * np.array([122, 160, 184])
    canvas.paste(Image.fromarray(np.broadcast_to(backdrop, (2 * size, 2 * size, 3)).astype(np.uint8)))
    draw = ImageDraw.Draw(canvas)

    def box(x: float, y: float, width: float, height: float) -> tuple[float, float, float, float]:
        return (
            (x - width / 2) * scale,
            (y - height / 2) * scale,
            (x + width / 2) * scale,
            (y + height / 2) * scale,
        )

    skin, shade, hair, ink = (238, 196, 164), (220, 170, 138), (74, 50, 40), (58, 40, 36)
    draw.ellipse(box(256, 250, 268, 320), fill=hair)
    draw.rounded_rectangle(box(256, 540, 400, 220), radius=90 * scale, fill=(66, 96, 132))
    draw.polygon(
        [(x * scale, y * scale) for x, y in ((206, 430), (306, 430), (256, 500))], fill=(240, 240, 236)
    )
    draw.rounded_rectangle(box(256, 400, 92, 100), radius=36 * scale, fill=shade)
    for x in (146, 366):
        draw.ellipse(box(x, 274, 38, 62), fill=shade)
    draw.ellipse(box(256, 268, 216, 276), fill=skin)
    draw.chord(box(256, 214, 228, 190), 180, 360, fill=hair)
    draw.ellipse(box(268, 222, 176, 62), fill=skin)
    for x in (206, 306):
        draw.arc(box(x, 236, 56, 30), 200, 340, fill=hair, width=round(6 * scale))
        draw.ellipse(box(x, 262, 46, 27), fill=(252, 252, 250))
        draw.ellipse(box(x, 262, 24, 25), fill=(84, 112, 84))
        draw.ellipse(box(x, 262, 12, 13), fill=ink)
        draw.ellipse(box(x + 4, 257, 6, 6), fill=(255, 255, 255))
        draw.arc(box(x, 264, 50, 34), 190, 350, fill=ink, width=round(3 * scale))
        draw.ellipse(box(x + (x - 256) * 0.2, 312, 42, 26), fill=(236, 178, 152))
    draw.arc(box(256, 296, 34, 32), 20, 160, fill=shade, width=round(5 * scale))
    draw.chord(box(256, 340, 76, 40), 0, 180, fill=(168, 74, 78))
    draw.chord(box(256, 340, 64, 14), 0, 180, fill=(250, 246, 242))
    canvas = canvas.resize((size, size), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.4))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.save(path)
    return path


def speech(path: Path, seconds: float = 4.0) -> Path:
    """Synthesise a voice that says vowels and hisses, as a mono 16-bit WAV of 24 kHz at ``path``."""
    samples = _voice(round(seconds * SAMPLE_RATE))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


def _voice(count: int) -> np.ndarray:
    """``count`` samples in -1..1: harmonics of a gliding pitch, weighted by the formants, plus noise."""
    time = np.arange(count) / SAMPLE_RATE
    syllable = 0.21
    syllables = [SENTENCE[i % len(SENTENCE)] for i in range(int(time[-1] / syllable) + 2)]
    centres = (np.arange(len(syllables)) + 0.5) * syllable
    formants = []
    for index in range(3):  # a pause holds the formants of the vowel before it
        values: list[float] = []
        for name in syllables:
            values.append(values[-1] if name == "--" else VOWELS[name[1]][index])
        formants.append(np.interp(time, centres, values))

    phase_in_syllable = time / syllable % 1
    voiced = np.array([name != "--" for name in syllables])[(time / syllable).astype(int)]
    loudness = np.clip(np.sin(np.pi * np.clip((phase_in_syllable - 0.12) / 0.86, 0, 1)), 0, 1) ** 0.6 * voiced
    pitch = 128 + 18 * np.sin(2 * np.pi * time / 1.9) + 9 * np.sin(2 * np.pi * time / 0.63)
    angle = 2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE

    sound = np.zeros(count)
    for harmonic in range(1, 40):
        frequency = harmonic * pitch
        weight = sum(
            gain / (1 + ((frequency - formant) / width) ** 2)
            for formant, width, gain in zip(formants, (90, 120, 170), (1.0, 0.5, 0.25), strict=True)
        )
        sound += weight * np.sin(harmonic * angle) * (frequency < 0.45 * SAMPLE_RATE)
    sound *= loudness

    noise = np.diff(
        np.random.default_rng(0).standard_normal(count + 1)
    )  # differentiated: bright, like an "s"
    lengths = {"s": 0.34, "t": 0.12, " ": 0.0, "-": 0.0}
    share = np.array([lengths[name[0]] for name in syllables])[(time / syllable).astype(int)]
    hiss = np.where(share > 0, np.clip(1 - phase_in_syllable / np.maximum(share, 1e-6), 0, 1), 0.0)
    sound = sound / np.abs(sound).max() + 0.08 * noise * hiss
    return 0.7 * sound / np.abs(sound).max()
