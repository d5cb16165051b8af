"""The node that goes through a file of rows, one video a row."""

from __future__ import annotations

import os
import secrets
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import folder_paths
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from nodes import LoadImage

from ..host.folders import inside
from ..host.progress import check_interrupt, show_text
from ..jobs.answers import VIDEOS
from ..jobs.batch_file import check_file, content, read_rows
from ..jobs.identity import identity
from ..jobs.job import Job
from ..media.mapped_sound import map_audio
from ..media.room import check_room
from .names import check_prefix
from .output_names import fill_in
from .schema import MAX_SEED, Node, schema
from .values import shown

PROMPT = "A person looks into the camera and talks, with natural expressions and small movements of the head."
FLOAT_PIXEL_BYTES = 3 * 4
OUTPUTS = ("image", "audio", "text", "prompt", "seed", "name", "seconds", "steps", "guidance", "fps")
ASKED = ("audio", "text", "prompt", "seconds", "steps", "guidance", "fps")
"""What a row gives only where it is wanted: nobody may leave it lying."""


class Item(NamedTuple):
    """A row to be made, the name of its file, without number, and the size of its picture."""

    number: int
    job: Job
    name: str
    pixels: int


class AvatarBatch(Node):
    """Gives the rows of a file as lists, for which the host runs the nodes behind once per row."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = os.listdir(folder_paths.get_input_directory())
        return schema(
            node_id="AvatarBatch",
            search_aliases=["batch", "csv", "json", "many videos", "list", "queue"],
            display_name="Batch",
            description=(
                "Makes one video for each row of a JSON or CSV file in the input folder. The nodes behind run once per "
                "row with their models loaded. What is finished and unchanged is skipped, so a batch that was "
                "stopped goes on when it is queued again."
            ),
            inputs=[
                io.Combo.Input(
                    "file",
                    options=sorted(name for name in names if name.lower().endswith((".json", ".csv"))),
                    tooltip="The rows, in the input folder: image and audio (or text), and what else they ask for.",
                ),
                io.String.Input(
                    "folder", default="batch", tooltip="Folder for the videos, in the output folder."
                ),
                io.Boolean.Input(
                    "skip_finished",
                    default=True,
                    tooltip="Leave out rows whose video is there and that have not changed. Off: make all again.",
                ),
                io.String.Input(
                    "prompt", default=PROMPT, multiline=True, tooltip="The prompt of rows that have none."
                ),
                io.Int.Input("steps", default=4, min=1, max=50, tooltip="The steps of rows that have none."),
                io.Float.Input(
                    "guidance",
                    default=1.0,
                    min=1.0,
                    max=5.0,
                    step=0.1,
                    tooltip="The guidance of rows that have none; 1 is none.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", is_output_list=True),
                io.Audio.Output(display_name="audio", is_output_list=True),
                io.String.Output(display_name="text", is_output_list=True),
                io.String.Output(display_name="prompt", is_output_list=True),
                io.Int.Output(display_name="seed", is_output_list=True),
                io.String.Output(display_name="name", is_output_list=True),
                io.Float.Output(display_name="seconds", is_output_list=True),
                io.Int.Output(display_name="steps", is_output_list=True),
                io.Float.Output(display_name="guidance", is_output_list=True),
                io.Float.Output(display_name="fps", is_output_list=True),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo, io.Hidden.prompt],
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        """Which rows are left, and their random seeds, are found out anew for each run."""
        return time.time_ns()

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Files that are none are refused when the workflow is queued; single rows are looked at when it runs."""
        file = values.get("file")
        super().check({name: value for name, value in values.items() if name != "file"})
        if "folder" in values:
            check_prefix(_below(values["folder"], "name"))
        if file is not None:
            check_file(_content(file), file)

    @classmethod
    def execute(
        cls, file: str, folder: str, skip_finished: bool, prompt: str, steps: int, guidance: float
    ) -> io.NodeOutput:
        folder = fill_in(folder, cls.hidden)
        taken = _taken(cls.hidden.prompt, cls.hidden.unique_id)
        items, made, said, skipped, rows = [], [], [], 0, read_rows(_content(file), file)
        videos = cache(_videos)
        for number, job, fault in rows:
            check_interrupt()
            if job is not None:
                try:
                    item = _item(number, job, folder, taken)
                except (ValueError, OSError) as error:
                    fault = str(error)
            if fault:
                said.append(f"row {number}: {fault}")
            elif skip_finished and _finished(item.name, videos):
                skipped += 1
            else:
                items.append(item)
        # Rows share portraits and speeches: each file is read once.
        readers = {name: cache(read) for name, read in READERS.items() if name in taken}
        if "image" in readers:
            _check_memory(items)
        usual = {"prompt": prompt, "steps": steps, "guidance": guidance, "seconds": 0.0, "fps": 0.0}
        for item in items:
            check_interrupt()
            try:
                made.append(_values(item, usual, readers))
            except (ValueError, OSError) as error:
                said.append(f"row {item.number}: {error}")
        told = f"{len(rows)} rows: {len(made)} to make, {skipped} finished, {len(said)} left out"
        show_text("\n".join([told, *said]), cls.hidden)
        if not made and not skipped:
            raise ValueError(f"Correct {file}, no row of it can be used: {said[0]}")
        if not made:
            return io.NodeOutput(*[ExecutionBlocker(None)] * len(OUTPUTS))
        return io.NodeOutput(*(list(values) for values in zip(*made, strict=True)))


