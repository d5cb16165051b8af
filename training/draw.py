"""Draws portraits with torch: signed-distance shapes painted back to front, antialiased, many frames at once.

`render(identity, motion, size)` gives pixels; everything runs on the tensors' own device.
"""

from __future__ import annotations

import torch

from .faces import BALD, CURLY, LONG, SHORT, SIDE, Identity
from .motion import Motion


class _Canvas:
    """Pixels [N, 3, H, W] with the face's own coordinates: x right, y down, unit = half the head's width."""

    def __init__(self, size: int, window: int, left, top, scale, x, y, roll) -> None:
        device = scale.device
        line = torch.arange(window, device=device) + 0.5
        self.u, self.v = (line[None, None, :] + left) / size - 0.5, (line[None, :, None] + top) / size - 0.5
        px, py = self.u - x, self.v - y
        cos, sin = torch.cos(roll), torch.sin(roll)
        self.x = (px * cos + py * sin) / scale
        self.y = (py * cos - px * sin) / scale
        self.pixel = 1 / (size * scale)
        self.image = torch.zeros(len(scale), 3, window, window, device=device)

    def cover(self, distance: torch.Tensor, soft: float = 1.0) -> torch.Tensor:
        """Coverage 0..1 of a signed distance (negative inside), blurred over `soft` pixels."""
        return (0.5 - distance / (self.pixel * soft)).clamp(0, 1)

    def paint(self, coverage: torch.Tensor, colour: torch.Tensor) -> None:
        """Blend `colour` ([N, 3] or [N, 3, 1, W or H...]) where covered."""
        colour = colour[:, :, None, None] if colour.dim() == 2 else colour
        self.image = self.image + (colour - self.image) * coverage[:, None]

    def ellipse(self, cx, cy, rx, ry) -> torch.Tensor:
        """Approximate signed distance to an ellipse."""
        x, y = self.x - cx, self.y - cy
        near = torch.sqrt((x / rx) ** 2 + (y / ry) ** 2 + 1e-9)
        slope = torch.sqrt((x / rx**2) ** 2 + (y / ry**2) ** 2 + 1e-9)
        return near * (near - 1) / slope

    def capsule(self, ax, ay, bx, by, r) -> torch.Tensor:
        """Signed distance to a thick line."""
        x, y, dx, dy = self.x - ax, self.y - ay, bx - ax, by - ay
        along = ((x * dx + y * dy) / (dx * dx + dy * dy + 1e-9)).clamp(0, 1)
        return torch.sqrt((x - dx * along) ** 2 + (y - dy * along) ** 2 + 1e-12) - r


def render(
    identity: Identity, motion: Motion, size: int, crop: tuple[torch.Tensor, torch.Tensor, int] | None = None
) -> torch.Tensor:
    """Portraits [B] in motion [B, T] -> pixels float32 [B, T, 3, size, size] in [-1, 1].

    `crop` = (left [B], top [B], window) draws only that square of each picture.
    """
    count, frames = motion["open"].shape
    zero = torch.zeros(count, device=identity["x"].device)
    left, top, window = crop or (zero, zero, size)
    who = {
        k: v.repeat_interleave(frames, 0) if v.dim() == 2 else v.repeat_interleave(frames)[:, None, None]
        for k, v in identity.items()
    }
    how = {k: v.reshape(-1, 1, 1) for k, v in motion.items()}
    canvas = _Canvas(
        size,
        window,
        left.repeat_interleave(frames)[:, None, None],
        top.repeat_interleave(frames)[:, None, None],
        who["scale"],
        who["x"] + how["dx"] * who["scale"],
        who["y"] + how["dy"] * who["scale"],
        how["roll"],
    )
    _background(canvas, who)
    _body(canvas, who)
    _head(canvas, who, how)
    _eyes(canvas, who, how)
    _mouth(canvas, who, how)
    _front_hair(canvas, who, how)
    _glasses(canvas, who, how)
    return (canvas.image * 2 - 1).clamp(-1, 1).view(count, frames, 3, window, window)


