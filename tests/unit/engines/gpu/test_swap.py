"""Layers are replaced by a table and put back as they were."""

from __future__ import annotations

import torch
from avatar.engines.gpu.swap import StandIn, put_back, replace_layers
from torch import nn


class Doubled(StandIn, nn.Linear):
    @classmethod
    def fits(cls, layer: nn.Linear) -> bool:
        return layer.bias is None

    def prepare(self) -> None:
        self.doubled = 2 * self.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.doubled.t() / 2


class Rectified(StandIn, nn.ReLU):
    pass


TABLE = {nn.Linear: Doubled, nn.ReLU: Rectified}


def network() -> nn.Sequential:
    rectified = nn.ReLU()
    inner = nn.Sequential(nn.Linear(3, 3, bias=False), rectified, nn.Linear(3, 3), rectified)
    return nn.Sequential(inner, nn.Linear(3, 3, bias=False))


def test_layers_that_fit_are_replaced_and_share_their_weights():
    net, x = network(), torch.randn(2, 3)
    expected, names, layer = net(x), list(net.state_dict()), net[1]
    assert replace_layers(net, TABLE) is net
    kinds = [type(part) for part in net[0]]
    assert kinds == [Doubled, Rectified, nn.Linear, Rectified] and type(net[1]) is Doubled
    assert net[1].weight is layer.weight and list(net.state_dict()) == names
    torch.testing.assert_close(net(x), expected)


def test_they_are_not_replaced_twice_and_come_back_untouched():
    net, x = network(), torch.randn(2, 3)
    expected, before = net(x), list(net.modules())
    attributes = [set(vars(layer)) for layer in before]
    replace_layers(replace_layers(net, TABLE), TABLE)
    assert put_back(net) is net
    assert [id(layer) for layer in net.modules()] == [id(layer) for layer in before]
    assert [set(vars(layer)) for layer in before] == attributes
    assert torch.equal(net(x), expected)


def test_a_network_may_be_replaced_itself():
    layer = nn.Linear(3, 3, bias=False)
    fast = replace_layers(layer, TABLE)
    assert type(fast) is Doubled and put_back(fast) is layer