def _content(file: str) -> bytes:
    path = inside(f"{file} [input]")
    if not path.is_file():
        raise FileNotFoundError(f"Choose another file: there is no {shown(file)} in the input folder.")
    return content(path)


def _taken(prompt: Any, node: str) -> set[str]:
    """The outputs of this node that others take."""
    links = [
        value
        for other in (prompt or {}).values()
        for value in other.get("inputs", {}).values()
        if isinstance(value, list) and len(value) == 2 and str(value[0]) == str(node)
    ]
    return {OUTPUTS[slot] for _, slot in links}


def _item(number: int, job: Job, folder: str, taken: set[str]) -> Item:
    """A row whose files are there, and whose wishes somebody takes; ValueError for another one."""
    for name in ASKED:
        if getattr(job, name) is not None and name not in taken:
            raise ValueError(
                f"Connect Batch's output {name}, or take {name} out of the row: nobody takes it."
            )
    if job.voice is not None:
        raise ValueError("Take voice out of the row, and choose it at the node Voice: Batch gives none.")
    files = {name: inside(f"{name} [input]") for name in (job.image, job.audio) if name}
    for name, file in files.items():
        if not file.is_file():
            raise ValueError(
                f"Put {shown(name)} into the input folder, or correct its name: it is not there."
            )
    name = _below(folder, f"{job.output}-{identity(job, files.values())[:8]}")
    return Item(number, job, name, _pixels(job.image))


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder.strip() else name


def _finished(name: str, videos: Callable[[Path], list[str]]) -> bool:
    """Whether a whole video of this name is in the output folder."""
    path = Path(folder_paths.get_output_directory(), name)
    begin, there = f"{path.name}_", videos(path.parent)
    at = bisect_left(there, begin)
    return at < len(there) and there[at].startswith(begin)


def _videos(folder: Path) -> list[str]:
    """The names of the whole videos in a folder, in order."""
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    return sorted(
        name for name in names if name.lower().endswith(VIDEOS) and f"{name}.resume.json" not in names
    )


def _pixels(name: str) -> int:
    with _readable(name), Image.open(inside(f"{name} [input]")) as picture:  # reads the header only
        return picture.width * picture.height


@contextmanager
def _readable(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"Choose another picture than {shown(name)}: it cannot be read.") from error


def _check_memory(items: list[Item]) -> None:
    """MemoryError before pictures are read that do not fit."""
    pixels = {item.job.image: item.pixels for item in items}
    check_room(
        sum(pixels.values()) * FLOAT_PIXEL_BYTES,
        f"{len(pixels)} pictures",
        "Split the batch, or make its pictures smaller",
    )


def _picture(name: str) -> Any:
    with _readable(name):
        return LoadImage().load_image(f"{name} [input]")[0][:1]


def _sound(name: str) -> dict[str, Any]:
    os.makedirs(folder_paths.get_temp_directory(), exist_ok=True)
    path = inside(f"{name} [input]")
    return map_audio(str(path), folder_paths.get_temp_directory(), check_interrupt, name=name)


READERS = {"image": _picture, "audio": _sound}
"""How a file becomes what the output of this name gives."""


def _values(item: Item, usual: dict[str, Any], readers: dict[str, Callable[[str], Any]]) -> list[Any]:
    """What one row gives, in the order of the outputs."""
    job = item.job
    given = {name: value for name, value in asdict(job).items() if value is not None}
    if job.seed is None:
        given["seed"] = secrets.randbelow(MAX_SEED + 1)
    given["name"] = item.name
    for name, read in readers.items():
        if name in given:
            given[name] = read(given[name])
    values = usual | given
    return [values.get(name) for name in OUTPUTS]
