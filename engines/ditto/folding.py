"""Networks as they are published, made ready for inference: norms folded, convolutions joined, channels last.

This is done once, after loading. The results differ by rounding only, and all weights stay ordinary parameters, which a
host can move.
"""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def fold(network: nn.Module) -> nn.Module:
    """``network`` with every layer that knows a shorter way replaced by it, perhaps itself."""
    for name, layer in list(network.named_children()):
        network.add_module(name, fold(layer))
    shorter = getattr(network, "folded", None)
    return network if shorter is None else shorter()


def channels_last(network: nn.Module) -> nn.Module:
    """``network`` with the weights of all convolutions in channels-last order, in which GPUs compute them."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for weight in network.parameters():
        if weight.dim() in formats:
            weight.data = weight.data.contiguous(memory_format=formats[weight.dim()])
    return network
