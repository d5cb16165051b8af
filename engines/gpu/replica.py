"""A second model on another GPU, made without passing through CPU memory."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

Kind = TypeVar("Kind")


def replica(given: Kind, source: torch.device, target: torch.device, module: nn.Module | None = None) -> Kind:
    """A copy of ``given``, whose weights lie on ``source``, with all of them on ``target``; nothing is shared.

    Args:
        module: which has the weights, where ``given`` is not one itself.

    Raises:
        RuntimeError: weights lie elsewhere, as they do where ComfyUI brings them to the GPU layer by layer.
        torch.OutOfMemoryError: ``target`` has no room for them.
    """
    module = given if module is None else module
    made: dict[int, object] = {}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.device != source:
            raise RuntimeError(
                "Set precision to 'fp8' or gpus to 'one' in LiveAvatar Performance Options: the weights of this MODEL "
                f"do not lie on {source} as a whole, so they cannot be copied to {target}."
            )
        moved = tensor.detach().to(target, copy=True)
        if isinstance(tensor, nn.Parameter):
            moved = nn.Parameter(moved, requires_grad=False)
        made[id(tensor)] = moved
    return copy.deepcopy(given, made)
