"""The report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from . import published
from .charts import COLOURS
from .metrics import BY_NAME

STYLE = """
body{font:14px/1.45 system-ui,sans-serif;color:#1f2937;background:#f9fafb;margin:0;padding:24px;max-width:1240px;
margin-inline:auto}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:32px 0 8px}p{margin:4px 0 10px;max-width:90ch}
table{border-collapse:collapse;background:#fff;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto;border:1px solid #e5e7eb;border-radius:8px;background:#fff;display:inline-block;max-width:100%}
th,td{padding:4px 10px;border-bottom:1px solid #eef0f3;text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600;background:#f3f4f6}
.good{color:#047857}.warn{color:#b45309;font-weight:600}.fail{color:#b91c1c;font-weight:600}.none{color:#374151}
.grey{color:#6b7280}.charts{display:grid;gap:12px;margin-top:12px;
grid-template-columns:repeat(auto-fit,minmax(min(420px,100%),1fr))}
figure{margin:0;background:#fff;border:1px solid #e5e7eb;border-radius:8px;padding:8px}
figcaption{font-weight:600;font-size:13px}figcaption span{font-weight:400;margin-left:8px}
svg{width:100%;height:auto;display:block}svg text{font:10px system-ui,sans-serif;fill:#6b7280}
svg polyline{fill:none;stroke-width:1.2}.grid{stroke:#e5e7eb}.mark{stroke:#f59e0b}
.dots{stroke-width:3.2;stroke-linecap:round;fill:none}
summary{cursor:pointer;color:#374151;margin-top:8px}li{margin:2px 0}
@media(prefers-color-scheme:dark){body{background:#111827;color:#e5e7eb}table,.wide,figure{background:#1f2937;
border-color:#374151}th{background:#273244}th,td{border-color:#374151}.none,.grey,summary,svg text{color:#9ca3af;
fill:#9ca3af}polyline,.dots,figcaption span{filter:brightness(1.5)}
.grid{stroke:#374151}.good{color:#34d399}.warn{color:#fbbf24}.fail{color:#f87171}}
"""
MARKS = {"good": "", "warn": " !", "fail": " ✕", "none": ""}


def page(title: str, total: dict[str, Any], reports: Sequence[dict[str, Any]]) -> str:
    """The whole page; every text is escaped."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name=viewport content="width=device-width,initial-scale=1">',
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1>",
        f"<p>{_outcome(total, len(reports))}</p>",
        _scores(total, reports),
        _not_measured(total),
        _published(total),
    ]
    parts += [_video(report) for report in reports]
    return "\n".join(parts) + "\n"


def _outcome(total: dict[str, Any], count: int) -> str:
    seconds = f"{count} video{'s' * (count != 1)} measured"
    if not total["failed"]:
        return f"{seconds}; no score fails."
    named = ", ".join(
        f"{escape(one['metric'])} of {escape(one['video'])} ({_number(one['value'])})"
        for one in total["failed"][:6]
    )
    more = f" and {len(total['failed']) - 6} more" if len(total["failed"]) > 6 else ""
    return f"{seconds}; <span class=fail>{len(total['failed'])} fail</span>: {named}{more}."


def _scores(total: dict[str, Any], reports: Sequence[dict[str, Any]]) -> str:
    head = "".join(f"<th>{escape(report['name'])}" for report in reports)
    rows = [f"<tr><th>metric<th>unit<th>better<th>warn<th>fail{head}<th>mean"]
    for name, value in total["means"].items():
        metric = BY_NAME[name]
        cells = []
        for report in reports:
            entry = report["scores"].get(name)
            cells.append(
                f"<td class={entry['verdict']}>{_number(entry['value'])}{MARKS[entry['verdict']]}"
                if entry
                else "<td class=grey>&ndash;"
            )
        verdict = total["verdicts"][name]
        rows.append(
            f'<tr><td title="{escape(metric.source)}">{escape(name)}<td class=grey>{escape(metric.unit)}'
            f"<td class=grey>{metric.better}<td class=grey>{_number(metric.warn)}<td class=grey>{_number(metric.fail)}"
            f"{''.join(cells)}<td class={verdict}>{_number(value)}{MARKS[verdict]}"
        )
    extra = "".join(f"<p>{escape(name)}: {escape(str(value))}</p>" for name, value in total["folder"].items())
    return f"<h2>Scores</h2><div class=wide><table>{''.join(rows)}</table></div>{extra}"


def _not_measured(total: dict[str, Any]) -> str:
    if not total["not measured"]:
        return ""
    items = "".join(
        f"<li><b>{escape(name)}</b>: {escape(reason)}" for name, reason in total["not measured"].items()
    )
    return f"<h2>Not measured</h2><ul>{items}</ul>"


def _published(total: dict[str, Any]) -> str:
    head = "".join(f"<th>{name}" for name in published.COLUMNS)
    rows = [("this folder", total["means"]), *published.ROWS]
    body = "".join(
        f"<tr><td>{escape(name)}" + "".join(f"<td>{_number(row.get(column))}" for column in published.COLUMNS)
        for name, row in rows
    )
    return (
        f"<h2>Beside published values</h2><p class=grey>{escape(published.SOURCE)}. {escape(published.WARNING)}</p>"
        f"<div class=wide><table><tr><th>{head}{body}</table></div>"
    )


def _video(report: dict[str, Any]) -> str:
    face = report["face found by"] or "nobody"
    length = f"{report['frames']} frames, {report['seconds']:.1f} s at {report['fps']:g} FPS"
    about = f"{length}; face found by {escape(face)}"
    notes = "".join(f"<p class=warn>{escape(note)}</p>" for note in report["notes"])
    figures = "".join(_figure(chart) for chart in report["charts"])
    skipped = "".join(f"<li>{escape(name)}: {escape(why)}" for name, why in report["skipped"].items())
    return (
        f"<h2>{escape(report['name'])}</h2><p class=grey>{about}</p>{notes}<div class=charts>{figures}</div>"
        f"<details><summary>{len(report['skipped'])} metrics skipped</summary><ul>{skipped}</ul></details>"
    )


def _figure(chart: dict[str, Any]) -> str:
    names = chart["lines"] if len(chart["lines"]) > 1 else []
    legend = "".join(
        f'<span style="color:{colour}">{escape(name)}</span>'
        for name, colour in zip(names, COLOURS, strict=False)
    )
    return (
        f"<figure><figcaption>{escape(chart['title'])}<span class=grey>{escape(chart['unit'])}</span>{legend}"
        f"</figcaption>{chart['svg']}</figure>"
    )


def _number(value: float | None) -> str:
    return "&ndash;" if value is None else f"{value:.4g}"
