"""The subgraph blueprint: one node that makes a talking portrait of a picture and a sound."""

from __future__ import annotations

import json
from itertools import count

import pytest

from tools.environment import ROOT
from tools.workflows.blueprint import INPUTS, NAME, WIDGETS

from .browser import queue_and_wait, screenshot
from .conftest import IN_TWO_SITES
from .media import FRAMES, check_talks, read_video
from .workflows import TINY

SEEDS = count(2_000)  # a host that has run something already does not run it again

# The blueprint between the nodes that a person connects to it. Newer pages keep the values of widgets that it shows
# on the outer node, so that is where they are set, as by a person; older ones put the inner node's number in front.
BUILD = """
async ([blueprint, values]) => {
    await window.app.loadGraphData(blueprint);
    const { graph } = window.app;
    const [talking] = graph.nodes;
    const add = (type, x, values = {}) => {
        const node = window.LiteGraph.createNode(type);
        node.pos = [x, 0];
        graph.add(node);
        set(node, values);
        return node;
    };
    const set = (node, values) => {
        for (const [name, value] of Object.entries(values))
            node.widgets.find((widget) => widget.name === name).value = value;
    };
    const shown = Object.fromEntries(talking.widgets.map((widget) => [widget.name.split(": ").at(-1), widget]));
    for (const node of talking.subgraph.nodes)
        for (const [name, value] of Object.entries(values[node.type] ?? {})) {
            if (name in shown) shown[name].value = value;
            else set(node, { [name]: value });
        }
    add("LoadImage", -800, { image: "portrait.png" }).connect(0, talking, talking.findInputSlot("image"));
    add("LoadAudio", -400, { audio: "speech.wav" }).connect(0, talking, talking.findInputSlot("audio"));
    talking.connect(0, add("AvatarStreamToVideo", 500), 0);
    return { shown: Object.keys(shown), inputs: talking.inputs.map(({ name }) => name), title: talking.title };
}
"""


@IN_TWO_SITES
def test_the_blueprint_makes_a_talking_video_as_one_node(site, request):
    blueprint = json.loads((ROOT / "subgraphs" / f"{NAME}.json").read_text(encoding="utf-8"))
    with site.browser.page_with_graph("LiveAvatarSampler") as page:
        page.wait_for_timeout(500)
        values = {**TINY, "LiveAvatarSampler": {**TINY["LiveAvatarSampler"], "seed": next(SEEDS)}}
        seen = page.evaluate(BUILD, [blueprint, values])
        assert seen["title"] == NAME
        assert set(INPUTS) <= set(seen["inputs"])
        assert {widget for _, widget in WIDGETS} <= set(seen["shown"])
        done = queue_and_wait(page)
        screenshot(page, request.node.name)
        assert [line for line in page.complaints if "ComfyUI-LiveAvatar" in line] == []
    check_talks(
        read_video(site.host.saved_video(site.host.wait(done["prompt_id"]))), (64, 128), FRAMES, 24_000, 1
    )


def test_hosts_that_know_blueprints_offer_it(host):
    if not (host.folder / "app" / "subgraph_manager.py").is_file():
        pytest.skip("this host knows no blueprints")
    offered = host.get("/global_subgraphs").values()
    assert NAME in {entry["name"] for entry in offered if entry["source"] == "custom_node"}