def mouth_box(identity: Identity, size: int) -> torch.Tensor:
    """The box around the mouth at rest, pixels [B, 4] as left, top, right, bottom (not rounded)."""
    scale, x, y = (identity[k] for k in ("scale", "x", "y"))
    half, middle = identity["mouth_w"] * 1.35, identity["mouth_y"]
    box = torch.stack(
        [x - half * scale, y + (middle - 0.25) * scale, x + half * scale, y + (middle + 0.55) * scale], 1
    )
    return (box + 0.5) * size


def _background(c: _Canvas, who: Identity) -> None:
    mix = (c.v + 0.5).expand_as(c.x)
    c.image = (
        who["back_top"][:, :, None, None] * (1 - mix[:, None])
        + who["back_bottom"][:, :, None, None] * mix[:, None]
    )
    glow = (1 - torch.sqrt(c.u**2 + (c.v + 0.05) ** 2) / 0.55).clamp(0, 1)
    c.paint(glow * who["disc"], torch.ones_like(who["skin"]))


def _body(c: _Canvas, who: Identity) -> None:
    long = (who["style"] == LONG).float()
    curly = (who["style"] == CURLY).float()
    dark = who["hair"] * 0.82
    c.paint(c.cover(c.ellipse(0, 0.25, 1.22 * who["face_w"], 1.55)) * long, dark)
    c.paint(c.cover(c.ellipse(0, -0.42, 1.28 * who["face_w"], 1.12)) * curly, who["hair"])
    neck = c.capsule(0, 0.8, 0, 1.6, 0.42)
    c.paint(c.cover(neck), who["skin"] * 0.84)
    c.paint(c.cover(c.ellipse(0, 2.36, 1.7, 1.05)), who["cloth"])
    c.paint(c.cover(c.ellipse(0, 1.3, 0.5, 0.17)) * who["collar"], who["skin"] * 0.88)
    flap = torch.minimum(c.capsule(-0.55, 1.3, -0.1, 1.62, 0.14), c.capsule(0.55, 1.3, 0.1, 1.62, 0.14))
    c.paint(c.cover(flap) * (1 - who["collar"]), (who["cloth"] * 1.25 + 0.05).clamp(max=1))


def _face_distance(c: _Canvas, who: Identity, how: Motion, grow: float = 0.0) -> torch.Tensor:
    """Egg shape: an ellipse above, narrower towards the chin, which drops with the mouth."""
    below = (c.y - 0.1).clamp(min=0)
    width = (who["face_w"] + grow) * (1 - (1 - who["jaw"]) * (below / 1.1).clamp(max=1) ** 1.5)
    height = torch.where(c.y > 0, who["face_h"] + 0.05 * how["open"], who["face_h"]) + grow
    return c.ellipse(0, 0, width, height)


def _head(c: _Canvas, who: Identity, how: Motion) -> None:
    turn = how["yaw"]
    shadow = who["skin"] * 0.82
    for side in (-1, 1):
        c.paint(c.cover(c.ellipse(side * who["face_w"] - turn, 0.08, 0.15, 0.24)), who["skin"] * 0.94)
        c.paint(c.cover(c.ellipse(side * (who["face_w"] + 0.02) - turn, 0.08, 0.07, 0.13)), shadow)
    face = _face_distance(c, who, how)
    inside = c.cover(face)
    c.paint(inside, who["skin"])
    c.paint(inside * ((face + 0.3) / 0.6).clamp(0, 0.35), shadow)
    for side in (-1, 1):
        cheek = c.ellipse(side * 0.52 + turn, 0.36, 0.24, 0.17)
        c.paint(inside * (0.5 - cheek / 0.3).clamp(0, 1) * who["blush"], who["lip"])
    stubble = torch.minimum(c.y - 0.42 - 0.35 * c.x**2, torch.zeros_like(c.y) + 9)
    hole = c.ellipse(turn, who["mouth_y"], who["mouth_w"] * 1.25, 0.2)
    beard = c.cover(-torch.minimum(stubble, hole)) * c.cover(_face_distance(c, who, how, 0.03))
    c.paint(beard * who["beard"], who["hair"])
    nose = who["nose_y"]
    c.paint(c.cover(c.ellipse(1.6 * turn, nose + 0.025, who["nose_w"], 0.075), 2), shadow)
    c.paint(c.cover(c.ellipse(1.6 * turn, nose, who["nose_w"] * 0.9, 0.07), 2), who["skin"] * 0.97 + 0.02)
    c.paint(
        c.cover(c.capsule(1.5 * turn + 0.05, nose - 0.28, 1.6 * turn + 0.04, nose - 0.06, 0.018), 2) * 0.5,
        shadow,
    )


