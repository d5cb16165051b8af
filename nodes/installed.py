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


def tell_of_old_torch() -> None:
    """A warning in the log where diffusers cannot be imported: newer ones use what came with torch 2.5 (from 0.37 on)
    and 2.6 (from 0.41 on), and ask pip for no version of torch."""
    try:
        diffusers = importlib.metadata.version("diffusers")
    except importlib.metadata.PackageNotFoundError:
        return
    installed = _numbers(torch.__version__)
    if installed < (2, 6) and _numbers(diffusers) >= ((0, 41) if installed >= (2, 5) else (0, 37)):
        logger.warning(
            "LiveAvatar: run pip install 'diffusers<0.37' in ComfyUI's Python, or update torch to 2.6 or newer: "
            "diffusers %s does not work with torch %s.",
            diffusers,
            torch.__version__,
        )


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)


def _folder(node: type[io.ComfyNode]) -> Path:
    return Path(sys.modules[node.__module__.partition(".")[0]].__file__).parent
