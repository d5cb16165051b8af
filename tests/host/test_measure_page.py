"""Measure Stream and Measure Video on the page: one press measures a video while it is made and when it is done."""

from __future__ import annotations

import json

from .browser import queue_and_wait, screenshot
from .test_live_player import WRITER, drop, opened
from .test_pages import overlaps
from .test_texts import TEXTS
from .workflows import add, between, change, only, small

STREAM, VIDEO = "AvatarMeasureStream", "AvatarMeasureVideo"

# A canvas draws what is in sight only.
LOOK = """
(type) => {
    const { graph, canvas } = window.app;
    const [x, y] = graph.nodes.find((node) => node.type === type).pos;
    canvas.ds.scale = 0.6;
    canvas.ds.offset = [100 - x, 200 - y];
    canvas.setDirty(true, true);
}
"""

# Width and height of the picture that a node shows of its own, by whichever renderer.
SHOWN = """
(type) => {
    const node = window.app.graph.nodes.find((node) => node.type === type);
    const element = document.querySelector(`[data-node-id="${node.id}"] img`);
    const picture = node.imgs?.[0] ?? element;
    return picture?.naturalWidth ? [picture.naturalWidth, picture.naturalHeight] : null;
}
"""
ANY = """
() => {
    const node = window.app.graph.nodes.find(({ type }) => type === "PreviewAny");
    return node.widgets.map(({ value }) => value).find((value) => typeof value === "string" && value.includes("{"));
}
"""


def test_one_press_measures_a_video_while_it_is_made_and_when_it_is_done(
    site, tiny_checkpoint, tmp_path, request
):
    workflow, prefix = small(seconds=1.0), f"measured/{request.node.callspec.id}"
    change(workflow, "CLIPTextEncode", text=request.node.name)  # nothing of an earlier run is reused
    writer = only(workflow, WRITER)
    workflow[writer]["inputs"]["filename_prefix"] = prefix
    between(workflow, WRITER, "stream", STREAM, "stream")
    portrait = [only(workflow, "LoadImage"), 0]
    boxes = {"face": "0.2,0.2,0.8,0.8", "blocks": "12,4,9"}
    measured = add(workflow, VIDEO, video=[writer, 0], reference=portrait, **boxes)
    add(workflow, "PreviewImage", images=[measured, 1])
    add(workflow, "PreviewAny", source=[measured, 0])
    with opened(site.browser) as page:
        page.wait_for_timeout(1000)  # Nodes 2.0 arranges the graph that the page begins with
        drop(page, workflow, tmp_path)
        page.evaluate(LOOK, STREAM)
        queue_and_wait(page)
        page.wait_for_function(SHOWN, arg="PreviewImage")
        page.wait_for_function(SHOWN, arg=STREAM)
        screenshot(page, request.node.name)
        text = page.evaluate(TEXTS)[STREAM]
        assert text.startswith("T.Flicker: ") and "block border: " in text and "RTF: " in text
        width, height = page.evaluate(SHOWN, "PreviewImage")
        assert width > 600 and height > 600
        told = json.loads(page.evaluate(ANY))
        assert told["scores"]["T.Flicker"]["value"] > 0.5 and "Dino-S" in told["skipped"]
        assert [pair for pair in overlaps(page, site) if STREAM in pair or VIDEO in pair] == []
    (lines,) = (site.host.output_dir / "measured").glob(f"{request.node.callspec.id}*.metrics.jsonl")
    *blocks, last = map(json.loads, lines.read_text(encoding="utf-8").splitlines())
    assert [line["frames"] for line in blocks] == [9, 12, 4] and last["frames"] == 25
    assert f"{last['scores']['T.Flicker']:.4g}" in text
