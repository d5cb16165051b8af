"""What the pack adds to a page, in the host's own page and in the newest one, on the canvas and in Nodes 2.0."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from playwright.sync_api import Page, Route

from .browser import drop_workflow, queue_and_wait, screenshot
from .conftest import Site
from .media import tone, write_wav
from .test_live_player import WATCH_END, drop, look, opened, press_run, watch
from .test_page import OVERLAPS, SET_WIDGETS, USE_SMALL_FILES
from .workflows import TINY, small, ui_file

SECONDS = 8.0
SEEDS = count(1_000)  # a host that has run something already does not run it again
PLAYER_NODE = "AvatarStreamToVideo"

# Nodes 2.0 draws nodes as elements: which of them lie over one another?
ELEMENTS_OVERLAP = """
() => {
    const type = (node) => {
        const id = node.dataset.nodeId ?? node.querySelector("[data-testid^='node-body-']").dataset.testid.slice(10);
        return window.app.graph.getNodeById(Number(id)).type;
    };
    const boxes = [...document.querySelectorAll(".lg-node")]
        .map((node) => ({ type: type(node), ...node.getBoundingClientRect().toJSON() }));
    const overlap = (a, b) =>
        a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 1 && b.top < a.bottom - 1;
    return boxes.flatMap((a, i) =>
        boxes.slice(i + 1).filter((b) => overlap(a, b)).map((b) => `${a.type} and ${b.type}`));
}
"""
# What the node with the player shows beside it, and how the player lies in its node.
AROUND_THE_PLAYER = """
() => {
    const player = document.querySelector(".liveavatar-player");
    const node = player.closest(".lg-node");
    const seen = (element) => element.checkVisibility();
    return {
        visible: seen(player),
        others: [...(node?.querySelectorAll("img, video") ?? [])]
            .filter((element) => seen(element) && !player.contains(element)).map((element) => element.outerHTML),
        failures: [...document.querySelectorAll(".lg-node p")]
            .filter(seen).map((line) => line.innerText).filter((line) => /failed to load/i.test(line)),
        height: player.clientHeight,
        film: player.querySelector("video").clientHeight,
    };
}
"""
TEXTS = """
() => [...document.querySelectorAll(".liveavatar-text")].map((element) => element.checkVisibility())
"""
PLACE_SPEECH = """
() => {
    const { graph } = window.app;
    graph.clear();
    const [file, sound] = ["LiveAvatarLoadSpeechFile", "PreviewAudio"].map((type, index) => {
        const node = window.LiteGraph.createNode(type);
        node.pos = [300 + 450 * index, 300];
        graph.add(node);
        return node;
    });
    file.connect(0, sound, 0);
    const [name] = file.widgets;
    name.value = "long.wav";
    name.callback?.(name.value);
    return file.widgets.map(({ name }) => name);
}
"""
# Stream to Video goes into a subgraph, which stays closed.
ENCLOSE = """
() => {
    const { graph } = window.app;
    const writers = graph.nodes.filter(({ type }) => type === "AvatarStreamToVideo");
    window.enclosed = graph.convertToSubgraph(new Set(writers)).node;
}
"""
TELL = """
() => {
    const { id, subgraph } = window.enclosed;
    const detail = { workflow: window.app.rootGraph?.id ?? window.app.graph.id, text: "inside" };
    window.app.api.dispatchCustomEvent("liveavatar.text", { ...detail, node: `${id}:${subgraph.nodes[0].id}` });
}
"""
# What is shown of the node inside.
SHOWN = """
() => [...document.querySelectorAll(".liveavatar-player, .liveavatar-text")]
    .filter((element) => element.checkVisibility())
    .filter(({ classList, textContent }) => !classList.contains("liveavatar-text") || textContent === "inside")
    .map(({ className }) => className.split(" ")[0])
"""
OPEN = "() => window.app.canvas.openSubgraph(window.enclosed.subgraph, window.enclosed)"
CLOSE = (
    "() => window.app.canvas.setGraph(window.app.rootGraph ?? window.app.graph.rootGraph ?? window.app.graph)"
)
PLAYERS_IN_PAGE = """
() => [...document.querySelectorAll("video")].filter((video) => video.closest(".liveavatar-player"))
    .map((video) => ({ paused: video.paused }))