def _eyes(c: _Canvas, who: Identity, how: Motion) -> None:
    turn, dark = 1.2 * how["yaw"], torch.full_like(who["skin"], 0.1)
    white = torch.full_like(who["skin"], 0.97)
    shut = 1 - how["blink"]
    for side in (-1, 1):
        x, y, w, h = side * who["eye_x"] + turn, who["eye_y"], who["eye_w"], who["eye_h"]
        across = (c.x - x).abs() - w  # the ellipse formula leaks sideways when it is thin
        sag = h * (1 - shut) * (0.55 - 0.5 * ((c.x - x) / w).square().clamp(max=2))  # shut lids bend down
        c.paint(c.cover(c.ellipse(x, y - 0.02, w * 1.25, h * 1.35), 3) * 0.6, who["skin"] * 0.86)
        lash = torch.maximum(c.ellipse(x, y - 0.03 * shut + sag, w * 1.1, h * shut + 0.035), across - 0.03)
        c.paint(c.cover(lash), dark)
        inside = c.cover(torch.maximum(c.ellipse(x, y + sag, w, h * shut + 1e-3), across)) * (shut * 4).clamp(
            max=1
        )
        c.paint(inside, white)
        ix, iy, r = x + how["gaze_x"] * w * 1.5, y - 0.1 * h + how["gaze_y"] * h, h * 0.92
        c.paint(inside * c.cover(c.ellipse(ix, iy, r, r)), who["iris"])
        c.paint(inside * c.cover(c.ellipse(ix, iy, r * 0.55, r * 0.55)), dark)
        c.paint(inside * c.cover(c.ellipse(ix - 0.32 * r, iy - 0.3 * r, r * 0.28, r * 0.28)), white)
        raised = y - who["brow_y"] - how["brow"]
        tilt = who["brow_tilt"] * w
        brow = c.capsule(x - w * 1.1, raised + side * tilt, x + w * 1.1, raised - side * tilt, who["brow_h"])
        bend = 0.35 * ((c.x - x) / w).clamp(-1.4, 1.4) ** 2 * who["brow_h"]
        c.paint(c.cover(brow + bend), who["hair"] * 0.7)


