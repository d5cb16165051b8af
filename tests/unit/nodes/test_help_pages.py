"""The help pages of nodes, compared with the English texts, which another test compares with the nodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
NODES = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("node", NODES)
def test_a_node_has_a_page_with_its_title_and_all_of_its_inputs(node):
    page = (ROOT / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8")
    assert page.splitlines()[0] == f"# {NODES[node]['display_name']}"
    assert [name for name in NODES[node]["inputs"] if name not in page] == []


def test_no_page_is_left_over():
    assert {path.stem for path in (ROOT / "web" / "docs").glob("*.md")} == set(NODES)