"""


@pytest.fixture
def page(site: Site) -> Iterator[Page]:
    """A page with the core workflow, small."""
    write_wav(site.host.input_dir / "long.wav", tone(60, 16_000, 1), 16_000)
    with opened(site.browser) as page:
        page.wait_for_timeout(1000)  # Nodes 2.0 arranges the graph that the page begins with
        drop_workflow(page, ui_file("liveavatar_core"))
        page.evaluate(USE_SMALL_FILES)
        page.evaluate(
            SET_WIDGETS,
            {
                **TINY,
                "LoadAudio": {"audio": "long.wav"},
                "LiveAvatarSampler": {"max_seconds": SECONDS, "seed": next(SEEDS)},
            },
        )
        page.evaluate(WATCH_END)
        yield page


def overlaps(page: Page, site: Site) -> list[str]:
    """Pairs of nodes that lie over one another. Where Nodes 2.0 was young, its Load Image grew over others by itself:
    there only what the player's node does counts."""
    found = page.evaluate(ELEMENTS_OVERLAP if site.nodes_2 else OVERLAPS)
    version = page.evaluate("() => window.__COMFYUI_FRONTEND_VERSION__").split(".")
    young = site.nodes_2 and int(version[1]) < 40
    return [pair for pair in found if not young or PLAYER_NODE in pair]


def test_the_player_is_all_that_its_node_shows_and_nodes_keep_apart(site, page, request):
    assert overlaps(page, site) == []
    press_run(page)
    watch(page, lambda state: state["time"] > 1)
    for moment in ("running", "finished"):
        around = page.evaluate(AROUND_THE_PLAYER)
        screenshot(page, f"{request.node.name}-{moment}")
        assert around["visible"] and not around["others"] and not around["failures"]
        assert around["height"] < 400 and around["film"] > 150
        assert overlaps(page, site) == []
        watch(page, lambda state: state["ended"] == "execution_success")
        page.wait_for_timeout(700)  # for what the page shows of results


def test_the_player_is_shown_where_a_file_in_api_format_was_dropped(site, tmp_path):
    workflow = small(seconds=0.32, seed=next(SEEDS))
    with opened(site.browser) as page:
        page.wait_for_timeout(1000)
        drop(page, workflow, tmp_path)
        press_run(page)
        page.wait_for_function("() => window.ended", timeout=60_000)
        page.wait_for_timeout(700)
        look(page, f"api-file-{'nodes2' if site.nodes_2 else 'canvas'}")
        around = page.evaluate(AROUND_THE_PLAYER)
        assert around["visible"] and not around["others"] and not around["failures"]
        assert True in page.evaluate(TEXTS)


def test_nothing_of_a_closed_subgraph_is_shown_or_heard(site, page):
    page.evaluate(ENCLOSE)
    page.evaluate(SET_WIDGETS, {"LiveAvatarSampler": {"max_seconds": 1.0}})
    press_run(page)
    page.wait_for_function("() => window.ended", timeout=60_000)
    page.evaluate(TELL)
    page.wait_for_timeout(300)
    assert page.evaluate(SHOWN) == page.evaluate(PLAYERS_IN_PAGE) == []
    page.evaluate(SET_WIDGETS, {"LiveAvatarSampler": {"seed": next(SEEDS), "max_seconds": 20.0}})
    page.evaluate(WATCH_END)
    press_run(page)
    page.evaluate(OPEN)
    watch(page, lambda state: state["time"] > 0.5 and state["ended"] is None)
    assert sorted(page.evaluate(SHOWN)) == ["liveavatar-player", "liveavatar-text"]
    page.evaluate(CLOSE)
    page.wait_for_timeout(700)
    assert page.evaluate(SHOWN) == []
    assert all(video["paused"] for video in page.evaluate(PLAYERS_IN_PAGE))


def test_load_speech_file_can_be_placed_and_plays_its_file(site):
    write_wav(site.host.input_dir / "long.wav", tone(60, 16_000, 1), 16_000)
    with site.browser.page_with_graph("LiveAvatarLoadSpeechFile") as page:
        assert page.evaluate(PLACE_SPEECH) == ["audio", "audioUI", "upload"]
        queue_and_wait(page)
        assert [line for line in page.complaints if "ComfyUI-LiveAvatar" in line] == []


def test_the_workflow_that_needs_nothing_is_first_in_the_gallery_whatever_the_order_of_the_disk(site):
    def reverse(route: Route) -> None:
        listed = route.fetch().json()
        route.fulfill(json={pack: sorted(names, reverse=True) for pack, names in listed.items()})

    with opened(site.browser) as page:
        page.route("**/workflow_templates", reverse)
        listed = page.evaluate("() => window.app.api.getWorkflowTemplates()")["ComfyUI-LiveAvatar"]
    assert listed[0].startswith("1 Start here") and listed == sorted(listed)
