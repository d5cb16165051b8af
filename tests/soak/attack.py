"""An attack with a workflow, and what is said about it: a sentence of the pack, or the raw error of a library."""

from __future__ import annotations

import copy
import json
import time
import urllib.error
from dataclasses import dataclass
from typing import Any

from tests.host.client import Host
from tests.host.workflows import Api, add
from tools.connection import HostError

PACK = "ComfyUI-LiveAvatar"
PATIENCE = 180.0
"""Seconds that one attack may take."""
VALIDATING = ("exception_during_validation", "exception_during_inner_validation")
"""What the host says of an exception of a node's own check."""
LONGEST = 1200
"""Letters of a sentence that people still read."""


@dataclass(frozen=True)
class Attack:
    """A workflow with something in it that does not belong there."""

    kind: str
    name: str
    workflow: Api


@dataclass(frozen=True)
class Outcome:
    """What came of an attack.

    ``verdict``: "refused" in a sentence, "worked", "host" for an error of the host's own nodes, "raw", "slow", or
    "ended" when the host is gone. ``said`` is the message.
    """

    kind: str
    name: str
    verdict: str
    said: str
    seconds: float

    @property
    def survived(self) -> bool:
        """Whether neither the host nor a reader has suffered."""
        return self.verdict in ("refused", "worked", "host")


def spoiled(workflow: Api, node: str, name: str, value: Any) -> Api:
    """A copy of a workflow with another value of one input."""
    graph = copy.deepcopy(workflow)
    graph[node]["inputs"][name] = value
    return graph


def alone(workflow: Api, node: str) -> Api:
    """What a node needs, the node, and somebody who looks at what it gives; quick, where a whole video is not."""
    kept, wanted = {}, [node]
    while wanted:
        if (number := wanted.pop()) not in kept:
            kept[number] = workflow[number]
            wanted += [value[0] for value in workflow[number]["inputs"].values() if isinstance(value, list)]
    kept = copy.deepcopy(kept)
    if kept[node]["class_type"] not in ("AvatarStreamToVideo", "AvatarSendSpeech", "PersonaLiveSaveMotion"):
        add(kept, "PreviewAny", source=[node, 0])
    return kept


def run(host: Host, attack: Attack) -> Outcome:
    """Queue an attack and wait for its end."""
    began = time.monotonic()

    def outcome(verdict: str, said: str) -> Outcome:
        return Outcome(attack.kind, attack.name, verdict, said, time.monotonic() - began)

    try:
        prompt = _queued(host, attack.workflow)
    except _Refused as refused:
        return outcome(*_of_refusal(refused.answer))
    except (OSError, HostError) as error:
        return outcome("ended" if host.process.poll() is not None else "raw", repr(error))
    try:
        entry = host.wait(prompt, PATIENCE)
    except HostError as error:
        gone = host.process.poll() is not None
        if not gone:
            host.interrupt()
            host.wait(prompt, PATIENCE)
        return outcome("ended" if gone else "slow", str(error)[:300])
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            return outcome(*_of_error(data))
    return outcome("worked", "")


class _Refused(Exception):
    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer


def _queued(host: Host, workflow: Api) -> str:
    try:
        return host.post("/prompt", {"prompt": workflow, "client_id": "soak"})["prompt_id"]
    except urllib.error.HTTPError as error:
        text = error.read()
        if error.code != 400:
            raise OSError(f"{error.code}: {text[:300]!r}") from None
        raise _Refused(json.loads(text)) from None


def _of_refusal(answer: dict[str, Any]) -> tuple[str, str]:
    """Of a workflow that the host did not take: raw where a library's exception came through a node's own check."""
    said = [
        f"{error['message']}: {error['details']}"
        for node in (answer.get("node_errors") or {}).values()
        for error in node["errors"]
    ]
    for node in (answer.get("node_errors") or {}).values():
        for error in node["errors"]:
            trace = (error.get("extra_info") or {}).get("traceback")
            if trace and error["type"] in VALIDATING and not _ours(trace):
                return "raw", said[0]
    text = "; ".join(said) or f"{answer['error']['message']}: {answer['error'].get('details', '')}"
    return ("raw" if not said and answer["error"].get("type") == "unknown" else "refused"), text


def _of_error(data: dict[str, Any]) -> tuple[str, str]:
    said = f"{data['node_type']}: {data['exception_type']}: {data['exception_message'].strip()}"
    trace = data["traceback"]
    if not any(PACK in frame for frame in trace):
        return "host", said
    message = data["exception_message"].strip()
    fine = _ours(trace) and "\n" not in message and len(message) < LONGEST
    return ("refused" if fine else "raw"), said + ("" if fine else "  @ " + " / ".join(trace[-1].split()))


def _ours(trace: list[str]) -> bool:
    """Whether the exception was raised by a line of the pack that says so."""
    place, _, line = trace[-1].strip().partition("\n")
    return PACK in place and line.strip().startswith("raise ")
