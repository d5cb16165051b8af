"""Speaker masks against the reference's mask generation."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.liveavatar.speakers import claim_areas, dilate_areas, routing_masks

from tests.parity.liveavatar_cases import FAMILY
from tests.parity.reference import tensors


def generated_masks() -> dict[str, dict[str, torch.Tensor]]:
    groups: dict[str, dict[str, torch.Tensor]] = {}
    try:
        fixtures = tensors(FAMILY, "multi_actor.safetensors")
    except pytest.skip.Exception:
        return groups
    for name, tensor in fixtures.items():
        if name.startswith("maskgen_"):
            group, part = name.split(".")
            groups.setdefault(group, {})[part] = tensor
    return groups


@pytest.mark.parametrize("group", generated_masks().values(), ids=generated_masks().keys())
def test_areas_dilation_and_routing(group):
    rows, columns = group["routing"].shape[-2:]
    masks = group["raw"][:, None]
    areas = claim_areas(masks, rows, columns)
    assert torch.equal(areas[:, 0].float(), group["routing"])
    assert torch.equal(dilate_areas(areas)[:, 0].float(), group["dilated"])
    assert torch.equal(routing_masks(masks, rows, columns)[:, 0], group["final"])
