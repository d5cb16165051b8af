"""The workflow of a batch, which the shipped talker can run."""

from __future__ import annotations

from .graphs import PROMPT, Graph, Link, Node, Workflow, demo

NOTE = """## One video for each row of a file

Queue it once. Stopped? Queue it again: finished rows are skipped.

**Needs:** nothing: the *tiny talker* comes with the pack and knows drawn faces only. For photographs choose the \
checkpoint of *liveavatar_core*, and its size.

**Rows:** JSON or CSV in the `input` folder. Each has image and audio, and may have output, prompt and seed. The node \
names rows that it leaves out. Connect its outputs seconds, steps and fps for rows that give those.

**Result:** the videos are in `output/batch`."""


def batch() -> Graph:
    """The demo with portrait, speech, prompt, seed and name from a file of rows."""
    graph = demo()
    del graph["image"], graph["audio"]
    rows = {"file": "liveavatar_batch.json", "folder": "batch", "skip_finished": True}
    graph["rows"] = Node("AvatarBatch", 1, {**rows, "prompt": PROMPT, "steps": 4, "guidance": 1.0}, 80)
    for node, input_, slot in (
        ("reference", "image", 0),
        ("speech", "audio", 1),
        ("prompt", "text", 3),
        ("sample", "seed", 4),
        ("video", "filename_prefix", 5),
    ):
        graph[node].inputs[input_] = Link("rows", slot)
    return graph


WORKFLOWS = {"batch": Workflow(batch, "portrait_3.png", "One video for each row of a file", NOTE)}
