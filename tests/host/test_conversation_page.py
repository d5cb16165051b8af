"""What a page shows and does while a conversation runs. The conversation is scripted here: what it says to pages, and
what it is told by them, is in ``serving/talk.py``."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from playwright.sync_api import Page, WebSocketRoute

from benchmarks.player import BLOCK, FPS, Run, workflow
from tools.host import Host

from .browser import FLAGS, Browser, drop_workflow, screenshot, wait_ready
from .media import write_wav
from .test_live_player import PLAYER, WRITER, open_page, press_run, watch

LIVE = Run(True, BLOCK / FPS, 0.0, 120)
ID = "a-conversation-of-tests"
RATE = 24_000
PANEL = ".liveavatar-talk"
WIDGETS = {
    "NumberedStream": ["live", "period", "jitter", "blocks", "block_frames", "width", "height", "seed"],
    "AvatarStreamToVideo": ["filename_prefix", "save_output", "crf", "resume", "snapshot_gb"],
    "AvatarConversation": [],
}
SHOW = """
() => {
    const [left, top] = window.app.graph.getNodeById(2).pos;
    window.app.canvas.ds.scale = 1;
    window.app.canvas.ds.offset = [100 - left, 150 - top];
    window.app.canvas.setDirty(true, true);
}
"""
BEGIN = """
(place) => {
    const { graph, api } = window.app;
    api.dispatchCustomEvent("liveavatar.talk", { node: "3", workflow: graph.id, ...place });
}
"""
RUN = """
() => {
    window.prompt = null;
    window.app.api.addEventListener("execution_start", ({ detail }) => (window.prompt = detail.prompt_id));
}
"""
# A context of another rate takes no microphone there.
AS_IN_FIREFOX = """
() => {
    window.rates = [];
    window.AudioContext = class extends window.AudioContext {
        constructor(options = { sampleRate: 44100 }) {
            super(options);
            window.rates.push(this.sampleRate);
        }
        createMediaStreamSource(stream) {
            if (this.sampleRate !== 44100) throw new DOMException("", "NotSupportedError");
            return super.createMediaStreamSource(stream);
        }
    };
}
"""
VOLUMES = """
() => {
    const video = document.querySelector(".liveavatar-player video");
    window.volumes = [];
    video.addEventListener("volumechange", () => window.volumes.push(video.volume));
}
"""
VOLUME = "() => document.querySelector('.liveavatar-player video').volume"


class Script:
    """The server's side of the conversation."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.told: list[dict[str, Any]] = []
        self.pieces: list[bytes] = []
        self.connections: list[WebSocketRoute] = []
        self.history: list[dict[str, Any]] = [{"type": "state", "state": "listening"}]
        page.route_web_socket(lambda url: f"/liveavatar/talk/{ID}" in url, self._connect)

    def _connect(self, socket: WebSocketRoute) -> None:
        self.connections.append(socket)
        socket.on_message(self._take)
        for message in self.history:
            socket.send(json.dumps(message))

    def _take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.pieces.append(message)
        else:
            self.told.append(json.loads(message))

    def say(self, type_: str, **values: Any) -> None:
        self.connections[-1].send(json.dumps({"type": type_, **values}))

    def until(self, condition: Callable[[], object], seconds: float = 20) -> object:
        """The first true value of a condition."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := condition():
                return found
            self.page.wait_for_timeout(20)
        screenshot(self.page, "conversation-timeout")
        raise AssertionError(
            f"This has not happened in time. Told: {self.told[-5:]}, {len(self.pieces)} pieces."
        )

    def messages(self, type_: str) -> list[dict[str, Any]]:
        return [message for message in self.told if message["type"] == type_]

    def sound(self) -> np.ndarray:
        """What the microphone has sent, [samples]."""
        return np.frombuffer(b"".join(self.pieces), "<i2") / 32768


@contextmanager
def visited(browser: Browser, policy: bool = False) -> Iterator[Page]:
    """A page in a context of its own; ``policy`` keeps the host's content policy."""
    context = browser._browser.new_context(viewport={"width": 1600, "height": 1000}, bypass_csp=not policy)
    try:
        yield open_page(context.new_page(), browser.url)
    finally:
        context.close()


