"""How a portrait moves: head, gaze, brows, blinks and the mouth, per frame at 25 fps."""

from __future__ import annotations

import torch

from .visemes import TRACK_RATE

FPS = 25

Motion = dict[str, torch.Tensor]


def still(count: int, frames: int, device: torch.device | str = "cpu") -> Motion:
    """The portrait at rest (what a reference picture shows): mouth closed, eyes open. Tensors [count, frames]."""
    names = ("open", "wide", "teeth", "blink", "dx", "dy", "roll", "yaw", "gaze_x", "gaze_y", "brow")
    return {name: torch.zeros(count, frames, device=device) for name in names}


def talking(
    mouth: torch.Tensor, generator: torch.Generator, from_rest: torch.Tensor, lead: int = 0
) -> Motion:
    """Motion for mouth shapes [count, frames, 3] (open, wide, teeth). Rows marked in `from_rest` (bool [count]) are
    at rest for `lead` frames and start from there, others are in the middle of a movement all the time. Random
    draws come from `generator` (on the CPU)."""
    count, frames, _ = mouth.shape
    device = mouth.device
    seconds = torch.arange(frames, device=device) / FPS
    from_rest = from_rest[:, None].to(device)
    ramp = torch.where(from_rest, ((seconds - lead / FPS) / 1.5).clamp(0, 1), torch.ones_like(seconds))
    mouth = mouth * ~(from_rest & (torch.arange(frames, device=device) < lead))[..., None]

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator).to(device)

    def wander(amount: float, slow: float, fast: float) -> torch.Tensor:
        rate = slow + (fast - slow) * rand(count, 3, 1)
        waves = torch.sin(6.283 * (rate * seconds + rand(count, 3, 1))).sum(1) / 2
        return amount * ramp * waves

    effort = _smooth(mouth[..., 0], 5)
    blink = torch.zeros(count, frames, device=device)
    for _ in range(2 + frames // 60):
        start = (rand(count, 1) * frames * 1.3).round() + 3
        age = torch.arange(frames, device=device) - start
        blink = torch.maximum(blink, torch.where(age < 0, 1 + age / 3, 1 - age / 4).clamp(0, 1))
    blink = blink * (ramp > 0)
    motion = {
        "open": mouth[..., 0],
        "wide": mouth[..., 1],
        "teeth": mouth[..., 2],
        "blink": blink,
        "dx": wander(0.018, 0.1, 0.3),
        "dy": wander(0.010, 0.1, 0.3) + 0.035 * effort,
        "roll": wander(0.018, 0.08, 0.25),
        "yaw": wander(0.022, 0.08, 0.25),
        "gaze_x": wander(0.10, 0.05, 0.2),
        "gaze_y": wander(0.05, 0.05, 0.2),
        "brow": 0.045 * effort + wander(0.008, 0.1, 0.3),
    }
    return motion


def frames_of(track: torch.Tensor, start: float, count: int) -> torch.Tensor:
    """Mouth shapes [count, 3] of video frames from second `start` on, out of a track [T, 3]; zeros outside it."""
    middle = ((start + (torch.arange(count) + 0.5) / FPS) * TRACK_RATE).long()
    inside = (middle >= 0) & (middle < len(track))
    return track[middle.clamp(0, len(track) - 1)] * inside[:, None].to(track.dtype)


def _smooth(values: torch.Tensor, reach: int) -> torch.Tensor:
    """Triangular moving average over the last axis, edges held."""
    kernel = torch.bartlett_window(2 * reach + 3, periodic=False, device=values.device)[1:-1]
    padded = torch.nn.functional.pad(values[:, None], (reach, reach), mode="replicate")
    return torch.nn.functional.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0]
