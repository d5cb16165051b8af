"""Batch files: one video a row, in JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from .job import FIELDS, Job, read_job, shown

MOST_BYTES = 32 << 20
MOST_ROWS = 100_000
DELIMITERS = ",;\t"
NAMES = {
    **{field: field for field in FIELDS},
    "referenceimage": "image",
    "numinferencesteps": "steps",
    "guidancescale": "guidance",
}
"""Names of columns, without regard to case, spaces, hyphens and underscores."""
TEMPLATE = """\
[
  {
    "referenceImage": "portrait.png",
    "audio": "speech.wav",
    "output": "first",
    "prompt": "A person looks into the camera and talks, with natural expressions.",
    "seed": 42
  },
  {
    "referenceImage": "portrait.png",
    "audio": "speech.wav",
    "output": "second",
    "seed": "random",
    "numInferenceSteps": 4,
    "fps": 25,
    "seconds": 10
  }
]
"""


class Row(NamedTuple):
    """A row by its number, from 1 on: a job, or the sentence that says why it is none."""

    number: int
    job: Job | None
    fault: str = ""


def content(file: Path) -> bytes:
    """The bytes for `read_rows`; of a file that is too large only as many as show that."""
    with file.open("rb") as opened:
        return opened.read(MOST_BYTES + 1)


def check_file(data: bytes, name: str) -> None:
    """What `read_rows` raises, without a look at the single rows, which takes seconds where there are many."""
    _listed(data, name)


def read_rows(data: bytes, name: str) -> list[Row]:
    """All rows of a file, whose ``name`` ends with .json or .csv. Bad rows are named, and the others still read.

    A row without ``output`` is called by its number; of two rows with the same output the second is refused.

    Raises:
        ValueError: the file as a whole cannot be read; in one sentence.
    """
    rows, taken, written = [], {}, not name.lower().endswith(".json")
    for number, values in enumerate(_listed(data, name), 1):
        row = _row(number, values, written)
        if row.job is not None:
            # Disks of Windows and macOS do not tell the letters' case apart.
            before = taken.setdefault(row.job.output.lower(), number)
            if before != number:
                row = Row(
                    number, None, f"Give it another output: row {before} has {shown(row.job.output)} too."
                )
        rows.append(row)
    return rows


def _listed(data: bytes, name: str) -> list[Any]:
    """What stands in the rows of a file; ValueError where the file as a whole cannot be read."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"Split {name}: a batch file may have {MOST_BYTES >> 20} MB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"Save {name} in UTF-8: byte {error.start} is none.") from error
    ending = name.lower().rpartition(".")[2]
    if ending not in ("json", "csv"):
        raise ValueError(f"Name the file .json or .csv: {shown(name)} is neither.")
    listed = _json(text, name) if ending == "json" else list(islice(_csv(text, name), MOST_ROWS + 1))
    if len(listed) > MOST_ROWS:
        raise ValueError(f"Split {name}: a batch file may have {MOST_ROWS} rows.")
    if not listed:
        raise ValueError(f"Write rows into {name}: there are none.")
    return listed


def _row(number: int, values: Any, written: bool) -> Row:
    if isinstance(values, str):
        return Row(number, None, values)
    if not isinstance(values, Mapping):
        return Row(
            number, None, f'Write it as {{"image": "a.png", "audio": "a.wav"}}: it is {shown(values)}.'
        )
    try:
        job = read_job(values, _names(tuple(values)), written=written)
    except ValueError as error:
        return Row(number, None, str(error))
    return Row(number, job if job.output else replace(job, output=f"{number:05}"))


@lru_cache
def _names(given: tuple[str, ...]) -> dict[str, str]:
    """`NAMES`, and the field of each given name in its own spelling; most rows of a file have the same ones."""
    plain = {name: re.sub(r"[\s_-]", "", name).lower() for name in given}
    return NAMES | {name: NAMES[known] for name, known in plain.items() if known in NAMES}


def _json(text: str, name: str) -> list[Any]:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no number")

    try:
        rows = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"Correct {name}: it is no JSON ({error}).") from error
    if not isinstance(rows, list):
        raise ValueError(f"Put the rows of {name} into a list: [{{…}}, {{…}}].")
    return rows


def _csv(text: str, name: str) -> Iterator[dict[str, str] | str]:
    """The rows; a text in place of one that has more cells than there are columns."""
    header = text.partition("\n")[0]
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=header.count), strict=True
    )
    columns = None
    try:
        for cells in reader:
            cells = [cell.strip() for cell in cells]
            if not any(cells):
                continue
            if columns is None:
                columns = cells
                if twice := {column for column in columns if column and columns.count(column) > 1}:
                    raise ValueError(f"Name each column of {name} once: {shown(min(twice))} is there twice.")
            elif any(cells[len(columns) :]):
                found = f"it has {len(cells)} cells for {len(columns)} columns"
                yield f"Put quotation marks around texts with commas: {found}."
            else:
                yield {column: cell for column, cell in zip(columns, cells, strict=False) if cell}
    except csv.Error as error:
        raise ValueError(f"Correct line {reader.line_num} of {name}: {error}.") from error