def graph() -> dict[str, Any]:
    """A live stream and its player, and a node for the conversation, as a workflow of the page."""
    prompt = workflow("talk", LIVE, (256, 144))
    link = {"name": "stream", "type": "AVATAR_STREAM"}
    ends = [{"outputs": [{**link, "links": [1]}]}, {"inputs": [{**link, "link": 1}]}, {}]
    nodes = []
    for number, (type_, names) in enumerate(WIDGETS.items(), start=1):
        values = prompt[str(number)]["inputs"] if str(number) in prompt else {}
        node = {"id": number, "type": type_, "pos": [460 * (number - 1), 0], "size": [400, 300]}
        node |= {"flags": {}, "order": number, "mode": 0, "properties": {}}
        nodes.append(node | ends[number - 1] | {"widgets_values": [values[name] for name in names]})
    links = [[1, 1, 0, 2, 0, link["type"]]]
    return {
        "id": str(uuid4()),
        "version": 0.4,
        "last_node_id": 3,
        "last_link_id": 1,
        "nodes": nodes,
        "links": links,
    }


def begin(page: Page, script: Script, tmp_path: Path, **place: Any) -> None:
    """Run a stream, and tell the page of a conversation in the same run."""
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(graph()))
    page.wait_for_timeout(1000)  # Nodes 2.0 arranges the graph that the page begins with
    drop_workflow(page, file)
    page.evaluate(RUN)
    press_run(page)
    page.wait_for_function("() => window.prompt")
    prompt = page.evaluate("() => window.prompt")
    page.evaluate(BEGIN, {"id": ID, "prompt": prompt, "hears": True, "push_to_talk": False, **place})
    script.until(lambda: script.connections)
    page.evaluate(SHOW)
    page.locator(PANEL).wait_for()


@pytest.fixture(autouse=True)
def _nothing_runs_on(ready: Host) -> Iterator[None]:
    yield
    ready.interrupt()


def lines(page: Page) -> list[tuple[str, str]]:
    return page.evaluate(
        f"() => [...document.querySelectorAll('{PANEL} p')].map((p) => [p.className, p.textContent])"
    )


def state(page: Page) -> str:
    return page.locator(f"{PANEL} .word").inner_text()


@contextmanager
def hearing(
    browser: Browser, tmp_path: Path, seconds: float = 12.0, every: float = 12.0
) -> Iterator[Browser]:
    """A browser whose microphone hears somebody hum at 440 Hz, for the first of every so many seconds."""
    times = np.arange(round(48_000 * every)) / 48_000
    hum = 0.4 * np.sin(2 * np.pi * 440 * times) * (times < seconds)
    write_wav(tmp_path / "hum.wav", hum[:, None], 48_000)
    file = f"--use-file-for-fake-audio-capture={tmp_path / 'hum.wav'}"
    launched = browser._playwright.chromium.launch(executable_path=str(browser._program), args=[*FLAGS, file])
    try:
        other = copy.copy(browser)
        other._browser = launched
        yield other
    finally:
        launched.close()


def pitch(sound: np.ndarray) -> float:
    """The loudest frequency of samples at RATE, in Hz."""
    return np.abs(np.fft.rfft(sound * np.hanning(len(sound)))).argmax() * RATE / len(sound)


