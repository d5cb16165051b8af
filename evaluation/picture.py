"""Charts as one picture, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from .charts import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, ticks

TITLE = 18
GRID, TEXT, MARK = "#e5e7eb", "#374151", "#f59e0b"


def picture(charts: Sequence[Chart], columns: int = 2) -> Image.Image:
    """All charts in rows of ``columns``."""
    rows = -(-max(len(charts), 1) // columns)
    sheet = Image.new("RGB", (columns * WIDTH, rows * (HEIGHT + TITLE)), "white")
    for index, chart in enumerate(charts):
        one = _draw(chart)
        sheet.paste(one, (index % columns * WIDTH, index // columns * (HEIGHT + TITLE)))
    return sheet


def _draw(chart: Chart) -> Image.Image:
    sheet = Image.new("RGB", (WIDTH, HEIGHT + TITLE), "white")
    pen = ImageDraw.Draw(sheet)
    left, right, low, high = chart.box()

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - left) / (right - left) * (WIDTH - LEFT - RIGHT),
            TITLE + TOP + (high - y) / (high - low) * (HEIGHT - TOP - BOTTOM),
        )

    at = LEFT
    pen.text((at, 4), f"{chart.title} ({chart.unit})", fill=TEXT)
    at += pen.textlength(f"{chart.title} ({chart.unit})") + 14
    for value in ticks(low, high):
        y = place(left, value)[1]
        pen.line([(LEFT, y), (WIDTH - RIGHT, y)], fill=GRID)
        pen.text((4, y - 5), f"{value:.4g}", fill=TEXT)
    for value in ticks(left, right):
        pen.text((place(value, low)[0] - 8, HEIGHT + TITLE - BOTTOM + 4), f"{value:.4g} s", fill=TEXT)
    for value in chart.marks:
        pen.line([place(value, low), place(value, high)], fill=MARK)
    for line, colour in zip(chart.lines, COLOURS, strict=False):
        points = [place(x, y) for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True)]
        if line.dots:
            for x, y in points:
                pen.ellipse([x - 1.5, y - 1.5, x + 1.5, y + 1.5], fill=colour)
        else:
            pen.line(points, fill=colour)
        if len(chart.lines) > 1:
            pen.text((at, 4), line.name, fill=colour)
            at += pen.textlength(line.name) + 10
    return sheet
