"""Workflows by name and by file."""

from __future__ import annotations

import json

import pytest
from avatar.jobs.workflows import USUAL, read_workflow, shipped


def test_every_shipped_workflow_is_found_by_its_name():
    assert {USUAL, "demo"} <= set(shipped())
    assert all(read_workflow(name) for name in shipped())


def test_another_one_is_read_from_its_file(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(read_workflow("demo")))
    assert read_workflow(str(file)) == read_workflow("demo")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("{", "Export the workflow again"), ('{"nodes": []}', "Export the workflow with")],
)
def test_a_file_without_a_workflow_in_api_format_is_refused(tmp_path, content, sentence):
    file = tmp_path / "mine.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=sentence):
        read_workflow(str(file))
