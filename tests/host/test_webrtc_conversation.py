"""Conversations that a page sees by WebRTC: with a fake microphone, two at once, and what a closed tab leaves."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from playwright.sync_api import Page

from tools.caller import Caller
from tools.host import Host
from tools.scripted_services import Script, running_services, tone

from .browser import drop_workflow, screenshot
from .client import Host as OtherHost
from .media import make_inputs
from .models import install_tiny_models
from .test_conversation import script, talk, url  # noqa: F401
from .test_conversation_page import PANEL, hearing, lines, state
from .test_live_player import WRITER, open_page, press_run
from .test_spoken_conversation import SHOW_CONVERSATION
from .test_webrtc_page import STATE, _nothing_runs_on, udp  # noqa: F401
from .workflows import Api, change, only

T = TypeVar("T")
HZ = {"first": 220, "second": 660}
"""How the avatars sound."""
KEEP_PEERS = """
    window.peers = [];
    window.RTCPeerConnection = class extends window.RTCPeerConnection {
        constructor(...options) {
            super(...options);
            window.peers.push(this);
        }
    };
"""
CONNECTION = """
async () => {
    const peer = window.peers.at(-1);
    if (!peer) return null;
    const found = { peers: window.peers.length, state: peer.connectionState, pictures: 0, energy: 0 };
    for (const report of (await peer.getStats()).values()) {
        if (report.type !== "inbound-rtp") continue;
        if (report.kind === "video") found.pictures = report.framesDecoded;
        else found.energy = report.totalAudioEnergy;
    }
    return found;
}
"""
# Remembers the loudest frequency of what comes by WebRTC, ten times a second while there is sound.
HEAR = """
() => {
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, { fftSize: 8192, smoothingTimeConstant: 0 });
    const levels = new Float32Array(analyser.frequencyBinCount);
    let stream = null;
    window.pitches = [];
    setInterval(() => {
        const video = document.querySelector(".liveavatar-player video");
        if (video?.srcObject && video.srcObject !== stream) {
            stream = video.srcObject;
            context.createMediaStreamSource(stream).connect(analyser);
        }
        analyser.getFloatFrequencyData(levels);
        const loudest = levels.indexOf(Math.max(...levels));
        if (levels[loudest] > -45) window.pitches.push((loudest * context.sampleRate) / analyser.fftSize);
    }, 100);
}
"""
SHOW_BOTH = f"""
() => {{
    const {{ graph, canvas }} = window.app;
    const find = (name) => graph.nodes.find(({{ type }}) => type === name);
    const [talk, writer] = [find("AvatarConversation"), find("{WRITER}")];
    const [left, top] = writer.pos;
    talk.pos = [left - talk.size[0] - 40, top];
    canvas.ds.scale = 1;
    canvas.ds.offset = [60 - talk.pos[0], 120 - top];
    canvas.setDirty(true, true);
}}
"""


def until(page: Page, condition: Callable[[], T], seconds: float = 120) -> T:
    """The first true value of a condition."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        page.wait_for_timeout(100)
    screenshot(page, "webrtc-conversation-timeout")
    told = page.evaluate(STATE), page.evaluate(CONNECTION), lines(page)
    raise AssertionError(f"This has not happened in time: {told}")


def start(page: Page, url: str, workflow: Api, tmp_path: Path) -> None:  # noqa: F811
    """Run a conversation from a page, and wait until it listens and the page is connected by WebRTC."""
    page.add_init_script(KEEP_PEERS)
    open_page(page, url)
    file = tmp_path / "conversation.json"
    file.write_text(json.dumps(workflow))
    drop_workflow(page, file)
    press_run(page)
    page.evaluate(SHOW_CONVERSATION)
    page.evaluate(HEAR)
    until(page, lambda: page.locator(PANEL).count() and state(page) == "Listening", 180)
    until(page, lambda: (page.evaluate(CONNECTION) or {}).get("state") == "connected")
    until(page, lambda: (page.evaluate(STATE) or {}).get("direct") and page.evaluate(STATE)["time"] > 0.2)


def held(host: Host) -> dict[str, int]:
    """What the host holds for its pages."""
    return {**host.get("/player_probe/webrtc"), "udp": udp(host)}


@pytest.fixture
def direct(talk: Api) -> Api:  # noqa: F811
    """A conversation that is shown by WebRTC."""
    change(talk, "AvatarConversation", player="WebRTC", max_seconds=600.0, barge_in=False)
    return talk


@pytest.fixture
def other_host(tmp_path: Path) -> Iterator[OtherHost]:
    """Another ComfyUI, with the tiny models: one holds one conversation at a time."""
    with OtherHost(tmp_path / "other") as running:
        install_tiny_models(running.models_dir)
        make_inputs(running.input_dir)
        yield running


