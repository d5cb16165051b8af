"""Lips and sound as SyncNet sees them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engines.parts.face.boxes import Box
from ...media.sound import MonoSound
from ..clip import Piece
from ..tracks import Track
from .mfcc import RATE, STEP, WINDOW, mfcc
from .syncnet_network import FRAMES, SIDE, SOUND_STEPS, SyncNet

FPS = 25
STEPS_PER_FRAME = 4
SOUND_AT_ONCE = 250
"""Windows of sound that go through the network together."""
LARGER = 0.4
"""The crop reaches this part of the face's size beyond its box, as in the published preparation of videos."""


class Lips:
    """Gives "syncnet lips": vectors ``[F - 4, 1024]`` of each five frames; the video has to have 25 frames a second.

    They stand at the time of their first frame.
    """

    name = "syncnet lips"

    def __init__(self, network: SyncNet, face: Box, device: torch.device) -> None:
        self._network, self._box, self._device = network, face, device
        self._frames = torch.zeros(0, 3, SIDE, SIDE)
        self._times = torch.zeros(0, dtype=torch.float64)

    @torch.inference_mode()
    def read(self, piece: Piece) -> Track:
        self._frames = torch.cat([self._frames, crop(piece.frames, self._box)])
        self._times = torch.cat([self._times, piece.times])
        count = len(self._frames) - FRAMES + 1
        if count <= 0:
            return Track(self._times[:0], torch.zeros(0, 1024))
        windows = self._frames.unfold(0, FRAMES, 1).permute(0, 1, 4, 2, 3)
        found = torch.cat([self._network.lips(one[None].to(self._device)).cpu() for one in windows])
        times = self._times[:count]
        self._frames, self._times = self._frames[count:], self._times[count:]
        return Track(times, found)


def crop(frames: Tensor, face: Box) -> Tensor:
    """The square around a face as ``[F, 3, 224, 224]`` in blue, green, red from 0 to 255; grey beyond the frame."""
    half = max(face.x2 - face.x1, face.y2 - face.y1) / 2
    reach = half * (1 + LARGER)
    # The published preparation moves the square down, since lips matter more than hair.
    centre_x, centre_y = (face.x1 + face.x2) / 2, (face.y1 + face.y2) / 2 + half * LARGER
    left, top, side = math.floor(centre_x - reach), math.floor(centre_y - reach), round(2 * reach)
    height, width = frames.shape[1:3]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    inside = frames[:, y1:y2, x1:x2].flip(-1).permute(0, 3, 1, 2).float()
    whole = F.pad(inside, (x1 - left, left + side - x2, y1 - top, top + side - y2), value=110.0)
    return F.interpolate(whole, (SIDE, SIDE), mode="bilinear", antialias=True).clamp(0, 255)


@torch.inference_mode()
def hear(network: SyncNet, sound: MonoSound, frames: int, device: torch.device) -> Tensor:
    """Vectors ``[N, 1024]`` of the sound of each five frames, for a video of ``frames`` frames at 25 per second."""
    count = min(frames, sound.samples * FPS // RATE) - FRAMES + 1
    found = []
    for first in range(0, count, SOUND_AT_ONCE):
        many = min(SOUND_AT_ONCE, count - first)
        start = first * STEPS_PER_FRAME * STEP
        steps = (many - 1) * STEPS_PER_FRAME + SOUND_STEPS
        heard = mfcc(sound.read(start, start + (steps - 1) * STEP + WINDOW))[:steps]
        windows = heard.unfold(0, SOUND_STEPS, STEPS_PER_FRAME)[:many]
        found.append(network.sound(windows[:, None].to(device)).cpu())
    return torch.cat(found) if found else torch.zeros(0, 1024)
