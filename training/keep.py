"""Writes a trained part in 8 bits, half as large: a point to go on from, not to be shipped.

python -m training.keep training/.state/talker.safetensors training/parts/talker.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from .loop import SCALE


def in_8_bits(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of two and more axes as int8 and a scale for each row; the others as they are."""
    small = {}
    for name, value in state.items():
        if value.ndim < 2:
            small[name] = value
            continue
        rows = value.float().flatten(1)
        scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
        small[name] = (rows / scale).round().to(torch.int8).view(value.shape)
        small[name + SCALE] = scale.view(-1, *[1] * (value.ndim - 1))
    return small


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    with safe_open(args.part, "pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(in_8_bits(state), args.out, metadata=file.metadata())


if __name__ == "__main__":
    main()
