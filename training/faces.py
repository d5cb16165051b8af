"""Who is drawn: random identities as tensors, one row per portrait, the same for the same generator state."""

from __future__ import annotations

import torch

_SKIN = ["#f6d7c3", "#eebd9c", "#e0a582", "#c98d63", "#a86f4a", "#7d4f35", "#5c3a28", "#f3cbb4", "#d8a27a"]
_HAIR = [
    "#1c1a1d",
    "#3a2618",
    "#5d3a1e",
    "#8a5a2b",
    "#c79a4b",
    "#e6cf8a",
    "#a33d1f",
    "#9aa0a6",
    "#5b4b8a",
    "#2f6f73",
]
_IRIS = ["#5a3a1e", "#2f6b8f", "#3f7a4a", "#6b6f73", "#8a6a2f"]
_CLOTH = [
    "#2f4a7a",
    "#a83a3a",
    "#3a7a5a",
    "#d9a441",
    "#4a4a52",
    "#e8e4da",
    "#7a4a8a",
    "#2a9aa0",
    "#d9744a",
    "#223",
]
_BACK = [
    "#cfe3ee",
    "#f0d9c8",
    "#d8e6cf",
    "#e6d5ea",
    "#33415c",
    "#5f7f88",
    "#f2e8cf",
    "#8fb6c9",
    "#c97f6b",
    "#46505c",
]

SHORT, LONG, CURLY, BALD, SIDE = range(5)

Identity = dict[str, torch.Tensor]


def _palette(names: list[str]) -> torch.Tensor:
    full = [n if len(n) == 7 else "#" + "".join(c * 2 for c in n[1:]) for n in names]
    return torch.tensor([[int(n[i : i + 2], 16) / 255 for i in (1, 3, 5)] for n in full])


def sample(count: int, generator: torch.Generator, device: torch.device | str = "cpu") -> Identity:
    """`count` identities: scalars as [count], colours as [count, 3] in 0..1. Lengths are in head half-widths."""

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    def chance(p: float) -> torch.Tensor:
        return (torch.rand(count, generator=generator) < p).float()

    def colour(names: list[str], jitter: float = 0.03) -> torch.Tensor:
        table = _palette(names)
        pair = table[torch.randint(len(table), (2, count), generator=generator)]
        mix = torch.rand(count, 1, generator=generator) * 0.35
        noise = torch.randn(count, 3, generator=generator) * jitter
        return (pair[0] * (1 - mix) + pair[1] * mix + noise).clamp(0.02, 0.98)

    skin = colour(_SKIN, 0.012)
    lip_tint = torch.tensor([0.72, 0.22, 0.25])
    redness = uniform(0.25, 0.75)[:, None]
    style = torch.multinomial(torch.tensor([3.0, 3.0, 1.5, 0.4, 2.0]), count, True, generator=generator)
    bearded = chance(0.16) * (style != LONG).float()
    identity = {
        "skin": skin,
        "hair": colour(_HAIR),
        "iris": colour(_IRIS),
        "cloth": colour(_CLOTH),
        "back_top": colour(_BACK),
        "back_bottom": colour(_BACK),
        "lip": (skin * 0.92) * (1 - redness)
        + lip_tint * redness * (0.45 + 0.55 * skin.mean(1, keepdim=True)),
        "style": style.float(),
        "face_w": uniform(0.86, 1.0),
        "face_h": uniform(1.12, 1.3),
        "jaw": uniform(0.78, 1.0),
        "eye_x": uniform(0.37, 0.43),
        "eye_y": uniform(-0.16, -0.06),
        "eye_w": uniform(0.17, 0.215),
        "eye_h": uniform(0.115, 0.155),
        "brow_y": uniform(0.25, 0.33),
        "brow_tilt": uniform(-0.2, 0.15),
        "brow_h": uniform(0.03, 0.055),
        "nose_w": uniform(0.1, 0.16),
        "nose_y": uniform(0.2, 0.28),
        "mouth_y": uniform(0.57, 0.65),
        "mouth_w": uniform(0.42, 0.52),
        "lip_up": uniform(0.06, 0.095),
        "lip_low": uniform(0.085, 0.125),
        "smile": uniform(0.0, 0.07),
        "hairline": uniform(-0.78, -0.52),
        "wave": uniform(0.0, 0.07),
        "wave_n": uniform(3.0, 9.0),
        "phase": uniform(0.0, 6.28),
        "glasses": chance(0.22),
        "beard": bearded,
        "moustache": chance(0.5) * bearded,
        "blush": uniform(0.05, 0.4),
        "collar": chance(0.5),
        "disc": uniform(0.0, 0.5),
        "scale": uniform(0.31, 0.355),
        "x": uniform(-0.04, 0.04),
        "y": uniform(0.0, 0.045),
    }
    return {name: value.to(device) for name, value in identity.items()}
