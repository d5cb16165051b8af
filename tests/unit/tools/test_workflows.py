"""The shipped workflows: they name files that come with the pack, say what they are, and can be read."""

from __future__ import annotations

import json
import re
from itertools import combinations

import pytest

from tools.demo_media import EXAMPLE
from tools.environment import ROOT
from tools.workflows.catalogue import WORKFLOWS, page_name

FOLDER = ROOT / "workflows"
LOADERS = {"LoadImage": "image", "LoadAudio": "audio", "LoadVideo": "file", "AvatarBatch": "file"}
TITLE = 30


def page(name: str) -> dict:
    return json.loads((FOLDER / f"{page_name(name)}.json").read_text(encoding="utf-8"))


def api(name: str) -> dict:
    return json.loads((FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))


def boxes(items: list[tuple[str, float, float, float, float]]) -> list[tuple[str, str]]:
    """The pairs of boxes (name, left, top, right, bottom) that lie over one another."""
    return [
        (a[0], b[0])
        for a, b in combinations(items, 2)
        if a[1] < b[3] and b[1] < a[3] and a[2] < b[4] and b[2] < a[4]
    ]


def test_every_file_in_the_folder_belongs_to_a_workflow():
    names = {page_name(name) for name in WORKFLOWS}
    assert {path.stem for path in FOLDER.glob("*.json")} == names
    assert {path.stem for path in FOLDER.glob("*.jpg")} == names
    assert {path.stem for path in FOLDER.glob("api/*.json")} == set(WORKFLOWS)


def test_the_demo_comes_first_and_says_so():
    first = min(page_name(name) for name in WORKFLOWS)
    assert first == page_name("demo") and "Start here" in first


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_names_files_that_come_with_the_pack(name):
    shipped = {f"liveavatar_{file.name}" for file in EXAMPLE.iterdir()}
    named = {
        node["inputs"][LOADERS[node["class_type"]]]
        for node in api(name).values()
        if node["class_type"] in LOADERS
    }
    assert named and named <= shipped
    assert named <= {value for node in page(name)["nodes"] for value in node["widgets_values"]}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_video_is_kept_from_its_first_frame(name):
    kinds = [node for node in api(name).values() if "save_output" in node["inputs"]]
    assert kinds and all(node["inputs"]["save_output"] is True for node in kinds)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_explains_itself_and_nothing_overlaps(name):
    graph = page(name)
    (note,) = [node for node in graph["nodes"] if node["type"] == "MarkdownNote"]
    assert "**Needs" in note["widgets_values"][0]
    nodes = [
        (node["type"], x, y - TITLE, x + width, y + height)
        for node in graph["nodes"]
        for (x, y), (width, height) in [(node["pos"], node["size"])]
    ]
    assert boxes(nodes) == []
    groups = [
        (group["title"], x, y, x + width, y + height)
        for group in graph["groups"]
        for x, y, width, height in [group["bounding"]]
    ]
    assert len(groups) >= 3 and boxes(groups) == []
    for node in nodes:
        around = [
            g for g in groups if g[1] <= node[1] and g[2] <= node[2] and g[3] >= node[3] and g[4] >= node[4]
        ]
        assert len(around) == (node[0] != "MarkdownNote")


@pytest.mark.parametrize("name", WORKFLOWS)
def test_nodes_name_their_pack_and_the_models_that_a_page_can_fetch(name):
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    for node in page(name)["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        about = node["properties"]
        ours = node["type"].startswith(("LiveAvatar", "LongCat", "PersonaLive", "Ditto", "Avatar"))
        assert (about["cnr_id"] == "comfyui-liveavatar") == ours
        assert not ours or about["ver"] == version[1]
        values = node["widgets_values"]
        files = {value for value in values if isinstance(value, str) and value.endswith(".safetensors")}
        assert {model["name"] for model in about.get("models", ())} == files
        for model in about.get("models", ()):
            assert model["url"].startswith("https://huggingface.co/") and model["url"].endswith(model["name"])


def test_the_app_shows_widgets_and_results_that_are_there():
    graph = page("liveavatar.app")
    nodes = {node["id"]: node for node in graph["nodes"]}
    sent = api("liveavatar.app")
    data = graph["extra"]["linearData"]
    assert graph["extra"]["linearMode"] is True
    for number, widget in data["inputs"]:
        assert widget in sent[str(number)]["inputs"]
    assert [nodes[number]["type"] for number in data["outputs"]] == ["AvatarStreamToVideo"]
