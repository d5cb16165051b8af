"""When the live player plays: through what is made slowly, close behind what is live, never against a person's will."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from playwright.sync_api import Page

from benchmarks.player import BLOCK, FPS, READ_FRAMES, Run, workflow

from .browser import drop_workflow
from .test_live_player import PLAYER, WATCH_END, look, opened, press_run, watch

SIZE = (256, 64)
SLOW = Run(False, 4 * BLOCK / FPS, 0.0, 6)  # a quarter of real time: 2.9 s of video, made in 11.5 s
LIVE = Run(True, BLOCK / FPS, 0.02, 60)
VIDEO = "document.querySelector('.liveavatar-player video')"


@pytest.fixture
def page(ready, browser):
    with opened(browser) as page:
        yield page
    ready.interrupt()


def begin(page: Page, tmp_path, name: str, run: Run) -> None:
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps(workflow(name, run, SIZE)))
    drop_workflow(page, file)
    page.evaluate(WATCH_END)
    page.evaluate(READ_FRAMES)
    press_run(page)


def test_what_is_made_slowly_waits_and_is_then_played_without_a_stop(page, tmp_path):
    begin(page, tmp_path, "slow", SLOW)
    waiting = watch(page, lambda state: "plays in" in state["line"])
    look(page, "pace-waiting")
    assert "s of 2.9 s" in waiting["line"] and "to go" in waiting["line"]
    assert (waiting["time"], waiting["rate"], waiting["paused"]) == (0, 0, False)  # no sign of a pause
    playing = watch(page, lambda state: state["time"] > 0.5)
    assert playing["ended"] is None and "plays in" not in playing["line"]
    watch(page, lambda state: state["time"] > 2.6)
    times = [at for number, at in page.evaluate("() => window.shown") if number > 1]
    assert (
        max(after - before for before, after in pairwise(times)) < 1200
    )  # a block takes 1920 ms, and lasts 480


def test_the_newest_frame_can_be_shown_in_place_of_waiting(page, tmp_path):
    begin(page, tmp_path, "newest", SLOW)
    watch(page, lambda state: "plays in" in state["line"])
    page.get_by_role("button", name="Newest frame").click()
    shown = watch(page, lambda state: state["time"] > 1)
    assert shown["buffered"] - shown["time"] < 0.1 and shown["rate"] == 0 and shown["ended"] is None
    page.get_by_role("button", name="Newest frame").click()
    assert watch(page, lambda state: state["rate"] == 1)["time"] < 1  # from the beginning
    watch(page, lambda state: state["time"] > 2.6)


def test_a_live_video_is_played_close_behind_and_a_person_can_pause_it(page, tmp_path):
    begin(page, tmp_path, "live", LIVE)
    late = watch(page, lambda state: state["time"] > 8)
    assert late["buffered"] - late["time"] < 1.2 and late["ended"] is None
    page.evaluate(f"() => {VIDEO}.pause()")
    page.wait_for_timeout(1500)
    paused = page.evaluate(PLAYER)
    assert paused["paused"] and paused["buffered"] - paused["time"] > 1
    page.evaluate(f"() => {VIDEO}.play()")
    watch(page, lambda state: state["time"] > paused["time"] + 1)


def test_the_controls_are_there_for_who_reaches_for_them(page, tmp_path):
    begin(page, tmp_path, "controls", LIVE)
    watch(page, lambda state: state["time"] > 0.5)
    assert not page.evaluate(f"() => {VIDEO}.controls")
    page.locator(".liveavatar-player video").hover()
    assert page.evaluate(f"() => {VIDEO}.controls")
    page.mouse.move(5, 300)
    assert not page.evaluate(f"() => {VIDEO}.controls")
