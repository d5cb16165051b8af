"""Every shipped workflow on ComfyUI's page: dropped, read back, run with the tiny checkpoint, looked at."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page

from .browser import drop_workflow, queue_and_wait, screenshot
from .media import check_talks, read_video
from .test_workflows import EXPECTED
from .workflows import NAMES, SMALL_FILES, TINY, WIDE_CLIP, Api, every, shipped, ui_file

SET_WIDGETS = """
(values) => {
    for (const node of window.app.graph.nodes)
        for (const [name, value] of Object.entries(values[node.type] ?? {})) {
            const widget = node.widgets.find((widget) => widget.name === name);
            widget.value = value;
            widget.callback?.(value);
        }
}
"""

USE_SMALL_FILES = """
() => {
    const small = FILES;
    for (const { widgets } of window.app.graph.nodes)
        for (const widget of widgets ?? [])
            if (widget.value in small) {
                widget.value = small[widget.value];
                widget.callback?.(widget.value);
            }
}
""".replace("FILES", json.dumps(SMALL_FILES))

# A node of ours in the place of the CLIPLoader, which knows no small text encoder.
REPLACE_CLIP = """
(values) => {
    const graph = window.app.graph;
    const find = (type) => graph.nodes.find((node) => node.type === type);
    const loader = find("CLIPLoader"), prompt = find("CLIPTextEncode");
    const node = window.LiteGraph.createNode("LiveAvatarLoadCheckpoint");
    node.pos = [loader.pos[0], loader.pos[1] + 3000];
    graph.add(node);
    graph.remove(loader);
    node.connect(1, prompt, prompt.findInputSlot("clip"));
    for (const [name, value] of Object.entries(values))
        node.widgets.find((widget) => widget.name === name).value = value;
}
"""

OVERLAPS = """
() => {
    const title = window.LiteGraph.NODE_TITLE_HEIGHT;
    const boxes = window.app.graph.nodes.map(({ type, pos, size }) =>
        ({ type, left: pos[0], right: pos[0] + size[0], top: pos[1] - title, bottom: pos[1] + size[1] }));
    const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
    return boxes.flatMap((a, i) =>
        boxes.slice(i + 1).filter((b) => overlap(a, b)).map((b) => `${a.type} and ${b.type}`));
}
"""

# Width and height of the film that a node plays.
PLAYED = """
(type) => {
    const node = window.app.graph.nodes.find((node) => node.type === type);
    const player = node?.widgets.find((w) => w.name === "liveavatar-player")?.element ?? node?.videoContainer;
    const film = player?.querySelector("video") ?? node?.widgets.find((w) => w.videoEl)?.videoEl
        ?? document.querySelector(`[data-node-id="${node?.id}"] video`);  // the page's own, of a cached result
    return film?.videoWidth ? [film.videoWidth, film.videoHeight] : null;
}
"""

# Nodes that go on showing a frame of the generation below or instead of their film.
LEFT_PREVIEWS = """
() => window.app.graph.nodes
    .filter(({ type }) => ["AvatarStreamToVideo", "VHS_VideoCombine"].includes(type))
    .filter(({ imgs, widgets }) => imgs?.length || widgets.some(({ name }) => name === "$$canvas-image-preview"))
    .map(({ type }) => type)
"""

PLAYERS = ("audioUI", "video-preview")  # what the page itself adds to nodes that play their file


def wiring(workflow: Api) -> Api:
    """An API workflow without what only the page has a use for."""
    return {
        number: {
            "class_type": node["class_type"],
            "inputs": {name: value for name, value in node["inputs"].items() if name not in PLAYERS},
        }
        for number, node in workflow.items()
    }


def close_offer(page: Page, name: str) -> None:
    """Close what offers the models of a workflow; anything else that is told, as of missing nodes, is an error.

    Older pages open a dialog. Newer ones show a note, which opens a panel with a group for each kind of trouble.
    """
    missing = {
        model["name"]
        for node in json.loads(ui_file(name).read_text(encoding="utf-8"))["nodes"]
        for model in node["properties"].get("models", ())
    }
    dialog, note = page.get_by_role("dialog"), page.get_by_test_id("error-overlay")
    if missing:
        dialog.or_(note).first.wait_for()
    page.wait_for_timeout(500)
    told = dialog.all_inner_texts()
    if told:
        page.keyboard.press("Escape")
        dialog.wait_for(state="hidden")
    if note.is_visible():
        page.get_by_test_id("error-overlay-see-errors").click()
        panel = page.get_by_test_id("properties-panel")
        panel.get_by_test_id("error-group-missing-model").wait_for()
        told += panel.locator("section[data-testid^='error-group-']").all_inner_texts()
        panel.get_by_role("button", name="Toggle properties panel").click()
        panel.wait_for(state="hidden")
    assert len(told) == bool(missing)
    assert all(model in told[0] for model in missing)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_workflow_runs_from_the_page(ready, browser, request, name):
    workflow = shipped(name)
    if any(node["class_type"].startswith("VHS_") for node in workflow.values()) and not ready.has_vhs:
        pytest.skip("VHS_PATH names no VideoHelperSuite")
    if every(workflow, "AudioEncoderLoader"):
        request.getfixturevalue("wav2vec2_large")
    with browser.page_with_graph("LiveAvatarSampler") as page:
        types = drop_workflow(page, ui_file(name))
        sent = page.evaluate("async () => (await window.app.graphToPrompt()).output")
        assert wiring(sent) == wiring(workflow)
        close_offer(page, name)
        page.evaluate(USE_SMALL_FILES)
        page.evaluate(SET_WIDGETS, TINY)
        if "CLIPLoader" in types:
            page.evaluate(REPLACE_CLIP, WIDE_CLIP)
        done = queue_and_wait(page)
        as_form = "linearMode" in json.loads(ui_file(name).read_text(encoding="utf-8"))["extra"]
        for type_ in {"AvatarStreamToVideo", "VHS_VideoCombine"} & set(types) if not as_form else ():
            # One answer: the player changes from what grows to the finished file meanwhile.
            played = page.wait_for_function(PLAYED, arg=type_, timeout=10_000)
            assert played.json_value() == list(EXPECTED[name][0])
        page.evaluate("() => window.app.canvas.setDirty(true, true)")
        page.wait_for_timeout(500)  # nodes grow with what they show
        screenshot(page, name)
        assert page.evaluate(LEFT_PREVIEWS) == []
        assert page.evaluate(OVERLAPS) == []
        assert [line for line in page.complaints if "ComfyUI-LiveAvatar" in line] == []
    entry = ready.wait(done["prompt_id"])
    check_talks(read_video(ready.saved_video(entry)), *EXPECTED[name])