def test_a_question_is_asked_answered_interrupted_and_asked_again(site, tmp_path):
    with hearing(site.browser, tmp_path) as browser, visited(browser) as page:
        script = Script(page)
        begin(page, script, tmp_path)
        script.until(lambda: state(page) == "Listening")
        script.say("timings", turn=0, lips=1.0)  # of an answer that is not there any more
        watch(page, lambda shown: shown["time"] > 1)
        # Asked.
        page.get_by_role("button", name="Microphone").click()
        script.until(lambda: len(script.pieces) > 60)
        assert {len(piece) for piece in script.pieces} == {960}
        script.until(lambda: page.locator(f"{PANEL} meter").evaluate("(meter) => meter.value") > 0.5)
        script.say("heard", text="What is", final=False)
        script.say("heard", text="What is <b>this</b>?", final=True)
        script.say("state", state="thinking")
        script.until(lambda: state(page) == "Thinking…")
        # Answered.
        script.say("state", state="speaking")
        script.say("said", text="This is a test.", turn=1)
        script.say("said", text="It is a long one.", turn=1)
        script.until(lambda: state(page) == "Speaking")
        assert lines(page) == [
            ["you", "What is <b>this</b>?"],
            ["avatar", "This is a test. It is a long one."],
        ]
        script.say("timings", turn=1, ears=0.1, mind=None, lips=1.234)
        script.until(
            lambda: page.locator(f"{PANEL} .avatar").get_attribute("title") == "ears 0.10 s, lips 1.23 s"
        )
        script.until(lambda: len(script.messages("played")) > 3)
        shown = [message["seconds"] for message in script.messages("played")]
        assert shown == sorted(shown) and abs(shown[-1] - page.evaluate(PLAYER)["time"]) < 1
        screenshot(page, f"conversation-{'nodes2' if site.nodes_2 else 'canvas'}")
        # Interrupted.
        script.say("duck", on=True)
        script.until(lambda: page.evaluate(VOLUME) == 0)
        script.say("duck", on=False)
        script.until(lambda: page.evaluate(VOLUME) == 1)
        now = page.evaluate(PLAYER)["time"]
        script.say("interrupted", seconds=now, until=now + 60)
        script.say("void", until=now + 1.5)
        script.until(lambda: page.evaluate(VOLUME) == 0)
        script.say("state", state="listening")
        script.until(lambda: page.evaluate(VOLUME) == 1)
        assert page.evaluate(PLAYER)["time"] >= now + 1.5
        # Asked again, in writing.
        box = page.get_by_role("textbox", name="Message")
        box.fill("And now?")
        box.press("Enter")
        script.until(lambda: script.messages("text") == [{"type": "text", "text": "And now?"}])
        assert box.input_value() == ""
        script.say("heard", text="And now?", final=True)
        script.say("said", text="Now it goes on.", turn=2)
        script.until(lambda: lines(page)[-1] == ["avatar", "Now it goes on."])
        assert "cut" in lines(page)[1][0]
        assert pitch(script.sound()[-RATE:]) == pytest.approx(440, abs=3)
        script.say("end")
        script.until(lambda: state(page) == "Ended")
        assert not page.get_by_role("button", name="Microphone").is_enabled()
        assert [line for _, line in lines(page)][-1] == "Now it goes on."


def test_the_page_is_mute_before_the_server_says_that_somebody_speaks_and_not_for_long(
    ready, browser, tmp_path
):
    with hearing(browser, tmp_path, 0.5, every=2.5) as browser, visited(browser) as page:
        script = Script(page)
        begin(page, script, tmp_path, barge_in=True)
        watch(page, lambda shown: shown["time"] > 1)
        page.get_by_role("button", name="Microphone").click()
        script.until(lambda: np.abs(script.sound()).max(initial=0) > 0.2)
        page.evaluate(VOLUMES)
        page.wait_for_timeout(3000)
        assert page.evaluate("() => window.volumes") == []  # nobody is interrupted
        script.say("state", state="speaking")
        script.until(lambda: page.evaluate("() => window.volumes") == [0])
        script.until(lambda: page.evaluate("() => window.volumes") == [0, 1])  # the server has said nothing
        page.wait_for_timeout(2500)
        assert page.evaluate("() => window.volumes") == [0, 1]  # as loud as what was no speech
        page.wait_for_timeout(10_000)  # that is forgotten
        script.until(lambda: page.evaluate(VOLUME) == 0)
        script.say("duck", on=True)
        page.wait_for_timeout(600)
        assert page.evaluate(VOLUME) == 0
        script.say("duck", on=False)
        script.until(lambda: page.evaluate(VOLUME) == 1)


