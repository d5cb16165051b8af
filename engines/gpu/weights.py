"""Where the weights of networks lie."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn


def places(network: nn.Module) -> Iterator[tuple[dict[str, Tensor | None], str]]:
    """Where each parameter and buffer of a network is kept: (dictionary, name)."""
    for module in network.modules():
        for owner in (module._parameters, module._buffers):
            for name, tensor in owner.items():
                if tensor is not None:
                    yield owner, name


class Weights:
    """The memory of some networks' weights, for whoever goes on reading it by its address.

    A host moves weights by other tensors in their places, or by other memory under the same tensors. Both show here.
    """

    def __init__(self, *networks: nn.Module) -> None:
        self._places = [place for network in networks for place in places(network)]

    def held(self) -> list[torch.UntypedStorage]:
        """The memory as it is now; nobody else gets it while the answer is kept. (160 µs for 1400 tensors.)"""
        return [owner[name].untyped_storage() for owner, name in self._places]


def addresses(memory: list[torch.UntypedStorage]) -> list[int]:
    """Where it begins."""
    return [part.data_ptr() for part in memory]
