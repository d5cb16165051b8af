"""How loud the sound is in each frame."""

from __future__ import annotations

import torch
from torch import Tensor

from ..media.sound import MonoSound
from .tracks import Track

AT_ONCE = 250
"""Frames whose sound is read together."""
FLOOR = 1e-3
"""Added to the amplitude, so that silence has a finite loudness: -60 dB."""
QUIET = -35.0
"""dB below the loudest frames; what is quieter is silence."""
HANGOVER = 0.2
"""Seconds on either side of speech that are not yet silence: lips close early and late."""


def loudness(sound: MonoSound, times: Tensor, fps: float) -> Track:
    """Loudness in dB ``[F]`` of the sound during each frame, which lasts 1/``fps`` seconds from its time on."""
    length = max(1, round(sound.rate / fps))
    levels = []
    for part in times.split(AT_ONCE):
        starts = (part * sound.rate).round().long()
        begin = int(starts[0])
        samples = sound.read(begin, int(starts[-1]) + length)
        windows = torch.stack([samples[start - begin :][:length] for start in starts.tolist()])
        levels.append(20 * torch.log10(windows.square().mean(1).sqrt() + FLOOR))
    return Track(times, torch.cat(levels))


def silent(track: Track, fps: float) -> Tensor:
    """In which frames ``[F]`` nobody speaks, by a loudness track."""
    loud = track.values > track.values.quantile(0.95) + QUIET
    if bool((track.values.amax() - track.values.amin()) < 1):  # the same all the time
        return torch.zeros_like(loud) if bool(track.values.amax() > -50) else torch.ones_like(loud)
    reach = round(HANGOVER * fps)
    near = torch.nn.functional.max_pool1d(loud[None, None].float(), 2 * reach + 1, 1, reach)[0, 0]
    return near == 0
