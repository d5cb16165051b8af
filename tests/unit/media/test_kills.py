"""Runs that are killed at lines of the code that writes: what is there plays, and the same run finishes the video."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak import kills

AMONG = 40
"""One of so many lines; `python -m tests.soak kills` takes all."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
@pytest.mark.parametrize("stopped", [False, True], ids=["from the beginning", "behind a stop"])
def test_a_run_that_is_killed_anywhere_leaves_what_another_one_finishes(tmp_path: Path, stopped: bool):
    faults = list(kills.attacks(tmp_path, stopped, AMONG))
    assert len(faults) >= 5
    assert not [(line, fault) for line, fault in faults if fault]
