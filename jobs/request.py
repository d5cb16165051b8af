"""A video as a program asks for it over HTTP: JSON, with its files in base64."""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from dataclasses import replace
from typing import Any, NamedTuple

from .access import Refusal, refusing
from .job import MAX_SEED, Job, read_job

NAMES = {
    "reference_image": "image",
    "audio": "audio",
    "text": "text",
    "voice": "voice",
    "prompt": "prompt",
    "seed": "seed",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "fps": "fps",
    "seconds": "seconds",
}
"""The inputs of a request, and the fields of a job that they mean."""
INPUTS = {field: name for name, field in NAMES.items()}
"""The other way round, for messages."""
PICTURE_BYTES, SOUND_BYTES = 32 << 20, 64 << 20
"""Most bytes of a file that is sent."""
DECODED_BYTES = 1 << 30
"""Size of a sound as float32; more is not for requests."""
FILES = ("reference_image", "audio")
LATER = "-"
"""Stands for a file while the other values are looked at."""


class Request(NamedTuple):
    """What a request asks for: a job with a seed, whose files are still texts; a workflow; whether to wait."""

    job: Job
    workflow: str | None
    wait: bool


def read_request(data: bytes) -> Request:
    """A request from its body; Refusal for one that makes no sense."""
    body = _object(data)
    wait = body.pop("wait", True)
    if not isinstance(wait, bool):
        raise Refusal(400, "Set wait to true or false.")
    workflow = body.pop("workflow", None)
    if workflow is not None and not isinstance(workflow, str):
        raise Refusal(400, "Set workflow to a name.")
    return Request(_job(body), workflow, wait)


def read_live_request(data: bytes) -> Job:
    """A video whose speech comes later, from the body of a request; its ``audio`` means nothing."""
    body = _object(data)
    for name in ("audio", "text", "voice", "fps"):
        if body.get(name) is not None:
            raise Refusal(400, f"Leave {name} out: a live video has none of its own.")
    return _job({**body, "audio": LATER, "text": None, "voice": None})


def sent_bytes(value: str, name: str, most: int, other: str = "") -> bytes | None:
    """The bytes of base64 or of a data URL; None for what is a file's name, because it has an ending behind a point.

    Args:
        name: of the input, in messages.
        other: what else the service takes, in messages.

    Raises:
        Refusal: it is none of these, or longer than ``most`` bytes; before it is decoded.
    """
    if value.startswith("data:"):
        head, comma, value = value.partition(",")
        if not comma or not head.endswith(";base64"):
            raise Refusal(400, f"Send {name} as base64: its data URL has none.")
    elif "." in value:
        return None
    if len(value) // 4 * 3 > most + 3:
        raise Refusal(413, f"Send {name} smaller{other}: {most >> 20} MB may be sent.")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, f"Send {name} as base64{other}: these letters are none.") from error


def _object(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "Send a JSON object: this body is no JSON.") from error
    if not isinstance(body, dict):
        raise Refusal(400, "Send a JSON object.")
    return body


def _job(body: dict[str, Any]) -> Job:
    # Their texts are long where they are files: these are looked at on their own.
    files = {name: body[name] for name in FILES if isinstance(body.get(name), str) and body[name]}
    with refusing():
        job = read_job({**body, **dict.fromkeys(files, LATER)}, NAMES)
    seed = secrets.randbelow(MAX_SEED + 1) if job.seed is None else job.seed
    return replace(job, image=files["reference_image"], audio=files.get("audio"), seed=seed)


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is no number")
