"""Measures all videos of a folder: each by itself, so that a broken one stops no other, and only once."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import report
from .charts import charts_of
from .clip import open_file
from .instruments import Instruments
from .measure import measure
from .page import page
from .picture import picture
from .subjects import read_subjects, subject_of

ENDINGS = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"}


@dataclass(frozen=True)
class Job:
    """A folder of videos, what is known of all of them, and where the report goes.

    ``common`` is an entry as in `subjects.json` that holds for every video; a video's own goes before it.
    ``reference`` is the portrait of videos whose entry names none. ``settings`` names all that would change a result.
    """

    videos: tuple[Path, ...]
    out: Path
    common: Mapping[str, Any]
    reference: Tensor | None
    settings: Mapping[str, Any]


def find_videos(paths: list[Path]) -> tuple[Path, ...]:
    """The videos in folders, and files that are named; ValueError where there are none or two share a name."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(one for one in path.iterdir() if one.suffix.lower() in ENDINGS and one.is_file())
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"Check the name: there is no {path}.")
    if not found:
        raise ValueError(f"Choose a folder with videos ({', '.join(sorted(ENDINGS))}): there are none.")
    names = [path.name for path in found]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"Rename one of the videos called {', '.join(sorted(twice))}.")
    return tuple(found)


def run(
    job: Job,
    tools: Instruments,
    say: Callable[[str], None],
    progress: Callable[[str, int, int], None],
    folder_scores: Mapping[str, Any],
) -> dict[str, Any]:
    """Measure what is not measured yet, write the report, and return its summary."""
    kept = job.out / "videos"
    kept.mkdir(parents=True, exist_ok=True)
    reports, failures = [], {}
    for path in job.videos:
        try:
            reports.append(_one(path, kept / f"{path.name}.json", job, tools, progress))
            say(f"{path.name}: {_line(reports[-1])}")
        except (ValueError, OSError, MemoryError, torch.OutOfMemoryError) as error:
            failures[path.name] = str(error)
            say(f"{path.name}: {error}")
    total = report.summary(reports, failures, dict(folder_scores))
    _write(
        job.out / "report.json", json.dumps({**total, "reports": [_plain(one) for one in reports]}, indent=1)
    )
    _write(job.out / "report.html", page("Evaluation", total, reports))
    return total


def _one(
    path: Path, kept: Path, job: Job, tools: Instruments, progress: Callable[[str, int, int], None]
) -> dict[str, Any]:
    entry = read_subjects(path.parent).get(path.name, {})
    key = _key(path, entry, job.settings)
    if kept.is_file():
        try:
            old = json.loads(kept.read_text(encoding="utf-8"))
        except ValueError:  # the machine stopped while it was written
            old = {}
        if isinstance(old, dict) and old.get("key") == key:
            return old
    clip = open_file(path)
    subject = subject_of({**job.common, **entry}, path.parent, clip.width, clip.height)
    if subject.reference is None:
        subject = replace(subject, reference=job.reference)
    found = measure(clip, subject, tools, lambda done, total: progress(path.name, done, total))
    made = {"key": key, **report.as_json(found)}
    _write(kept, json.dumps(made))
    picture(charts_of(found)).save(kept.with_suffix(".png"))
    return made


def _key(path: Path, entry: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Changes when the video, what is known of it, or the instruments do."""
    about = path.stat()
    told = json.dumps(
        [report.VERSION, about.st_size, about.st_mtime_ns, entry, settings], sort_keys=True, default=str
    )
    return hashlib.sha256(told.encode()).hexdigest()


def _line(made: dict[str, Any]) -> str:
    shown = [name for name in ("sync r", "Sync-C", "Dino-S", "T.Flicker") if name in made["scores"]]
    values = ", ".join(f"{name} {made['scores'][name]['value']:.3g}" for name in shown)
    failed = [name for name, entry in made["scores"].items() if entry["verdict"] == "fail"]
    return f"{values or 'measured'}{'; fails: ' + ', '.join(failed) if failed else ''}"


def _plain(made: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in made.items() if name != "charts"}


def _write(path: Path, text: str) -> None:
    """Whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)
