"""A page that watches a live video by WebRTC, and what it does where that cannot be."""

from __future__ import annotations

import copy
import importlib.util
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page

from benchmarks.player import BLOCK, FPS, LOADING, READ_FRAMES, READ_SOUND, Run, skews, workflow
from tools.host import Host

from .browser import Browser, drop_workflow, wait_ready
from .test_conversation_page import graph
from .test_live_player import WRITER, look, open_page, press_run

LIVE = Run(True, BLOCK / FPS, 0.0, 60)
NO_PACKAGE = "aiortc 1.16 is not installed: without it nothing is shown by WebRTC."
NO_UDP = (
    "No UDP packet gets from an address of this machine to itself, so a browser cannot be reached by WebRTC."
)
STATE = """
() => {
    const video = document.querySelector(".liveavatar-player video");
    if (!video) return null;
    return {
        direct: Boolean(video.srcObject),
        source: video.srcObject ? "" : video.currentSrc,
        time: video.currentTime,
        size: [video.videoWidth, video.videoHeight],
        line: document.querySelector(".liveavatar-player .progress").textContent,
        newest: !document.querySelector(".liveavatar-player button + button + button").hidden,
        shown: window.shown ?? [],
        finished: window.finished,
    };
}
"""
UNREACHABLE = """
    const answer = RTCPeerConnection.prototype.setRemoteDescription;
    RTCPeerConnection.prototype.setRemoteDescription = function ({ type, sdp }) {
        const kept = sdp.split("\\r\\n").filter((line) => !line.startsWith("a=candidate"));
        return answer.call(this, { type, sdp: kept.join("\\r\\n") });
    };
"""
WITHOUT = "delete window.RTCPeerConnection;"


def udp_works() -> bool:
    """Whether a packet reaches an address of this machine that is not its loopback."""
    for addresses in psutil.net_if_addrs().values():
        for address in addresses:
            if address.family != socket.AF_INET or address.address.startswith("127."):
                continue
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.settimeout(2)
                try:
                    end.bind((address.address, 0))
                    end.sendto(b"here", end.getsockname())
                    return end.recv(4) == b"here"
                except OSError:
                    continue
    return False


@pytest.fixture(autouse=True)
def _nothing_runs_on(ready: Host) -> Iterator[None]:
    if importlib.util.find_spec("aiortc") is None:
        pytest.skip(NO_PACKAGE)
    if not udp_works():
        pytest.skip(NO_UDP)
    yield
    ready.interrupt()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser._browser.new_context(viewport={"width": 1600, "height": 1000}, bypass_csp=True)
    yield context.new_page()
    context.close()


def run(page: Page, url: str, tmp_path: Path, live: Run = LIVE) -> None:
    """Open the page, and run a stream of numbered frames that is to be shown by WebRTC."""
    open_page(page, url)
    file = tmp_path / "numbers.json"
    file.write_text(json.dumps(workflow("numbers", live, (256, 144), direct=True)))
    drop_workflow(page, file)
    page.evaluate(READ_FRAMES)
    page.evaluate(READ_SOUND)
    press_run(page)


def until(page: Page, condition, seconds: float = 90) -> dict:
    """What the player shows as soon as the condition holds for it."""
    for _ in range(round(seconds * 10)):
        state = page.evaluate(STATE)
        if state and condition(state):
            return state
        page.wait_for_timeout(100)
    look(page, "webrtc-timeout")
    raise AssertionError(f"The player did not get there: {state and {**state, 'shown': state['shown'][-3:]}}")


def udp(host: Host) -> int:
    """UDP sockets of the host."""
    return len(psutil.Process(host.process.pid).net_connections(kind="udp"))