def test_a_page_with_a_microphone_is_answered_by_webrtc(ready, direct, script, browser, tmp_path):  # noqa: F811
    script.answers, script.answer = {}, "This is an answer of many words. " * 4
    with hearing(browser, tmp_path, seconds=1.0, every=15.0) as browser:
        page = browser._browser.new_context(
            viewport={"width": 1600, "height": 1000}, bypass_csp=True
        ).new_page()
        start(page, ready.url, direct, tmp_path)
        before = page.evaluate(CONNECTION)
        page.get_by_role("button", name="Microphone").click()
        until(page, lambda: [kind for kind, _ in lines(page)][:2] == ["you", "avatar"])
        until(page, lambda: state(page) == "Speaking")
        until(page, lambda: len(page.evaluate("() => window.pitches")) > 10)
        page.evaluate(SHOW_BOTH)
        page.wait_for_timeout(700)
        screenshot(page, "webrtc-conversation")
        after = page.evaluate(CONNECTION)
        assert (before["peers"], after["peers"], after["state"]) == (1, 1, "connected")
        assert after["pictures"] > before["pictures"] + 10 and after["energy"] > before["energy"] + 0.001
        pitches = sorted(page.evaluate("() => window.pitches"))
        assert pitches[len(pitches) // 2] == pytest.approx(HZ["first"], abs=12)
        assert held(ready)["microphones"] == 1
        assert "WebRTC" not in page.evaluate(STATE)["line"]
        until(page, lambda: page.locator(f"{PANEL} .avatar").first.get_attribute("title"))
        assert "lips" in page.locator(f"{PANEL} .avatar").first.get_attribute("title")
        page.get_by_role("button", name="End", exact=True).click()
        until(page, lambda: state(page) == "Ended")
        until(page, lambda: "/view?" in page.evaluate(STATE)["source"])
        assert held(ready) == {"pages": 0, "viewers": 0, "encoding": 0, "microphones": 0, "udp": 0}


def test_two_conversations_at_once_keep_apart(ready, direct, script, other_host, browser, tmp_path):  # noqa: F811
    """In two tabs of one browser; the first has the microphone, in the second somebody types."""
    other = Script(answers={}, answer="Somebody else says this. " * 4)
    other.speak = lambda text: tone(text, HZ["second"])
    script.answers, script.answer = {}, "Only the first one says this. " * 4
    workflow = json.loads(json.dumps(direct))
    change(workflow, "LiveAvatarReferenceImage", width=128)
    with running_services(other) as services, hearing(browser, tmp_path, seconds=1.0, every=15.0) as browser:
        for service in ("AvatarLanguageModel", "AvatarVoice", "AvatarEars"):
            change(workflow, service, url=services)
        context = browser._browser.new_context(viewport={"width": 1600, "height": 1000}, bypass_csp=True)
        one, two = context.new_page(), context.new_page()
        start(one, ready.url, direct, tmp_path)
        start(two, other_host.url, workflow, tmp_path)
        assert udp(ready) and udp(other_host)
        one.get_by_role("button", name="Microphone").click()
        box = two.get_by_role("textbox", name="Message")
        box.fill("And what do you say?")
        box.press("Enter")
        for page in (one, two):
            until(page, lambda page=page: len(page.evaluate("() => window.pitches")) > 10)
            until(page, lambda page=page: state(page) == "Listening")
        said = {"one": lines(one), "two": lines(two)}
        assert {text for kind, text in said["one"] if kind == "you"} == {"Hello."}  # every 15 seconds
        assert [text for kind, text in said["two"] if kind == "you"] == ["And what do you say?"]
        assert {kind for kind, _ in said["one"] + said["two"]} == {"you", "avatar"}
        assert "Somebody else" not in str(said["one"]) and "Only the first" not in str(said["two"])
        for page, pitch, size in ((one, HZ["first"], [64, 64]), (two, HZ["second"], [128, 64])):
            heard = page.evaluate("() => window.pitches")
            assert sum(abs(found - pitch) > 12 for found in heard) <= len(heard) / 10, heard
            assert page.evaluate(STATE)["size"] == size and page.evaluate(CONNECTION)["state"] == "connected"
        # Who leaves takes nothing along.
        one.close()
        until(two, lambda: udp(ready) == 0)
        pictures = two.evaluate(CONNECTION)["pictures"]
        until(two, lambda: two.evaluate(CONNECTION)["pictures"] > pictures + 25)
        other_host.interrupt()


def test_a_closed_tab_ends_its_connection_and_frees_what_it_held(ready, direct, script, browser, tmp_path):  # noqa: F811
    id_ = direct[only(direct, "AvatarConversation")]["inputs"]["id"]
    nothing = {"pages": 0, "viewers": 0, "encoding": 0, "microphones": 0, "udp": 0}
    assert held(ready) == nothing
    with hearing(browser, tmp_path, seconds=1.0, every=2.0) as browser:
        context = browser._browser.new_context(viewport={"width": 1600, "height": 1000}, bypass_csp=True)
        page = context.new_page()
        start(page, ready.url, direct, tmp_path)
        page.get_by_role("button", name="Microphone").click()
        until(page, lambda: held(ready)["microphones"] == 1)
        during = held(ready)
        assert during == {"pages": 1, "viewers": 1, "encoding": 1, "microphones": 1, "udp": during["udp"]}
        assert during["udp"] > 0
        page.close()
        left = time.monotonic()
        while held(ready) != nothing:
            assert time.monotonic() < left + 10, held(ready)
            time.sleep(0.05)
        print(f"free {time.monotonic() - left:.2f} s after the tab was closed")
        assert ready.get("/queue")["queue_running"]  # the conversation goes on

    async def converse() -> list[dict]:
        async with Caller(ready.url, id_) as caller:
            await caller.until(lambda: {"type": "state", "state": "listening"} in caller.told)
            before = len(caller.of("heard"))
            await caller.hum(0.8)
            await caller.hum(0.8, 0)
            await caller.until(lambda: [said for said in caller.of("heard")[before:] if said["final"]])
            await caller.send(type="end")
            await caller.until(lambda: caller.of("end"))
            return caller.of("heard")[before:]

    with ThreadPoolExecutor(1) as apart:  # playwright's loop runs in this thread
        heard = apart.submit(asyncio.run, converse()).result()
    assert heard[-1]["text"] == script.transcripts[0][1]
