"""Notices installations that cannot work: the pack twice, or packages that do not fit together."""

from __future__ import annotations

import importlib.metadata
import logging
import sys
from pathlib import Path

import torch
from comfy_api.latest import io

import nodes  # the host's

logger = logging.getLogger(__name__)


def refuse_second_copy(node: type[io.ComfyNode]) -> None:
    """RuntimeError when another copy of the pack has brought ``node``.

    With two copies, the nodes of one would run and the routes of the other would answer, without knowing of each other.
    """
    known = nodes.NODE_CLASS_MAPPINGS.get(node.GET_SCHEMA().node_id)
    if known is None:
        return
    here, there = _folder(node), _folder(known)
    if here != there:
        raise RuntimeError(
            f"Remove {here} or {there} and restart ComfyUI: ComfyUI-LiveAvatar is installed twice, and only the second "
            "of these folders is used."
        )


def tell_of_mismatches() -> None:
    """A warning in the log for each pair of packages that cannot be imported together, which pip does not notice:
    diffusers uses what came with torch 2.5 (from 0.37 on) and 2.6 (from 0.41 on), peft from 0.18 on what came with
    transformers 4.52."""
    torch_, diffusers = _numbers(torch.__version__), _installed("diffusers")
    if diffusers and torch_ < (2, 6) and diffusers >= ((0, 41) if torch_ >= (2, 5) else (0, 37)):
        _tell("diffusers", "0.37", "torch", "2.6")
    transformers, peft = _installed("transformers"), _installed("peft")
    if transformers and peft and transformers < (4, 52) and peft >= (0, 18):
        _tell("peft", "0.18", "transformers", "4.52")


def _tell(package: str, below: str, other: str, newer: str) -> None:
    logger.warning(
        "LiveAvatar: run pip install '%s<%s' in ComfyUI's Python, or update %s to %s or newer: as installed, they do "
        "not work together.",
        package,
        below,
        other,
        newer,
    )


def _installed(package: str) -> tuple[int, int] | None:
    try:
        return _numbers(importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _folder(node: type[io.ComfyNode]) -> Path:
    return Path(sys.modules[node.__module__.partition(".")[0]].__file__).parent
