"""Measures one video in one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch

from ..media.audio import usable
from ..media.sound import MonoSound
from .clip import Clip, Piece
from .faces import Regions, find_regions
from .instruments import Instruments, Subject
from .loudness import loudness
from .metric import SOUND_RATE, Observed, Score, score
from .metrics import METRICS
from .readers.change import Change
from .readers.colour import Colour
from .readers.darkness import Darkness
from .readers.dino import DinoLikeness
from .readers.head import Face, Head
from .readers.portrait import PortraitDistance, covered
from .readers.quality import TASKS, Quality
from .readers.sharpness import Sharpness
from .readers.syncnet import FPS, Lips, hear
from .readers.yin import pitch
from .tracks import Growing, Track

FACE_TRACKS = ("mouth", "eyes", "head", "face", "syncnet lips", "dino face", "portrait distance")


class Reader(Protocol):
    """Turns the frames of a video into one track."""

    name: str

    def read(self, piece: Piece) -> Track:
        """The track of these frames, which follow those of the call before."""


@dataclass
class Measurement:
    """What was found in one video.

    Attributes:
        regions: the boxes that were looked at; None without a face.
        notes: sentences about what is odd.
    """

    name: str
    fps: float
    frames: int
    seconds: float
    seen: Observed
    scores: list[Score]
    regions: Regions | None = None
    notes: list[str] = field(default_factory=list)


def measure(
    clip: Clip,
    subject: Subject | None = None,
    tools: Instruments | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Measurement:
    """All scores of a video that can be had with what is given; the others say what they lack.

    ``progress(frames_done, frames)`` may raise to stop.

    Raises:
        ValueError: the video cannot be read.
    """
    subject, tools = subject or Subject(), tools or Instruments()
    missing: dict[str, str] = {}
    regions = _regions(clip, subject, tools, missing)
    readers = _readers(clip, subject, tools, regions, missing)
    quality = Quality(tools.qalign) if tools.qalign else None
    parts: dict[str, Growing] = {}
    shown, done = Growing(), 0
    for piece in clip.pieces():
        for reader in readers:
            parts.setdefault(reader.name, Growing()).add(reader.read(piece))
        for name, track in (quality.read(piece) if quality else {}).items():
            parts.setdefault(name, Growing()).add(track)
        shown.add(Track(piece.times, piece.times))
        done += len(piece.times)
        progress(done, max(done, clip.length))
    if not done:
        raise ValueError(f"Make {clip.name} again: it has no frames.")
    when = shown.track().times
    seconds = float(when[-1]) + 1 / clip.fps
    seen = Observed(
        clip.fps,
        seconds,
        {name: growing.track() for name, growing in parts.items()},
        missing,
        layout=subject.layout,
    )
    if subject.made:
        made = torch.tensor(subject.made, dtype=torch.float64)
        seen.tracks["made"] = Track(made[:, 0], made[:, 1])
    listen(clip, when, subject, tools, seen)
    for need, tool in (("dino", "dino"), ("layout", "layout"), ("made", "made")):
        missing.setdefault(need, tools.remedies[tool])
    for need in TASKS:
        missing.setdefault(need, tools.remedies["qalign"])
    return Measurement(
        clip.name,
        clip.fps,
        done,
        seconds,
        seen,
        [score(metric, seen) for metric in METRICS],
        regions,
        list(clip.notes),
    )


def _regions(clip: Clip, subject: Subject, tools: Instruments, missing: dict[str, str]) -> Regions | None:
    regions = subject.regions
    if regions is None and tools.finder is not None:
        regions = find_regions(clip, tools.finder)
    if regions is None:
        reason = tools.remedies["finder" if tools.finder is None else "face"]
        missing.update(dict.fromkeys(FACE_TRACKS, reason))
        return None
    return regions.fit(clip.width, clip.height)


def _readers(
    clip: Clip, subject: Subject, tools: Instruments, regions: Regions | None, missing: dict[str, str]
) -> list[Reader]:
    readers: list[Reader] = [Change(), Sharpness(), Colour()]
    reference = subject.reference
    if reference is not None:
        reference = covered(reference, clip.width, clip.height)
    if tools.dino is None:
        missing["dino"] = missing["dino face"] = tools.remedies["dino"]
    elif reference is None:
        missing["dino"] = missing["dino face"] = tools.remedies["reference"]
    else:
        readers.append(DinoLikeness("dino", tools.dino, reference))
    if tools.syncnet is None:
        missing["syncnet lips"] = tools.remedies["syncnet"]
    if regions is None:
        return readers
    readers += [Darkness("mouth", regions.mouth), Darkness("eyes", regions.eyes)]
    readers += [Head(regions.face), Face(regions.face)]
    if reference is None:
        missing["portrait distance"] = tools.remedies["reference"]
    else:
        readers.append(PortraitDistance(reference, regions.face, regions.mouth))
        if tools.dino is not None:
            readers.append(DinoLikeness("dino face", tools.dino, reference, regions.face))
    if tools.syncnet is not None:
        if abs(clip.fps - FPS) > 0.01:
            missing["syncnet lips"] = (
                f"Convert the video to {FPS} frames a second, at which SyncNet was trained."
            )
        else:
            readers.append(Lips(tools.syncnet, regions.face, tools.device))
    return readers


def listen(clip: Clip, times: torch.Tensor, subject: Subject, tools: Instruments, seen: Observed) -> None:
    """Add to ``seen`` what is in the sound, or why it is not."""
    audio = clip.sound()
    missing = seen.missing
    if audio is None or audio["waveform"].shape[-1] == 0:
        for name in ("sound", "loudness", "syncnet sound", "pitch", "voice", "said text"):
            missing[name] = tools.remedies["sound"]
        return
    sound = seen.sound = MonoSound(usable(audio), SOUND_RATE)
    seen.tracks["loudness"] = loudness(sound, times, clip.fps)
    seen.tracks["pitch"] = pitch(sound)
    if tools.syncnet is None:
        missing["syncnet sound"] = tools.remedies["syncnet"]
    elif "syncnet lips" in seen.tracks:
        heard = hear(tools.syncnet, sound, len(times), tools.device)
        seen.tracks["syncnet sound"] = Track(times[: len(heard)], heard)
    if tools.speaker is None:
        missing["voice"] = tools.remedies["speaker"]
    elif subject.voice is None:
        missing["voice"] = tools.remedies["voice"]
    else:
        seen.values["voice"] = tools.speaker.embed(sound)
        seen.values["reference voice"] = tools.speaker.embed(subject.voice)
    if tools.writer is None:
        missing["said text"] = tools.remedies["writer"]
    elif subject.text is not None or subject.language is not None:
        seen.values["said text"] = tools.writer.write(sound)
    for name, value in (("asked text", subject.text), ("language", subject.language)):
        if value is not None:
            seen.values[name] = value
    missing.setdefault("asked text", tools.remedies["text"])
    missing.setdefault("said text", tools.remedies["text"])
    missing.setdefault("language", tools.remedies["language"])
