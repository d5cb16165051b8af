"""Runs that are killed, with signal 9, at a chosen line of the code that writes videos."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from avatar.engines.parts.saved_tensors import save_tensors
from avatar.media.frames import AvatarStream, Resumable
from avatar.media.journal import Journal
from safetensors import SafetensorError, safe_open

from tests.unit.media.resumable_videos import RATE, H, W, generated, pictures

WRITING = {
    "media": ("writer", "recording", "journal", "unfinished", "file_lock", "growing_file"),
    "parts": ("saved_tensors", "checksum"),
}
"""Folders and modules whose lines are the operations that a run may be killed at."""
BLOCKS = (9, 12, 12)
STOPPED_AFTER = 21
NEAR = 2.0
"""Levels of 255 by which two encodings of a frame may differ on average: the next frame differs by 7."""
FRAMES = sum(BLOCKS)


class Line(NamedTuple):
    """A line of a file, when a run comes to it for the ``time``-th time."""

    file: str
    number: int
    time: int


@dataclass
class Place:
    """The state of a pass whose frames depend on nothing but their number."""

    fingerprint: str
    first_frame: int = 0
    frames: int | None = None

    def settle(self) -> None:
        """It is always at rest."""

    def size(self) -> int:
        """Of its file, about."""
        return 100

    def save(self, path: Path) -> None:
        """As engines save theirs."""
        save_tensors(
            path, {"frames": torch.tensor([self.frames]).view(torch.uint8)}, {"fingerprint": self.fingerprint}
        )

    def release(self) -> None:
        """It holds nothing."""

    @classmethod
    def read(cls, path: Path | None, fingerprint: str) -> Place:
        """As engines read theirs."""
        if path is None:
            return cls(fingerprint)
        try:
            with safe_open(path, "pt") as file:
                return cls(fingerprint, int(file.get_tensor("frames").view(torch.int64)))
        except SafetensorError as error:
            raise ValueError(f"{path.name} cannot be read ({error}).") from error


def stream() -> AvatarStream:
    """Three blocks of moving colours, and a tone."""
    time = torch.arange(FRAMES * RATE // 25) / RATE
    sound = {"waveform": (0.5 * torch.sin(1000 * time))[None, None], "sample_rate": RATE}
    resumable = Resumable(lambda: "colours", Place.read)
    return AvatarStream(_frames, frames=FRAMES, width=W, height=H, audio=sound, resumable=resumable)


def _frames(state: Place | None = None) -> Iterator[torch.Tensor]:
    first = 0
    for length in BLOCKS:
        if state is None or state.first_frame <= first:
            numbers = torch.arange(first, first + length)[:, None, None, None]
            if state is not None:
                state.frames = first + length
            yield (
                ((numbers * 7 + torch.arange(W)[:, None] * 3 + torch.arange(3)) % 256)
                .expand(-1, H, -1, -1)
                .byte()
            )
        first += length


def attacks(folder: Path, stopped: bool, among: int = 1) -> Iterator[tuple[Line, str | None]]:
    """Kill a run at one of so many lines, each in a folder of its own; gives the line, and what is wrong after it.

    ``stopped``: the run goes on with a video that was stopped before.
    """
    whole = _whole_run(_new(folder, "whole"))
    for number, line in enumerate(_lines(_new(folder, "lines"), stopped)[::among]):
        place = _new(folder, f"killed-{number}")
        _kill(place, line, stopped)
        yield line, _fault(place, whole)


def _new(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def _lines(folder: Path, stopped: bool) -> list[Line]:
    """Where a run can be killed: every line that it comes to, at its first and at its last time."""
    if stopped:
        generated(folder, stream(), stop_after=STOPPED_AFTER)
    seen: Counter[tuple[str, int]] = Counter()
    _watched(folder, lambda place: seen.update([place]))
    return sorted({Line(*place, time) for place, times in seen.items() for time in (1, times)})


def _kill(folder: Path, line: Line, stopped: bool) -> None:
    """Run in a process of its own up to this line, and kill it there."""
    if stopped:
        generated(folder, stream(), stop_after=STOPPED_AFTER)
    child = os.fork()
    if not child:
        seen: Counter[tuple[str, int]] = Counter()

        def reached(place: tuple[str, int]) -> None:
            seen.update([place])
            if place == line[:2] and seen[place] == line.time:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            # A thread of its own: from 19 on, PyAV keeps for each thread a converter with helpers that a fork loses.
            run = threading.Thread(target=_watched, args=(folder, reached))
            run.start()
            run.join()
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        raise RuntimeError(f"The run did not come to {line}.")


def _fault(folder: Path, whole: np.ndarray) -> str | None:
    """What is wrong after a kill: with what plays, with the video that is gone on with, or with what is left."""
    before = {}
    for path in folder.glob("*.mp4"):
        kept = _playable(path)
        if not _same(kept, whole[: len(kept)]):
            return f"{path.name} plays other frames"
        journal = Journal.read(path)
        before[path] = kept if journal is None else kept[: journal.frames]  # a later block is made again
    path, _, _ = generated(folder, stream(), say=lambda text: None)
    made = pictures(path)
    if len(made) != len(whole) or not _same(made, whole):
        return "the finished video has other frames"
    kept = before.get(path, made)
    if len(kept) and not np.array_equal(kept, made[: len(kept)]):
        return "what was there when it was gone on with plays otherwise"
    left = sorted(
        file.name for file in folder.iterdir() if file.name != path.name and not _playable(file).size
    )
    return f"left behind: {', '.join(left)}" if left else None


def _same(shown: np.ndarray, whole: np.ndarray) -> bool:
    """Whether these are encodings of the same frames: where a run goes on, its encoder begins anew."""
    return not len(shown) or bool((np.abs(shown.astype(int) - whole).mean(axis=(1, 2, 3)) < NEAR).all())


def _whole_run(folder: Path) -> np.ndarray:
    """The pictures of a run that nothing has disturbed."""
    path, _, _ = generated(folder, stream())
    made = pictures(path)
    if len(made) != FRAMES:
        raise RuntimeError(f"The undisturbed run has {len(made)} of {FRAMES} frames.")
    return made


def _watched(folder: Path, reached: Callable[[tuple[str, int]], None]) -> None:
    """Make the video, and tell of every line that is come to."""

    def lines_of(frame: Any, event: str, _: Any) -> Any:
        if event == "line":
            reached((Path(frame.f_code.co_filename).name, frame.f_lineno))
        return lines_of

    def calls(frame: Any, _event: str, _: Any) -> Any:
        path = Path(frame.f_code.co_filename)
        return lines_of if path.stem in WRITING.get(path.parent.name, ()) else None

    sys.settrace(calls)
    try:
        generated(folder, stream(), say=lambda text: None)
    finally:
        sys.settrace(None)


def _playable(path: Path) -> np.ndarray:
    """The frames of a video; none where it was killed before its first block was there."""
    try:
        return pictures(path)
    except (av.error.FFmpegError, IndexError, ValueError):
        return np.empty(0)
