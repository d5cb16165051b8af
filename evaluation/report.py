"""Measurements as JSON, and the summary of several."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean
from typing import Any

from .charts import charts_of, svg
from .measure import Measurement
from .metrics import BY_NAME, METRICS

VERSION = 2
"""Raised when the meaning of a report's entries changes; older reports are measured anew."""


def as_json(found: Measurement) -> dict[str, Any]:
    """One measurement, with its charts as SVG."""
    return {
        "version": VERSION,
        "name": found.name,
        "frames": found.frames,
        "seconds": round(found.seconds, 3),
        "fps": round(found.fps, 3),
        "face found by": found.regions.origin if found.regions else None,
        "notes": found.notes,
        "scores": {
            one.metric.name: {"value": _rounded(one.value), "unit": one.metric.unit, "verdict": one.verdict}
            for one in found.scores
            if one.value is not None
        },
        "skipped": {one.metric.name: one.skipped for one in found.scores if one.value is None},
        "charts": [
            {
                "title": chart.title,
                "unit": chart.unit,
                "lines": [line.name for line in chart.lines],
                "svg": svg(chart),
            }
            for chart in charts_of(found)
        ],
    }


def summary(
    reports: Sequence[dict[str, Any]], failures: dict[str, str], folder: dict[str, Any]
) -> dict[str, Any]:
    """All of a folder: means, verdicts, what could not be measured, scores of the ``folder`` as a whole."""
    values: dict[str, list[float]] = {}
    for report in reports:
        for name, entry in report["scores"].items():
            values.setdefault(name, []).append(entry["value"])
    means = {metric.name: _rounded(mean(values[metric.name])) for metric in METRICS if metric.name in values}
    return {
        "version": VERSION,
        "videos": [report["name"] for report in reports],
        "means": means,
        "verdicts": {name: BY_NAME[name].verdict(value) for name, value in means.items()},
        "failed": [
            {"video": report["name"], "metric": name, "value": entry["value"]}
            for report in reports
            for name, entry in report["scores"].items()
            if entry["verdict"] == "fail"
        ],
        "not measured": failures,
        "folder": folder,
    }


def _rounded(value: float | None) -> float | None:
    """Five digits; None for what JSON has no number for."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.5g}")
