"""What a host's answers about a prompt say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MARK = "liveavatar"
"""Key in a prompt's extra_data by which videos of programs are known."""
VIDEOS = (".mp4", ".webm", ".mkv", ".mov")
"""Endings of video files."""


def errors(entry: Mapping[str, Any]) -> list[str]:
    """What went wrong in a history entry, one text per failed node; empty when it succeeded."""
    problems = []
    for kind, data in entry["status"]["messages"]:
        if kind == "execution_error":
            node = f"{data['node_type']} (node {data['node_id']})"
            problems.append(f"{node}: {data['exception_type']}: {data['exception_message'].strip()}")
        elif kind == "execution_interrupted":
            problems.append(f"{data['node_type']} (node {data['node_id']}): interrupted")
    return problems


def saved(entry: Mapping[str, Any]) -> list[dict[str, str]]:
    """The files that a history entry's outputs name, in node order: filename, subfolder and type of each."""
    return [
        {
            "filename": item["filename"],
            "subfolder": item.get("subfolder", ""),
            "type": item.get("type", "output"),
        }
        for output in entry["outputs"].values()
        for items in output.values()
        if isinstance(items, list)
        for item in items
        if isinstance(item, dict) and item.get("filename")
    ]


def video(entry: Mapping[str, Any]) -> dict[str, str] | None:
    """The last video that a history entry names, as `saved` tells it."""
    videos = [place for place in saved(entry) if place["filename"].lower().endswith(VIDEOS)]
    return videos[-1] if videos else None


def refusal(answer: Mapping[str, Any]) -> str:
    """One line per reason for which the host refused a workflow, from its answer."""
    reasons = [
        f"{node['class_type']} (node {number}): {error['message']}: {error['details']}"
        for number, node in (answer.get("node_errors") or {}).items()
        for error in node["errors"]
    ]
    general = answer["error"]
    return "\n".join(reasons) or f"{general['message']}: {general.get('details', '')}"
