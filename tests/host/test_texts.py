"""Texts that nodes show while they run: in their own workflow, as text, and not among what the workflow keeps."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page

from tools.connection import HostError
from tools.host_events import HostEvents

from .browser import queue_and_wait, screenshot
from .test_live_player import WRITER, drop, opened, submit
from .workflows import change, only, small

NODES = ("LiveAvatarReferenceImage", "LiveAvatarSampler")
TEXTS = """
() => Object.fromEntries(window.app.graph.nodes.map(({ type, widgets }) =>
    [type, widgets?.find(({ name }) => name === "liveavatar-text")?.element.textContent]))
"""
SETTINGS = """
() => Object.fromEntries(window.app.graph.serialize().nodes.map(({ type, widgets_values }) => [type, widgets_values]))
"""
SEND = "([kind, detail]) => window.app.api.dispatchCustomEvent(kind, detail)"


def node_id(page: Page, type_: str) -> str:
    return page.evaluate("(type) => String(window.app.graph.nodes.find((n) => n.type === type).id)", type_)


def test_a_text_is_shown_in_its_workflow_only_and_is_not_kept_among_the_settings(
    ready, browser, tmp_path, request
):
    workflow = small(seed=4711)
    workflow[only(workflow, WRITER)]["inputs"]["filename_prefix"] = f"texts/{request.node.name}"
    change(workflow, "CLIPTextEncode", text=request.node.name)  # nothing of an earlier run is reused
    with opened(browser) as page:
        drop(page, workflow, tmp_path)
        before = page.evaluate(SETTINGS)
        queue_and_wait(page)
        texts = page.evaluate(TEXTS)
        assert texts["LiveAvatarReferenceImage"] == "64 x 64" and texts["LiveAvatarSampler"]
        assert texts[WRITER] is None
        after = page.evaluate(SETTINGS)
        for type_ in NODES:
            assert len(after[type_]) == len(before[type_]), (before[type_], after[type_])
        screenshot(page, "texts")

        graph = json.loads(page.evaluate("() => JSON.stringify(window.app.graph.serialize())"))
        page.evaluate("(graph) => window.app.loadGraphData(graph)", graph | {"id": "another-workflow"})
        page.wait_for_function("() => window.app.graph.id === 'another-workflow'")
        detail = {"workflow": graph["id"], "node": node_id(page, NODES[1]), "text": "of the other"}
        page.evaluate(SEND, ["liveavatar.text", detail])
        assert set(page.evaluate(TEXTS).values()) == {None}
        page.evaluate("(graph) => window.app.loadGraphData(graph)", graph)
        page.wait_for_function(f"() => ({TEXTS})().LiveAvatarSampler === 'of the other'")
        assert page.evaluate(TEXTS)["LiveAvatarReferenceImage"] == "64 x 64"


def test_what_looks_like_html_stays_text(ready, browser, tmp_path):
    said = "<img src=x onerror='window.ran = true'><b>bold</b> & more"
    with opened(browser) as page:
        drop(page, small(), tmp_path)
        workflow = page.evaluate("() => window.app.graph.id")
        detail = {"workflow": workflow, "node": node_id(page, NODES[0]), "text": said}
        page.evaluate(SEND, ["liveavatar.text", detail])
        page.wait_for_timeout(500)
        assert page.evaluate(TEXTS)[NODES[0]] == said
        assert page.evaluate("() => document.querySelectorAll('.liveavatar-text *').length") == 0
        assert page.evaluate("() => window.ran") is None


@pytest.mark.parametrize(
    "input_", [(WRITER, "filename_prefix"), (NODES[0], "size"), (NODES[1], "sink")], ids=str
)
def test_html_in_a_setting_never_runs_in_the_page(ready, browser, tmp_path, input_):
    type_, name = input_
    workflow = small(seed=4713)
    workflow[only(workflow, type_)]["inputs"][name] = "<img src=x onerror='window.ran = true'>"
    with opened(browser) as page:
        drop(page, workflow, tmp_path)
        with pytest.raises(HostError, match=f"refused the workflow.*{name}"):
            queue_and_wait(page)
        page.wait_for_timeout(1000)
        assert page.evaluate("() => window.ran") is None
        assert page.evaluate("() => document.querySelectorAll('img[src=x]').length") == 0


def test_the_figures_of_a_run_that_goes_on_need_no_first_block(ready, browser, tmp_path):
    with opened(browser) as page:
        errors = []
        page.on("pageerror", lambda error: errors.append(error.stack))
        drop(page, small(), tmp_path)
        status = {
            "id": "goes-on",
            "workflow": page.evaluate("() => window.app.graph.id"),
            "node": node_id(page, WRITER),
            "state": "running",
            "mime_type": None,
            "frames": 250,
            "total_frames": 500,
            "fps": 25.0,
            "speed": None,
            "first_frame_seconds": None,
        }
        page.evaluate(SEND, ["liveavatar.stream", status])
        page.wait_for_timeout(700)
        figures = page.evaluate("() => document.querySelector('.liveavatar-player .figures').textContent")
        assert "first frame" not in figures
        line = page.evaluate("() => document.querySelector('.liveavatar-player .progress').textContent")
        assert line == "10.0 s of 20.0 s"
        assert errors == []


@pytest.mark.parametrize(
    "sent", [None, [], "text", 7, {"workflow": "text"}, {"workflow": {"id": ["list"]}}], ids=str
)
def test_what_a_program_sends_in_place_of_the_workflow_does_not_stop_a_run(ready, sent):
    workflow = small(seed=12)
    with HostEvents(ready) as events:
        body = {"prompt": workflow, "client_id": events.client_id, "extra_data": {"extra_pnginfo": sent}}
        entry = ready.wait(ready.post("/prompt", body)["prompt_id"])
    assert ready.errors(entry) == []


@pytest.mark.parametrize("graph", ["a-graph", None])
def test_only_who_started_the_run_is_told(ready, graph):
    with HostEvents(ready) as events, HostEvents(ready) as others:
        ready.wait(submit(ready, small(seed=4712 + (graph is None)), events, graph))
        told = [data for kind, data in events.messages if kind == "liveavatar.text"]
        assert {data["workflow"] for data in told} == ({graph} if graph else set())
        said = [any(b"own precision" in message for message in who.previews) for who in (events, others)]
        assert said == [graph is None, False]  # a program gets the host's own message
        assert not [kind for kind, _ in others.messages if kind == "liveavatar.text"]
