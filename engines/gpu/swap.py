"""Layers with prepared weights take the place of the ones that they are made from, and give it back.

A table of an engine says what is replaced by what. The layers that are replaced stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

Table = Mapping[type[nn.Module], type["StandIn"]]
"""The stand-in for each class of layers, which derives from that class; subclasses of it are left alone."""


class StandIn:
    """A layer in place of another, all of whose weights and parts it shares.

    It derives from this class first and then from the class of the layers that it stands in for.

    Attributes:
        source: the layer that is replaced.
    """

    source: nn.Module

    def __init__(self, source: nn.Module) -> None:
        self.__dict__.update(source.__dict__)
        self.__dict__["source"] = source  # not a part of it: names of weights stay the same
        self.prepare()

    @classmethod
    def fits(cls, layer: Any) -> bool:
        """Whether this class can stand in for ``layer``."""
        return True

    def prepare(self) -> None:
        """Bring weights into the form in which they are used. They must be where they will be used."""


@torch.no_grad()
def replace_layers(network: nn.Module, table: Table) -> nn.Module:
    """``network`` with a stand-in for every layer in it that ``table`` knows and that fits, perhaps for itself."""
    for name, layer in _parts(network):
        network._modules[name] = replace_layers(layer, table)
    kind = table.get(type(network))
    return kind(network) if kind is not None and kind.fits(network) else network


def put_back(network: nn.Module) -> nn.Module:
    """``network`` with the layers that `replace_layers` has replaced."""
    while isinstance(network, StandIn):
        network = network.source
    for name, layer in _parts(network):
        network._modules[name] = put_back(layer)
    return network


def _parts(network: nn.Module) -> list[tuple[str, nn.Module]]:
    # A layer that is there twice has two names, of which `named_children` would give one.
    return [(name, layer) for name, layer in network._modules.items() if layer is not None]
