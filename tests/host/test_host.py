"""The host itself: it starts with the pack, runs a workflow over HTTP and in the page, reports failures."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tools.connection import HostError

from .browser import drop_workflow, queue_and_wait, screenshot

WORKFLOW = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 0x3366CC},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "plain"}},
}


def test_the_host_imports_the_pack_and_offers_its_nodes(host):
    assert "IMPORT FAILED" not in host.log()
    assert host.pack_nodes()


def test_a_workflow_sent_over_http_writes_its_picture(host):
    (picture,) = host.files(host.run(WORKFLOW))
    assert picture.parent == host.output_dir
    assert Image.open(picture).size == (64, 48)
    assert Image.open(picture).getpixel((5, 5)) == (0x33, 0x66, 0xCC)


def test_a_refused_workflow_is_reported_with_node_and_reason(host):
    wrong = {
        **WORKFLOW,
        "1": {"class_type": "EmptyImage", "inputs": {"width": -8, "height": 48, "batch_size": 1}},
    }
    with pytest.raises(HostError, match=r"EmptyImage \(node 1\): .*min"):
        host.run(wrong)


def test_a_node_that_fails_is_reported_with_its_own_words(host):
    (host.input_dir / "broken.png").write_bytes(b"no picture")
    failing = {**WORKFLOW, "1": {"class_type": "LoadImage", "inputs": {"image": "broken.png"}}}
    with pytest.raises(HostError, match=r"LoadImage \(node 1\): .*cannot identify image file"):
        host.run(failing)


def test_a_dropped_workflow_runs_in_the_page(host, browser, tmp_path):
    workflow = tmp_path / "plain.json"
    workflow.write_text(json.dumps(WORKFLOW))
    with browser.page_with_graph() as page:
        assert sorted(drop_workflow(page, workflow)) == ["EmptyImage", "SaveImage"]
        done = queue_and_wait(page)
        screenshot(page, "plain")
    entry = host.wait(done["prompt_id"])
    assert host.errors(entry) == []
    assert [picture.suffix for picture in host.files(entry)] == [".png"]
