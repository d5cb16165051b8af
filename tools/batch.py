"""``python run.py batch``: a file of rows through a running ComfyUI, one video a row. Standard library only.

What is finished and unchanged is skipped. A video that the host was making when this program was ended is waited for;
one that the host itself left unfinished is sent again, and the host goes on in its file.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import secrets
import shutil
import sys
import time
import urllib.error
import uuid
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jobs.answers import MARK, errors, video
from jobs.batch_file import TEMPLATE, content, read_rows
from jobs.graph import fill
from jobs.identity import file_digest, identity
from jobs.job import MAX_SEED, Job
from jobs.workflows import USUAL, read_workflow, shipped

from .connection import Connection, HostError

AHEAD = 2
"""Rows that wait at the host, so that it never waits for the next one."""
POLL_SECONDS = 0.25
PLACE = "batch"
"""Folder for what is sent, in the host's input folder, and for what it makes, in its output folder."""
STATE = "batch.json"


class Work(NamedTuple):
    """A row to be made: its number, its job, the hash of everything that its video depends on."""

    number: int
    job: Job
    identity: str


class State:
    """What is known about the rows of an output folder: name -> identity, seed, prompt and whether it is finished."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / STATE
        self._rows: dict[str, dict[str, Any]] = {}
        if self._path.is_file():
            try:
                self._rows = json.loads(self._path.read_text(encoding="utf-8"))
            except ValueError as error:
                raise HostError(f"Remove {self._path}: it cannot be read ({error}).") from error

    def of(self, work: Work) -> dict[str, Any]:
        """What is known about this very row; empty for a changed one."""
        known = self._rows.get(work.job.output, {})
        return known if known.get("identity") == work.identity else {}

    def note(self, work: Work, **values: Any) -> None:
        """Keep it on the disk, at once and whole."""
        self._rows[work.job.output] = {**self.of(work), "identity": work.identity, **values}
        part = self._path.with_name(self._path.name + ".part")
        part.write_text(json.dumps(self._rows, indent=1), encoding="utf-8")
        part.replace(self._path)


class Batch:
    """The rows of one file on their way through one host."""

    def __init__(self, host: Connection, graph: dict[str, Any], folder: Path, name: str) -> None:
        self._host, self._graph, self._folder, self._name = host, graph, folder, name
        self._state = State(folder)
        self._sent: dict[Path, str] = {}
        self._line = Line()

    def finished(self, work: Work) -> bool:
        """Whether the video of this very row is there."""
        file = self._state.of(work).get("file")
        return file is not None and (self._folder / file).is_file()

    def run(self, works: list[Work]) -> Iterator[tuple[Work, str]]:
        """Make the videos; yields each row with the reason for which it failed, empty where it did not."""
        waiting: deque[tuple[Work, str]] = deque()
        coming = deque(works)
        while coming or waiting:
            while coming and len(waiting) < AHEAD:
                work = coming.popleft()
                try:
                    waiting.append((work, self._begin(work)))
                except HostError as error:
                    yield work, str(error)
            if waiting:
                work, prompt = waiting.popleft()
                yield work, self._end(work, prompt)

    def _begin(self, work: Work) -> str:
        """Queue a row, unless the host has it already; returns its prompt id."""
        known = self._state.of(work)
        if (prompt := known.get("prompt")) and self._at_host(prompt):
            return prompt
        seed = (
            work.job.seed if work.job.seed is not None else known.get("seed", secrets.randbelow(MAX_SEED + 1))
        )
        job = replace(
            work.job,
            seed=seed,
            image=self._send(Path(work.job.image)),
            audio=work.job.audio and self._send(Path(work.job.audio)),
        )
        graph = fill(self._graph, job, f"{PLACE}/{self._name}/{work.job.output}", secrets.token_hex(8))
        # Noted before it is sent: whoever ends this program in between shall not have the row sent twice.
        prompt = str(uuid.uuid4())
        self._state.note(work, seed=seed, prompt=prompt)
        return self._host.submit(graph, extra_data={MARK: {"seed": seed}}, prompt_id=prompt)

    def _end(self, work: Work, prompt: str) -> str:
        """Wait for a row and fetch its video; returns the reason for which there is none."""
        start = time.monotonic()
        try:
            while (entry := self._entry(prompt)) is None:
                self._line.show(f"row {work.number} {work.job.output}: {self._progress(prompt)}", start)
                time.sleep(POLL_SECONDS)
        except HostError as error:
            self._state.note(work, prompt=None)
            return str(error)
        finally:
            self._line.clear()
        if problems := errors(entry):
            self._state.note(work, prompt=None)
            return "\n".join(problems)
        place = video(entry)
        if place is None:
            return "The workflow saved no video."
        target = self._folder / (work.job.output + Path(place["filename"]).suffix)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._host.download(place, target)
        except urllib.error.HTTPError as error:
            self._state.note(work, prompt=None)
            return f"Run the batch again: its video is no longer at the host ({error})."
        self._state.note(work, prompt=None, file=target.relative_to(self._folder).as_posix())
        return ""

    def _at_host(self, prompt: str) -> bool:
        """Whether the host makes the row's video, or has made it."""
        try:
            entry = self._entry(prompt)
        except HostError:
            return False
        return entry is None or not errors(entry)

    def _entry(self, prompt: str) -> dict[str, Any] | None:
        """A row's history entry, None while it is in the queue; HostError where the host knows neither."""
        queue = self._host.get("/queue")  # first: what leaves the queue is in the history
        if any(item[1] == prompt for items in queue.values() for item in items):
            return None
        if (entry := self._host.finished(prompt)) is None:
            raise HostError("Run the batch again: this row was taken out of the host's queue.")
        return entry

    def _progress(self, prompt: str) -> str:
        try:
            told = self._host.get(f"/liveavatar/generate/{prompt}")
        except urllib.error.HTTPError:
            return "running"  # a host with other nodes only
        if not told["frames"]:
            return told["state"]
        return f"{told['frames']} of {told['total_frames'] or '?'} frames"

    def _send(self, file: Path) -> str:
        if file not in self._sent:
            ending = re.sub(r"[^.a-z0-9]", "", file.suffix.lower())
            self._sent[file] = self._host.send(file, file_digest(file).hex()[:32] + ending, PLACE)
        return self._sent[file]