def _mouth(c: _Canvas, who: Identity, how: Motion) -> None:
    opened, wide, teeth = how["open"], how["wide"], how["teeth"]
    half = who["mouth_w"] * (1 + torch.where(wide > 0, 0.2, 0.36) * wide) * (1 - 0.08 * opened)
    gap = 0.5 * opened + 0.014
    u = (c.x - 1.3 * how["yaw"]) / half
    arch = (1 - u**2).clamp(min=0)
    round_arch = arch ** (0.75 - 0.25 * (-wide).clamp(min=0))
    middle = who["mouth_y"] - who["smile"] * (1 + wide) * (u**2).clamp(max=1.5)
    top, bottom = middle - 0.28 * gap * round_arch, middle + 0.72 * gap * round_arch
    pout = 1 + 0.35 * (-wide).clamp(min=0)
    bow = 1 - 0.3 * torch.exp(-((u / 0.22) ** 2))
    lip_top = top - who["lip_up"] * pout * arch**0.7 * bow
    lip_bottom = bottom + who["lip_low"] * pout * arch**0.6

    def between(upper: torch.Tensor, lower: torch.Tensor, height: torch.Tensor) -> torch.Tensor:
        steep = torch.sqrt(1 + (1.6 * height * u / half) ** 2)
        edge = torch.maximum(upper - c.y, c.y - lower) / steep
        return torch.maximum(edge, (u.abs() - 1) * half)

    c.paint(
        c.cover(c.ellipse(1.3 * how["yaw"], who["mouth_y"] + 0.2 + 0.72 * gap, 0.17, 0.03), 4) * 0.5,
        who["skin"] * 0.8,
    )
    c.paint(c.cover(between(lip_top, lip_bottom, gap + 0.15)), who["lip"])
    inner = c.cover(between(top, bottom, gap))
    c.paint(inner, torch.tensor([[0.2, 0.045, 0.06]], device=c.x.device).expand_as(who["skin"]))
    tongue = c.ellipse(1.3 * how["yaw"], who["mouth_y"] + 0.72 * gap + 0.05, half * 0.62, 0.13 + 0.2 * gap)
    c.paint(
        inner * c.cover(tongue, 2) * (1 - teeth),
        torch.tensor([[0.74, 0.3, 0.32]], device=c.x.device).expand_as(who["skin"]),
    )
    bite = top + (bottom - top) * (0.26 + 0.62 * teeth) + 0.01
    c.paint(inner * c.cover(c.y - bite) * (opened * 14).clamp(max=1), torch.full_like(who["skin"], 0.95))
    gloss = c.ellipse(1.3 * how["yaw"], who["mouth_y"] + 0.72 * gap + 0.045, half * 0.35, 0.015)
    c.paint(c.cover(gloss, 2) * 0.35, (who["lip"] * 1.3 + 0.15).clamp(max=1))
    hair_lip = torch.minimum(
        c.capsule(
            1.3 * how["yaw"] - 0.26, who["mouth_y"] - 0.1, 1.3 * how["yaw"], who["mouth_y"] - 0.15, 0.05
        ),
        c.capsule(
            1.3 * how["yaw"] + 0.26, who["mouth_y"] - 0.1, 1.3 * how["yaw"], who["mouth_y"] - 0.15, 0.05
        ),
    )
    c.paint(c.cover(hair_lip + 0.28 * gap * 0.4) * who["moustache"], who["hair"])


def _front_hair(c: _Canvas, who: Identity, how: Motion) -> None:
    style = who["style"]
    skull = _face_distance(c, who, how, 0.1)
    wave = who["wave"] * torch.sin(who["wave_n"] * c.x + who["phase"])
    part = torch.where(style == SIDE, 0.34 * (c.x - 0.15 * torch.sin(who["phase"])), 0 * c.x)
    line = who["hairline"] + wave + part + 0.55 * c.x**2 * (style != LONG).float() + 0.25 * c.x**4
    hair = c.cover(torch.maximum(skull, c.y - line))
    window = c.ellipse(0.1 * torch.sin(who["phase"]), 0.3, 0.8 * who["face_w"], 1.12)
    strands = torch.maximum(torch.maximum(skull, -window), c.y - 0.95)
    cap = torch.maximum(hair, c.cover(strands) * (style == LONG)) * (style != BALD).float()
    c.paint(cap, who["hair"])
    shine = c.ellipse(-0.3, -0.95, 0.5, 0.12)
    c.paint(
        cap * (0.5 - shine / 0.25).clamp(0, 1) * 0.3 * ((style == SHORT) | (style == LONG) | (style == SIDE)),
        (who["hair"] * 1.3 + 0.12).clamp(max=1),
    )


def _glasses(c: _Canvas, who: Identity, how: Motion) -> None:
    turn, radius = 1.4 * how["yaw"], who["eye_w"] * 1.5
    frame = torch.full_like(who["skin"], 0.12)
    for side in (-1, 1):
        x = side * who["eye_x"] * 1.05 + turn
        lens = c.ellipse(x, who["eye_y"] + 0.02, radius, radius * 0.92)
        c.paint(c.cover(lens.abs() - 0.024) * who["glasses"], frame)
        arm = c.capsule(x + side * radius, who["eye_y"], side * who["face_w"], who["eye_y"] - 0.03, 0.02)
        c.paint(c.cover(arm) * who["glasses"], frame)
    bridge = c.capsule(turn - 0.12, who["eye_y"] - 0.02, turn + 0.12, who["eye_y"] - 0.02, 0.022)
    c.paint(c.cover(bridge) * who["glasses"], frame)
