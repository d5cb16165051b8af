"""The Batch workflow on the page: one press makes all rows, and the node names a bad one."""

from __future__ import annotations

import json

from .browser import drop_workflow, queue_and_wait, screenshot
from .test_live_player import opened
from .test_page import SET_WIDGETS
from .test_pages import overlaps
from .test_texts import TEXTS
from .workflows import TINY, ui_file

ROWS = [
    {"image": "portrait.png", "audio": "speech.wav", "output": "one", "seed": 1},
    {"image": "portrait.png", "audio": "nowhere.wav", "output": "two"},
    {"image": "portrait.png", "audio": "speech.wav", "output": "three", "seed": 3},
]


def test_one_press_makes_all_rows_and_names_a_bad_one(site, tiny_checkpoint, request):
    folder = f"batch-{request.node.callspec.id}"
    (site.host.input_dir / "rows.json").write_text(json.dumps(ROWS))
    with opened(site.browser) as page:
        page.wait_for_timeout(1000)  # Nodes 2.0 arranges the graph that the page begins with
        drop_workflow(page, ui_file("batch"))
        small = {name: TINY[name] for name in ("LiveAvatarLoadCheckpoint", "LiveAvatarReferenceImage")}
        page.evaluate(SET_WIDGETS, {**small, "AvatarBatch": {"file": "rows.json", "folder": folder}})
        assert overlaps(page, site) == []
        queue_and_wait(page)
        page.wait_for_timeout(700)  # for what the page shows of results
        screenshot(page, request.node.name)
        told = page.evaluate(TEXTS)["AvatarBatch"]
        assert "3 rows: 2 to make, 0 finished, 1 left out" in told and "row 2: Put 'nowhere.wav'" in told
        assert overlaps(page, site) == []
    made = sorted(path.name.partition("-")[0] for path in (site.host.output_dir / folder).iterdir())
    assert made == ["one", "three"]