def test_push_to_talk_sends_sound_while_a_key_or_the_button_is_held(ready, browser, tmp_path):
    """Also where the host's content policy allows scripts of its own only."""
    with hearing(browser, tmp_path) as browser, visited(browser, policy=True) as page:
        script = Script(page)
        script.history = [{"type": "state", "state": "waiting"}]
        begin(page, script, tmp_path, push_to_talk=True)
        script.until(lambda: state(page) == "Hold to talk")
        page.get_by_role("log").focus()
        page.keyboard.down(" ")
        script.until(lambda: len(script.pieces) > 20)
        page.keyboard.up(" ")
        script.until(lambda: len(script.messages("talk")) == 2)
        assert [message["held"] for message in script.messages("talk")] == [True, False]
        page.wait_for_timeout(200)
        sent = len(script.pieces)
        page.wait_for_timeout(500)
        assert len(script.pieces) == sent
        button = page.get_by_role("button", name="Hold to talk")
        button.hover()
        page.mouse.down()
        script.until(lambda: len(script.pieces) > sent + 20)
        page.mouse.up()
        script.until(lambda: len(script.messages("talk")) == 4)
        assert pitch(script.sound()[-RATE // 4 :]) == pytest.approx(440, abs=8)
        # Nothing of it has reached the page's own keys.
        assert page.evaluate("() => window.app.graph.nodes.length") == 3
        page.get_by_role("log").focus()
        page.keyboard.down(" ")
        script.until(lambda: len(script.messages("talk")) == 5)
        script.say("end")
        script.until(lambda: state(page) == "Ended")
        pressed = (
            f"() => [...document.querySelectorAll('{PANEL} [aria-pressed=true]')].map((e) => e.textContent)"
        )
        assert page.evaluate(pressed) == []
        page.keyboard.up(" ")
        page.keyboard.down(" ")  # the transcript has the focus still
        assert page.evaluate(pressed) == []


def test_where_the_browser_does_not_convert_the_microphone_the_page_does(ready, browser, tmp_path):
    with hearing(browser, tmp_path) as browser, visited(browser) as page:
        page.evaluate(AS_IN_FIREFOX)
        script = Script(page)
        begin(page, script, tmp_path)
        page.get_by_role("button", name="Microphone").click()
        script.until(lambda: len(script.pieces) > 75)
        assert page.evaluate("() => window.rates") == [24_000, 44_100]
        assert pitch(script.sound()[-RATE:]) == pytest.approx(440, abs=3)


def test_a_reloaded_page_joins_again_and_of_two_tabs_one_speaks(ready, browser, tmp_path):
    with visited(browser) as page:
        script = Script(page)
        begin(page, script, tmp_path)
        script.say("heard", text="Hello?", final=True)
        script.history = [{"type": "heard", "text": "Hello?", "final": True}, *script.history]
        page.wait_for_timeout(1500)  # until the page has kept the workflow
        page.reload()
        wait_ready(page, WRITER)
        script.until(lambda: len(script.connections) == 2)
        page.locator(PANEL).wait_for()
        assert lines(page) == [["you", "Hello?"]]
        other = page.context.new_page()
        second = Script(other)
        open_page(other, browser.url)
        drop_workflow(other, tmp_path / "talk.json")
        second.until(lambda: second.connections)
        other.evaluate(SHOW)
        for tab in (page, other):
            tab.get_by_role("button", name="Microphone").click()
        second.until(
            lambda: ["note", "Turn off the microphone in the other tab to speak here."] in lines(other)
        )
        script.until(lambda: script.pieces)
        assert not second.pieces
        page.close()
        other.get_by_role("button", name="Microphone").click()
        second.until(lambda: second.pieces)
