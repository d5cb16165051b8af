"""Charts of a measurement as data; `svg` and `picture` draw the same data."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from .measure import Measurement
from .metric import NotMeasurable
from .metrics import blinks, seams, sync
from .metrics import speed as speeds
from .tracks import Track

MOST_POINTS = 600
WIDTH, HEIGHT = 560, 150
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 20
COLOURS = ("#2563eb", "#dc2626", "#059669")


@dataclass(frozen=True)
class Line:
    """Points ``[N]`` of one line; ``dots`` draws them apart."""

    name: str
    x: Tensor
    y: Tensor
    dots: bool = False


@dataclass(frozen=True)
class Chart:
    """Some lines over seconds; ``marks`` are times that are worth a thin line."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    marks: tuple[float, ...] = ()

    def box(self) -> tuple[float, float, float, float]:
        """Smallest and largest x, smallest and largest y, with a little space above and below."""
        x = torch.cat([line.x.double() for line in self.lines])
        y = torch.cat([line.y.double() for line in self.lines])
        low, high = float(y.min()), float(y.max())
        space = (high - low) * 0.08 or max(abs(high) * 0.05, 0.5)
        return float(x.min()), max(float(x.max()), float(x.min()) + 1e-3), low - space, high + space


def charts_of(found: Measurement) -> list[Chart]:
    """The charts that this measurement has the tracks for; a single point is no chart."""
    return [chart for chart in _charts(found) if any(len(line.x) > 1 for line in chart.lines)]


def _charts(found: Measurement) -> list[Chart]:
    tracks, seen = found.seen.tracks, found.seen
    charts = []
    if "mouth" in tracks and "loudness" in tracks:
        both = tuple(
            Line(name, *_thin(Track(tracks[key].times, _standard(tracks[key].values))))
            for name, key in (("loudness", "loudness"), ("mouth", "mouth"))
        )
        charts.append(Chart("Loudness and mouth", "standard deviations", both))
        try:
            windows = sync.windows(seen)
        except NotMeasurable:
            windows = []
        if len(windows) > 1:  # a single one has no course
            middle, strength, offset = (torch.tensor(column) for column in zip(*windows, strict=True))
            charts.append(Chart("Sync per 4 s", "correlation", (Line("r", middle, strength),)))
            charts.append(Chart("Offset per 4 s", "frames", (Line("offset", middle, offset, dots=True),)))
    if len(tracks["change"]):
        charts.append(_change_chart(found))
    for title, unit, name in (
        ("Sharpness", "of 255", "sharpness"),
        ("Dino-S", "cosine", "dino"),
        ("Face identity", "cosine", "dino face"),
        ("Distance to the portrait", "of 255", "portrait distance"),
        ("Pitch", "Hz", "pitch"),
    ):
        if name in tracks and len(tracks[name]):
            charts.append(Chart(title, unit, (Line(name, *_thin(tracks[name]), dots=name == "pitch"),)))
    colour = tracks["colour"]
    charts.append(
        Chart(
            "Mean colour",
            "of 255",
            tuple(
                Line(name, *_thin(Track(colour.times, colour.values[:, index])))
                for index, name in ((2, "blue"), (0, "red"), (1, "green"))
            ),
        )
    )
    if "head" in tracks:
        head = tracks["head"]
        lines = tuple(
            Line(name, *_thin(Track(head.times, head.values[:, i] * 100)))
            for i, name in ((0, "to the right"), (1, "down"))
        )
        charts.append(Chart("Head", "% of the face", lines))
    if "eyes" in tracks:
        try:
            marks = tuple(blinks.blinks(tracks["eyes"], seen.fps).tolist())
        except NotMeasurable:
            marks = ()
        charts.append(
            Chart("Eyes (marks: blinks)", "darkness", (Line("eyes", *_thin(tracks["eyes"])),), marks)
        )
    if "made" in tracks and len(tracks["made"]) > 1:
        made = tracks["made"]
        speed = made.values.double().diff() / made.times.diff().clamp(min=1e-6)
        charts.append(
            Chart("Frames per second while it was made", "FPS", (Line("FPS", made.times[1:], speed),))
        )
        left = speeds.buffer(made, seen.fps)
        charts.append(Chart("Buffer while it was made", "s", (Line("buffer", *_thin(left)),)))
    return charts


def _change_chart(found: Measurement) -> Chart:
    change, layout = found.seen.tracks["change"], found.seen.layout
    lines = [Line("all", *_thin(change))]
    if layout is not None:
        border = seams.places(len(change), layout) == seams.BLOCKS
        if bool(border.any()):
            some = Track(change.times[border], change.values[border])
            lines.append(Line("block borders", *_thin(some), dots=True))
    return Chart("Change from frame to frame", "of 255", tuple(lines))


def _standard(values: Tensor) -> Tensor:
    values = values.double()
    return (values - values.mean()) / values.std().clamp(min=1e-9) if len(values) > 1 else values * 0


def _thin(track: Track) -> tuple[Tensor, Tensor]:
    """At most `MOST_POINTS` points that keep the smallest and the largest value of every part."""
    x, y = track.times.double(), track.values.double()
    if len(x) <= MOST_POINTS:
        return x, y
    parts = torch.arange(len(x)).tensor_split(MOST_POINTS // 2)
    kept = torch.tensor(
        sorted({int(part[pick(y[part])]) for part in parts for pick in (torch.argmin, torch.argmax)})
    )
    return x[kept], y[kept]


def svg(chart: Chart) -> str:
    """The chart as an inline SVG; texts are escaped."""
    left, right, low, high = chart.box()
    x = lambda value: LEFT + (value - left) / (right - left) * (WIDTH - LEFT - RIGHT)  # noqa: E731
    y = lambda value: TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)  # noqa: E731
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">']
    for value in ticks(low, high):
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="grid"/>'
            f'<text x="{LEFT - 5}" y="{y(value) + 3:.1f}" text-anchor="end">{value:.4g}</text>'
        )
    for value in ticks(left, right):
        parts.append(f'<text x="{x(value):.1f}" y="{HEIGHT - 5}" text-anchor="middle">{value:.4g} s</text>')
    for value in chart.marks:
        parts.append(
            f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" class="mark"/>'
        )
    for line, colour in zip(chart.lines, COLOURS, strict=False):
        points = [f"{x(a):.1f},{y(b):.1f}" for a, b in zip(line.x.tolist(), line.y.tolist(), strict=True)]
        if line.dots:
            dots = "".join(f"M{point}h0" for point in points)
            parts.append(f'<path d="{dots}" stroke="{colour}" class="dots"/>')
        else:
            parts.append(f'<polyline points="{" ".join(points)}" stroke="{colour}"/>')
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers between two others."""
    step = 10 ** torch.tensor((high - low) / 3).log10().floor().item()
    for factor in (1, 2, 5, 10):
        if (high - low) / (step * factor) <= 5:
            step *= factor
            break
    first = -(-low // step)
    return [round((first + i) * step, 10) for i in range(7) if (first + i) * step <= high]