class Line:
    """One line of progress, written over where the output is a terminal, and seldom where it is not."""

    def __init__(self) -> None:
        self._shown, self._at = "", 0.0

    def show(self, text: str, since: float) -> None:
        """Show it, with the seconds since a time."""
        now = time.monotonic()
        terminal = sys.stdout.isatty()
        if text == self._shown or now - self._at < (0.2 if terminal else 10):
            return
        self._shown, self._at = text, now
        width = shutil.get_terminal_size().columns - 1
        line = f"{text} ({now - since:.0f} s)"[:width]
        print(f"\r{line:<{width}}" if terminal else line, end="" if terminal else "\n", flush=True)

    def clear(self) -> None:
        """Leave room for other lines."""
        if self._shown and sys.stdout.isatty():
            print("\r" + " " * (shutil.get_terminal_size().columns - 1), end="\r", flush=True)
        self._shown = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("file", type=Path, help="the rows, in JSON or CSV")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8188", help="a running ComfyUI (default %(default)s)"
    )
    parser.add_argument(
        "--workflow",
        default=USUAL,
        help="a workflow in API format, or the name of a shipped one: "
        f"{', '.join(shipped())} (default {USUAL})",
    )
    parser.add_argument(
        "--output", type=Path, help="folder for the videos (default: FILE without its ending)"
    )
    parser.add_argument("--template", action="store_true", help="write an example to FILE and end")


def batch(options: argparse.Namespace) -> int:
    """Run a batch: 0 when every row has its video, 1 when one has not, 2 when it could not begin."""
    try:
        if options.template:
            return write_template(options.file)
        return _batch(options)
    except urllib.error.HTTPError as error:
        print(f"{options.url} refuses {error.url} ({error.code} {error.reason}).", file=sys.stderr)
    except (ConnectionError, TimeoutError, http.client.HTTPException) as error:
        _gone(options.url, error)
    except urllib.error.URLError as error:
        _gone(options.url, error.reason)
    except (OSError, ValueError, HostError) as error:
        print(error, file=sys.stderr)
    return 2


def write_template(file: Path) -> int:
    """Write an example where there is no file yet."""
    with file.open("x", encoding="utf-8") as new:
        new.write(TEMPLATE)
    print(f"{file} is written: put your files into it.")
    return 0


def _batch(options: argparse.Namespace) -> int:
    file: Path = options.file
    rows = read_rows(content(file), file.name)
    graph = read_workflow(options.workflow)
    folder: Path = options.output or file.with_suffix("")
    works, bad = [], 0
    for number, job, fault in rows:
        if job is not None:
            try:
                works.append(_work(number, job, graph, file.parent))
                continue
            except (ValueError, OSError) as error:
                fault = str(error)
        bad += 1
        print(f"row {number}: {fault}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    run = Batch(Connection(options.url), graph, folder, file.stem)
    missing = [work for work in works if not run.finished(work)]
    if skipped := len(works) - len(missing):
        print(f"{skipped} of {len(rows)} rows are finished already.")
    done, failed, start = 0, 0, time.monotonic()
    for work, problem in run.run(missing):
        done, failed = done + (not problem), failed + bool(problem)
        if problem:
            print(f"row {work.number} {work.job.output}: {problem}", file=sys.stderr, flush=True)
        else:
            at = f"{done + failed}/{len(missing)}, {time.monotonic() - start:.0f} s"
            print(f"row {work.number} {work.job.output}: finished ({at})", flush=True)
    print(f"{skipped + done} of {len(rows)} videos are in {folder}.")
    return 1 if bad or failed else 0


def _work(number: int, job: Job, graph: dict[str, Any], folder: Path) -> Work:
    """A row whose files are there and whose wishes the workflow can meet."""
    fill(graph, job, PLACE)
    files = [folder / name for name in (job.image, job.audio) if name]
    for file in files:
        if not file.is_file():
            raise ValueError(f"Put the file there, or correct its name: {file} is missing.")
    # Of the names as the row has them: the folder may be called from elsewhere, or move.
    told = identity(job, files, graph)
    return Work(
        number, replace(job, image=str(folder / job.image), audio=job.audio and str(folder / job.audio)), told
    )


def _gone(url: str, reason: object) -> None:
    print(
        f"Start ComfyUI and give the same command again: {url} does not answer ({reason}). Finished videos stay.",
        file=sys.stderr,
    )
