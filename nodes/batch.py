"""The node that goes through a file of rows, one video a row."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict
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
from ..jobs.batch_file import read_rows
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
ASKED = ("audio", "text", "seconds", "steps", "guidance", "fps")
"""What a row gives only where it is wanted: nobody may leave it lying."""


class Item(NamedTuple):
    """A row to be made and the name of its file, without number."""

    number: int
    job: Job
    name: str


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
        """Files that are none are refused when the workflow is queued."""
        file = values.get("file")
        super().check({name: value for name, value in values.items() if name != "file"})
        if "folder" in values:
            check_prefix(_below(values["folder"], "name"))
        if file is not None:
            read_rows(_content(file), file)

    @classmethod
    def execute(
        cls, file: str, folder: str, skip_finished: bool, prompt: str, steps: int, guidance: float
    ) -> io.NodeOutput:
        folder = fill_in(folder, cls.hidden)
        taken = _taken(cls.hidden.prompt, cls.hidden.unique_id)
        items, said, skipped, rows = [], [], 0, read_rows(_content(file), file)
        for number, job, fault in rows:
            check_interrupt()
            if job is not None:
                try:
                    item = _item(number, job, folder, taken)
                except (ValueError, OSError) as error:
                    fault = str(error)
            if fault:
                said.append(f"row {number}: {fault}")
            elif skip_finished and _finished(item.name):
                skipped += 1
            else:
                items.append(item)
        told = f"{len(rows)} rows: {len(items)} to make, {skipped} finished, {len(said)} left out"
        show_text("\n".join([told, *said]), cls.hidden)
        if not items and not skipped:
            raise ValueError(f"Correct {file}, no row of it can be used: {said[0]}")
        if not items:
            return io.NodeOutput(*[ExecutionBlocker(None)] * len(OUTPUTS))
        _check_memory(items)
        usual = {"prompt": prompt, "steps": steps, "guidance": guidance, "seconds": 0.0, "fps": 0.0}
        lists = zip(*(_values(item, usual, "image" in taken) for item in items), strict=True)
        return io.NodeOutput(*(list(values) for values in lists))


def _content(file: str) -> bytes:
    path = inside(f"{file} [input]")
    if not path.is_file():
        raise FileNotFoundError(f"Choose another file: there is no {shown(file)} in the input folder.")
    return path.read_bytes()


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
    told = hashlib.sha256(json.dumps(asdict(job), sort_keys=True).encode())
    for file in filter(None, (job.image, job.audio)):
        path = inside(f"{file} [input]")
        if not path.is_file():
            raise ValueError(
                f"Put {shown(file)} into the input folder, or correct its name: it is not there."
            )
        told.update(hashlib.sha256(path.read_bytes()).digest())
    return Item(number, job, _below(folder, f"{job.output}-{told.hexdigest()[:8]}"))


def _below(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder.strip() else name


def _finished(name: str) -> bool:
    """Whether a whole video of this name is in the output folder."""
    path = Path(folder_paths.get_output_directory(), name)
    if not path.parent.is_dir():
        return False
    return any(
        file.name.startswith(f"{path.name}_")
        and file.suffix.lower() in VIDEOS
        and not file.with_name(f"{file.name}.resume.json").exists()
        for file in path.parent.iterdir()
    )


def _check_memory(items: list[Item]) -> None:
    """MemoryError before pictures are read that do not fit."""
    pixels = 0
    for item in items:
        with Image.open(inside(f"{item.job.image} [input]")) as picture:  # reads the header only
            pixels += picture.width * picture.height
    check_room(
        pixels * FLOAT_PIXEL_BYTES, f"{len(items)} pictures", "Split the batch, or make its pictures smaller"
    )


def _values(item: Item, usual: dict[str, Any], wants_image: bool) -> Iterator[Any]:
    """What one row gives, in the order of the outputs."""
    job = item.job
    given = {name: value for name, value in asdict(job).items() if value is not None}
    if job.seed is None:
        given["seed"] = secrets.randbelow(MAX_SEED + 1)
    given["name"] = item.name
    if wants_image:
        given["image"] = LoadImage().load_image(f"{job.image} [input]")[0][:1]
    if job.audio is not None:
        os.makedirs(folder_paths.get_temp_directory(), exist_ok=True)
        path = inside(f"{job.audio} [input]")
        given["audio"] = map_audio(str(path), folder_paths.get_temp_directory(), check_interrupt)
    values = usual | given
    return (values.get(name) for name in OUTPUTS)
