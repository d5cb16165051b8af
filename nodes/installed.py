"""Notices when the pack is installed twice."""

from __future__ import annotations

import sys
from pathlib import Path

from comfy_api.latest import io

import nodes  # the host's


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


def _folder(node: type[io.ComfyNode]) -> Path:
    return Path(sys.modules[node.__module__.partition(".")[0]].__file__).parent
