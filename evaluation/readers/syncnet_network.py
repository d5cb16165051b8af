"""SyncNet's two networks, in the layout of the published weights (syncnet_v2.model).

J. S. Chung, A. Zisserman: Out of time: automated lip sync in the wild, 2016.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

FRAMES, SIDE = 5, 224
"""Pictures that are looked at together, and pixels per side of each."""
SOUND_STEPS = 20
"""Steps of sound that belong to them."""
WIDTH = 1024


def _flat(inside: int, outside: int, kernel: tuple[int, int] | int = 3, padding: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(inside, outside, kernel, padding=padding), nn.BatchNorm2d(outside), nn.ReLU()]


def _deep(inside: int, outside: int, kernel: tuple, stride: tuple, padding: tuple) -> list[nn.Module]:
    return [nn.Conv3d(inside, outside, kernel, stride, padding), nn.BatchNorm3d(outside), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, WIDTH))


class SyncNet(nn.Module):
    """Sound and lips as vectors that are close where they belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_flat(1, 64),
            nn.MaxPool2d(1, 1),
            *_flat(64, 192),
            nn.MaxPool2d(3, (1, 2)),
            *_flat(192, 384),
            *_flat(384, 256),
            *_flat(256, 256),
            nn.MaxPool2d(3, 2),
            *_flat(256, 512, (5, 4), 0),
        )
        same = ((1, 3, 3), (1, 1, 1), (0, 1, 1))
        self.netcnnlip = nn.Sequential(
            *_deep(3, 96, (5, 7, 7), (1, 2, 2), (0, 0, 0)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_deep(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1)),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_deep(256, 256, *same),
            *_deep(256, 256, *same),
            *_deep(256, 256, *same),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_deep(256, 512, (1, 6, 6), (1, 1, 1), (0, 0, 0)),
        )
        self.netfcaud, self.netfclip = _head(), _head()

    def sound(self, coefficients: Tensor) -> Tensor:
        """Vectors ``[B, 1024]`` of coefficients ``[B, 1, 13, 20]``."""
        return self.netfcaud(self.netcnnaud(coefficients).flatten(1))

    def lips(self, pictures: Tensor) -> Tensor:
        """Vectors ``[B, 1024]`` of pictures ``[B, 3, 5, 224, 224]`` in blue, green, red from 0 to 255."""
        return self.netfclip(self.netcnnlip(pictures).flatten(1))


def load_syncnet(path: Path) -> SyncNet:
    """The network with published weights; no code in the file is run.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"Download syncnet_v2.model (54 MB) to {path}: there is no such file.")
    with torch.device("meta"):
        network = SyncNet()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(state, assign=True)
    except Exception as error:  # torch raises a kind of its own for each fault
        raise ValueError(f"Download {path} again: it holds no weights of SyncNet ({error}).") from error
    return network.float().eval().requires_grad_(False)
