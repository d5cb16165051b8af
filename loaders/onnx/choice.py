"""Which of the two computes a graph."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import torch

from .runtime import RuntimeGraph
from .torch_graph import TorchGraph
from .wire import UnsupportedGraph

AUTO, TORCH, RUNTIME = BACKENDS = ("auto", "PyTorch", "onnxruntime")
"""The first one is PyTorch; onnxruntime computes what that cannot, which the log says."""
Graph: TypeAlias = TorchGraph | RuntimeGraph

logger = logging.getLogger(__name__)


def open_graph(
    path: str | Path,
    name: str,
    given: str,
    check: Callable[[Graph], object],
    device: torch.device | str = "cpu",
    by: str = AUTO,
) -> Graph:
    """The graph of a file.

    Args:
        name, given: see `RuntimeGraph`.
        check: tries it, and raises where it is another network.
        device: where onnxruntime is to run; a `TorchGraph` is a module, which is moved.
        by: one of `BACKENDS`.

    Raises:
        RuntimeError: onnxruntime is needed and missing.
        FileNotFoundError, ValueError: the file is absent, cut off or another network; the message names it.
    """
    if by != RUNTIME:
        try:
            graph = TorchGraph(path, name, given)
            check(graph)
            return graph
        except UnsupportedGraph as error:
            if by == TORCH:
                raise ValueError(
                    f"Let '{AUTO}' or '{RUNTIME}' compute {name}: PyTorch cannot compute {path}, because {error}."
                ) from error
            logger.warning("LiveAvatar: onnxruntime computes %s, because of %s %s.", name, path, error)
    graph = RuntimeGraph(path, name, given, device)
    check(graph)
    return graph