def test_frames_and_sound_come_by_themselves_and_the_file_is_there_at_the_end(ready, page, tmp_path):
    run(page, ready.url, tmp_path)
    state = until(page, lambda state: state["direct"] and len(state["shown"]) > 50)
    look(page, "webrtc")
    assert state["size"] == [256, 144] and not state["newest"] and "WebRTC" not in state["line"]
    assert udp(ready) > 0
    state = until(page, lambda state: "/view?" in state["source"])
    numbers = [number for number, _ in state["shown"] if number > 0]
    assert numbers == sorted(numbers) and numbers[-1] > (LIVE.blocks - 2) * BLOCK
    beeps = [at / 1000 for at in page.evaluate("() => window.beeps")]
    late = skews([(number, at / 1000) for number, at in state["shown"]], beeps)
    assert len(late) > 3 and abs(sorted(late)[len(late) // 2]) < 0.15
    assert udp(ready) == 0
    assert "finished" in state["line"]


def test_two_pages_watch_and_a_closed_tab_leaves_nothing_behind(ready, browser, page, tmp_path):
    before = udp(ready)
    file = tmp_path / "numbers.json"
    drawn = graph()
    drawn["nodes"][0]["widgets_values"] += [True, LOADING]
    file.write_text(json.dumps(drawn))
    open_page(page, ready.url)
    page.wait_for_timeout(1000)
    drop_workflow(page, file)
    press_run(page)
    until(page, lambda state: state["direct"] and state["time"] > 0.5)
    one = udp(ready)
    assert one > before
    other = page.context.new_page()
    open_page(other, ready.url)
    drop_workflow(other, file)
    until(other, lambda state: state["direct"] and state["time"] > 0.5)
    assert udp(ready) > one
    other.close()
    for _ in range(100):
        if udp(ready) == one:
            break
        page.wait_for_timeout(100)
    assert udp(ready) == one
    seen = page.evaluate(STATE)["time"]
    until(page, lambda state: state["direct"] and state["time"] > seen + 1)
    page.reload()
    wait_ready(page, WRITER)
    until(page, lambda state: state["direct"] and state["time"] > 0.5)
    assert udp(ready) == one


@pytest.mark.parametrize("cause", [UNREACHABLE, WITHOUT], ids=["unreachable", "without"])
def test_where_it_cannot_connect_the_page_plays_the_file_and_says_so(ready, page, tmp_path, cause):
    page.add_init_script(cause)
    run(page, ready.url, tmp_path)
    state = until(page, lambda state: state["source"].startswith("blob:") and state["time"] > 1)
    look(page, "webrtc-fallback")
    assert not state["direct"] and "WebRTC does not connect" in state["line"]
    until(page, lambda state: state["finished"])
    assert udp(ready) == 0


def test_a_connection_that_breaks_is_gone_on_with_in_the_file(ready, page, tmp_path):
    servers = []

    def pass_on(route):
        servers.append(route.connect_to_server())

    page.route_web_socket("**/webrtc", pass_on)
    run(page, ready.url, tmp_path)
    before = until(page, lambda state: state["direct"] and len(state["shown"]) > 30)["shown"][-1][0]
    servers[0].close()
    state = until(page, lambda state: state["source"].startswith("blob:") and state["time"] > 1)
    until(page, lambda now: now["time"] > state["time"])
    after = page.evaluate(STATE)["shown"]
    begun = next(number for number, at in reversed(after) if number > before)
    assert "WebRTC does not connect" in state["line"] and begun > before
    assert not [number for number, _ in after if 0 < number < after[0][0]]  # not from the beginning again


def test_nobody_watches_in_this_way_who_was_not_told_of_it(ready, page, tmp_path):
    """Without the choice on the node nothing of it is there."""
    asked = []
    page.on("websocket", lambda found: asked.append(found.url))
    plain = copy.deepcopy(workflow("numbers", LIVE, (256, 144)))
    open_page(page, ready.url)
    file = tmp_path / "plain.json"
    file.write_text(json.dumps(plain))
    drop_workflow(page, file)
    press_run(page)
    state = until(page, lambda state: state["source"].startswith("blob:") and state["time"] > 0.5)
    assert "WebRTC" not in state["line"] and udp(ready) == 0
    assert not [url for url in asked if url.endswith("/webrtc")]
