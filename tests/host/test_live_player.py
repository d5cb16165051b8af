"""The live player: a video that is watched on its node while it is made."""

from __future__ import annotations

import io
import json
import time
import urllib.error
import urllib.request
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from pathlib import Path
from typing import TypeVar

import av
import pytest
from playwright.sync_api import Page

from tools.connection import HTTP
from tools.host import Host
from tools.host_events import HostEvents

from .browser import Browser, drop_workflow, screenshot, wait_ready
from .media import read_video, tone, write_wav
from .workflows import Api, change, only, small

T = TypeVar("T")
WHOLE, LONG = 20, 120  # seconds: of a run that is watched to its end, and of one that is stopped
WRITER = "AvatarStreamToVideo"

WATCH_END = """
() => {
    window.ended = null;
    for (const kind of ["execution_success", "execution_error", "execution_interrupted"])
        window.app.api.addEventListener(kind, () => (window.ended ??= kind), { once: true });
}
"""
PLAYER = """
() => {
    const player = document.querySelector(".liveavatar-player");
    const video = player?.querySelector("video");
    if (!video?.currentSrc) return null;
    const shown = (selector) => { const found = player.querySelector(selector); return !found.hidden; };
    return {
        time: video.currentTime,
        buffered: video.buffered.length ? video.buffered.end(video.buffered.length - 1) : 0,
        source: video.currentSrc,
        muted: video.muted,
        sounds: video.webkitAudioDecodedByteCount > 0,
        rate: video.playbackRate,
        paused: video.paused,
        line: player.querySelector(".progress").textContent,
        figures: player.querySelector(".figures").textContent,
        stop: shown("button"),
        unmute: shown("button + button"),
        link: shown("a") ? player.querySelector("a").href : null,
        players: document.querySelectorAll(".liveavatar-player").length,
        size: [video.videoWidth, video.videoHeight],
        ended: window.ended,
    };
}
"""


# A browser that lets nothing but silent videos start. Chromium's own rule cannot be tested: to it, what playwright
# evaluates in the page is a click.
ONLY_SILENT = """
    const play = HTMLMediaElement.prototype.play;
    HTMLMediaElement.prototype.play = function () {
        if (this.muted) return play.call(this);
        return Promise.reject(new DOMException("Nobody has clicked on this page yet.", "NotAllowedError"));
    };
"""
SHOW_WRITER = f"""
() => {{
    const {{ graph, canvas }} = window.app;
    canvas.centerOnNode(graph.nodes.find(({{ type }}) => type === "{WRITER}"));
    canvas.setDirty(true, true);
}}
"""


@pytest.fixture
def talk(ready: Host, request: pytest.FixtureRequest) -> Iterator[Api]:
    """A run that takes long enough to be watched, with a file name of its own; ended with the test."""
    write_wav(ready.input_dir / "long.wav", tone(LONG, 16_000, 1), 16_000)
    workflow = small(seconds=LONG)
    change(workflow, "LoadAudio", audio="long.wav")
    change(workflow, WRITER, filename_prefix=f"live/{request.node.name}")
    yield workflow
    ready.interrupt()
    deadline = time.monotonic() + 60
    while ready.get("/queue")["queue_running"] and time.monotonic() < deadline:
        time.sleep(0.1)


@contextmanager
def opened(browser: Browser, *, media_source: bool = True) -> Iterator[Page]:
    """A fresh page. ``media_source`` lifts the security policy that ComfyUI has with --disable-api-nodes, which the
    test host runs with and which forbids Media Source."""
    context = browser._browser.new_context(viewport={"width": 1600, "height": 1000}, bypass_csp=media_source)
    try:
        yield open_page(context.new_page(), browser.url)
    finally:
        context.close()


def open_page(page: Page, url: str) -> Page:
    page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
    page.on("console", lambda line: print("page:", line.type, line.text[:300]))
    page.on("pageerror", lambda error: print("page:", error.stack))
    page.goto(url)
    wait_ready(page, WRITER)
    return page


def drop(page: Page, workflow: Api, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    file.write_text(json.dumps(workflow))
    drop_workflow(page, file)
    page.evaluate(WATCH_END)


def press_run(page: Page) -> None:
    page.locator('[data-testid="queue-button"]').first.click()


def look(page: Page, name: str) -> None:
    """Take a picture of the player's node."""
    page.evaluate(SHOW_WRITER)
    page.wait_for_timeout(700)
    screenshot(page, name)


def watch(page: Page, until: Callable[[dict], bool], seconds: float = 180) -> dict:
    """What the player shows as soon as ``until`` holds for it."""
    deadline = time.monotonic() + seconds
    state = None
    while time.monotonic() < deadline:
        state = page.evaluate(PLAYER)
        if state and until(state):
            return state
        page.wait_for_timeout(100)
    screenshot(page, "live-timeout")
    raise AssertionError(f"The player did not get there: {state}")


def saved(host: Host, name: str) -> Path:
    (path,) = (host.output_dir / "live").glob(f"{name}*.mp4")
    return path


def submit(host: Host, workflow: Api, events: HostEvents, graph: str) -> str:
    """Queue a workflow as the page does, which names the graph it comes from."""
    body = {
        "prompt": workflow,
        "client_id": events.client_id,
        "extra_data": {"extra_pnginfo": {"workflow": {"id": graph}}},
    }
    return host.post("/prompt", body)["prompt_id"]


def announced(host: Host, events: HostEvents, frames: int = 1) -> dict:
    """The first message about a stream that has this many frames."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for kind, data in list(events.messages):
            if kind == "liveavatar.stream" and data["frames"] >= frames:
                return data
        time.sleep(0.05)
    raise AssertionError(f"No stream was announced:\n{host.log()[-2000:]}")


def until(ask: Callable[[], T], refusals: set[int], seconds: float = 30) -> T:
    """The first answer that is not one of these refusals."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except urllib.error.HTTPError as error:
            if error.code not in refusals or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def fetch(host: Host, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    try:
        with HTTP.open(urllib.request.Request(host.url + path, headers=headers), timeout=120) as answer:
            return answer.status, dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), error.read()


def test_the_video_plays_with_sound_before_the_run_has_finished(ready, browser, talk, tmp_path, request):
    change(talk, "LiveAvatarSampler", max_seconds=float(WHOLE))
    with opened(browser) as page:
        drop(page, talk, tmp_path)
        page.evaluate(SHOW_WRITER)
        press_run(page)
        first = watch(page, lambda state: state["time"] > 0.2)
        later = watch(page, lambda state: state["time"] > first["time"] + 1)
        look(page, "live-running")
        assert later["ended"] is None
        assert later["buffered"] > first["buffered"]
        assert later["source"].startswith("blob:")
        assert later["sounds"] and not later["muted"] and not later["unmute"]
        assert later["stop"] and later["link"] is None
        for figure in ("fps", "real time", "first frame", "buffer"):
            assert figure in later["figures"]
        assert f" s of {WHOLE:.1f} s, " in later["line"] and " s to go" in later["line"]
        done = watch(page, lambda state: state["ended"] and "finished" in state["line"], 120)
        assert done["ended"] == "execution_success"
        assert done["source"] == later["source"]  # goes on where it is
        page.evaluate("() => document.querySelector('.liveavatar-player video').playbackRate = 8")
        whole = watch(page, lambda state: not state["source"].startswith("blob:"))
        look(page, "live-finished")
        assert whole["link"] == whole["source"] and "/view?" in whole["link"]
        assert whole["players"] == 1 and not whole["stop"]
    assert len(read_video(saved(ready, request.node.name)).frames) == WHOLE * 25


def test_it_goes_on_after_a_reload_and_on_a_second_page_until_it_is_stopped(
    ready, browser, talk, tmp_path, request
):
    with opened(browser) as page:
        drop(page, talk, tmp_path)
        press_run(page)
        watch(page, lambda state: state["time"] > 0.5)
        graph = page.evaluate("() => JSON.stringify(window.app.graph.serialize())")
        assert set(json.loads(graph)["id"]) != {"0", "-"}  # which would be shared with other people's graphs
        page.wait_for_timeout(1500)  # for the page, which saves its workflow now and then
        page.reload()
        wait_ready(page, WRITER)
        page.evaluate(WATCH_END)
        again = watch(page, lambda state: state["time"] > 0.5)
        later = watch(
            page,
            lambda state: state["time"] > again["time"] + 1 and state["buffered"] > again["buffered"],
        )
        look(page, "live-reloaded")
        assert later["ended"] is None and later["stop"]

        other = page.context.new_page()
        other.add_init_script(ONLY_SILENT)
        open_page(other, ready.url)
        other.evaluate("(graph) => window.app.loadGraphData(JSON.parse(graph))", graph)
        second = watch(other, lambda state: state["time"] > 0.5)
        assert second["stop"] and second["players"] == 1
        assert second["muted"] and second["unmute"]
        look(other, "live-muted")
        other.get_by_role("button", name="Sound on").click()
        watch(other, lambda state: not state["muted"] and not state["unmute"])
        other.evaluate("() => window.app.graph.clear()")
        assert other.evaluate(PLAYER) is None

        page.bring_to_front()
        page.get_by_role("button", name="Stop", exact=True).click()
        stopped = watch(page, lambda state: "stopped" in state["line"])
        look(page, "live-stopped")
        assert not stopped["stop"] and "/view?" in stopped["link"]
        watch(page, lambda state: state["ended"] == "execution_interrupted")
        kept = read_video(saved(ready, request.node.name))
        assert f"{len(kept.frames) / 25:.1f} s of {LONG:.1f} s, stopped" == stopped["line"]
        assert kept.audio_seconds == pytest.approx(len(kept.frames) / 25, abs=0.1)

        press_run(page)
        watch(
            page,
            lambda state: state["source"] != stopped["source"] and 0 < state["time"] < 5 and state["stop"],
        )


def test_readers_are_sent_what_comes(ready, talk):
    with HostEvents(ready) as events, HostEvents(ready) as other:
        submit(ready, talk, events, "graph-of-readers")
        address = f"/liveavatar/stream/{announced(ready, events)['id']}"
        fetch(ready, f"{address}?now&from=0&client={other.client_id}")
        fetch(ready, f"{address}?now&from=0&client=nobody")
        last = announced(ready, other, announced(ready, events, 24)["frames"])
        sent = [data for kind, data in other.messages if kind == "liveavatar.fragment"]
        assert not [kind for kind, _ in events.messages if kind == "liveavatar.fragment"]
        for piece in sent:
            data = b64decode(piece["bytes"])
            until_end = f"bytes={piece['from']}-{piece['from'] + len(data) - 1}"
            assert data[4:8] == b"moof" and data == fetch(ready, address, Range=until_end)[2]
        assert sent and sent[-1]["from"] < last["size"]


def test_who_comes_late_goes_on_near_the_end(ready, browser, talk, tmp_path):
    change(talk, "LiveAvatarSampler", steps=1)
    with opened(browser) as page:
        drop(page, talk, tmp_path)
        press_run(page)
        watch(page, lambda state: state["buffered"] > 32)
        page.wait_for_timeout(1500)
        page.reload()
        wait_ready(page, WRITER)
        again = watch(page, lambda state: state["time"] > 0)
        assert again["time"] > 20 and again["stop"]
        later = watch(page, lambda state: state["time"] > again["time"] + 1)
        assert later["buffered"] >= again["buffered"]  # a fast machine has finished meanwhile


def test_without_media_source_the_browser_plays_the_growing_file(ready, browser, talk, tmp_path):
    with opened(browser, media_source=False) as page:
        drop(page, talk, tmp_path)
        press_run(page)
        first = watch(page, lambda state: state["time"] > 0.2)
        later = watch(
            page,
            lambda state: state["time"] > first["time"] + 1 and state["buffered"] > first["buffered"],
        )
        look(page, "live-plain")
        assert "/liveavatar/stream/" in later["source"]
        assert later["ended"] is None and later["sounds"]


def test_the_bytes_of_a_stream_are_a_fragmented_mp4_that_ends_with_the_run(ready, talk):
    change(talk, "LiveAvatarSampler", max_seconds=6.0)
    with HostEvents(ready) as events:
        prompt = submit(ready, talk, events, "graph-of-this-test")
        status = announced(ready, events)
        code, headers, body = fetch(ready, f"/liveavatar/stream/{status['id']}")
        ready.wait(prompt)
        last = announced(ready, events, 150)
    assert code == 200
    assert headers["Content-Type"] == status["mime_type"]
    assert status["mime_type"].startswith('video/mp4; codecs="avc1.')
    assert len(body) == last["size"] and body.count(b"moof") == -(-150 // 12)
    with av.open(io.BytesIO(body)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 150
    assert (last["node"], last["prompt"]) == (only(talk, WRITER), prompt)


def test_parts_of_a_running_stream_can_be_asked_for(ready, talk):
    with HostEvents(ready) as events:
        submit(ready, talk, events, "graph-of-parts")
        status = announced(ready, events, 24)
        address = f"/liveavatar/stream/{status['id']}"
        code, headers, header = fetch(ready, address, Range=f"bytes=0-{status['header_size'] - 1}")
        assert (code, headers["Content-Range"]) == (206, f"bytes 0-{len(header) - 1}/*")
        assert header[4:8] == b"ftyp" and len(header) == status["header_size"]
        code, _, body = fetch(
            ready, address, Range=f"bytes={status['header_size']}-{status['header_size'] + 7}"
        )
        assert (code, body[4:]) == (206, b"moof")
        assert fetch(ready, address, Range="bytes=99999999-")[0] == 416
        assert fetch(ready, address, Range="lines=1-2")[0] == 416
        assert fetch(ready, f"{address}?from=-1")[0] == 400
        assert [known["id"] for known in ready.get("/liveavatar/streams?workflow=graph-of-parts")] == [
            status["id"]
        ]
        assert ready.get(f"{address}/status")["state"] == "running"
        ready.interrupt()
        while ready.get(f"{address}/status")["state"] == "running":
            time.sleep(0.1)
    assert ready.get(f"{address}/status")["state"] == "stopped"
    assert fetch(ready, address)[0] == 410


def test_an_answer_can_end_after_what_there_is(ready, talk):
    with HostEvents(ready) as events:
        prompt = submit(ready, talk, events, "graph-of-pieces")
        address = f"/liveavatar/stream/{announced(ready, events)['id']}?now"
        code, _, body = fetch(ready, f"{address}&from=0")
        assert code == 200 and body[4:8] == b"ftyp"
        while body and len(body) < announced(ready, events, 96)["size"]:
            code, _, piece = fetch(ready, f"{address}&from={len(body)}")
            assert code in (200, 204) and bool(piece) == (code == 200)
            body += piece
        ready.interrupt()
        ready.wait(prompt)
        while piece := fetch(ready, f"{address}&from={len(body)}")[2]:
            body += piece
        assert fetch(ready, f"{address}&from={len(body)}")[0] == 200  # the end, not "nothing yet"
    with av.open(io.BytesIO(body)) as container:
        assert sum(1 for _ in container.decode(video=0)) >= 96


PLAYERS = """
async (count) => {
    const { LivePlayer } = await import("/extensions/ComfyUI-LiveAvatar/live_player.js");
    const list = await fetch(`/liveavatar/streams?workflow=${window.app.graph.id}`);
    const [status] = await list.json();
    window.players = Array.from({ length: count }, () => new LivePlayer());
    for (const player of window.players) player.show(status);
}
"""


def test_many_watch_at_once_and_the_host_still_answers(ready, browser, talk, tmp_path):
    """Browsers open six connections to a server, for all tabs; players of one page share them as tabs do."""
    with opened(browser) as page:
        drop(page, talk, tmp_path)
        press_run(page)
        watch(page, lambda state: state["time"] > 0.2)
        page.evaluate(PLAYERS, 8)
        page.wait_for_function(
            "() => window.players.every(({ video }) => video.currentTime > 0.5)", timeout=30_000
        )
        asked = time.monotonic()
        page.evaluate("() => window.players[0].stopButton.click()")
        watch(page, lambda state: state["ended"] == "execution_interrupted", 10)
        assert time.monotonic() - asked < 5
        page.wait_for_function(
            "() => window.players.every(({ progress }) => progress.textContent.includes('stopped'))",
            timeout=10_000,
        )


def test_a_tab_whose_browser_follows_enough_streams_says_so_and_waits(ready, browser, talk, tmp_path):
    def follow() -> HTTPResponse:
        """What another tab does."""
        return until(lambda: HTTP.open(f"{ready.url}{address}?browser={name}", timeout=30), {429})

    with opened(browser, media_source=False) as page:
        drop(page, talk, tmp_path)
        press_run(page)
        watch(page, lambda state: state["time"] > 0.2)
        graph, name = page.evaluate("() => [window.app.graph.id, localStorage['LiveAvatar.browser']]")
        address = f"/liveavatar/stream/{ready.get(f'/liveavatar/streams?workflow={graph}')[0]['id']}"
        page.wait_for_timeout(1500)  # for the page, which saves its workflow now and then
        with follow():
            assert fetch(ready, f"{address}?browser={name}")[0] == 429
            assert fetch(ready, f"{address}?now&browser={name}")[0] == 200
            page.goto("about:blank")
            with follow():
                page.goto(ready.url)
                page.get_by_text("Close another tab that plays this").wait_for(state="attached")
                assert fetch(ready, f"{address}?browser={name}")[0] == 429
            watch(page, lambda state: state["time"] > 0.2)


def test_streams_are_found_by_nothing_but_their_id(ready):
    assert fetch(ready, "/liveavatar/stream/unknown")[0] == 404
    assert fetch(ready, "/liveavatar/stream/unknown/status")[0] == 404
    assert fetch(ready, "/liveavatar/stream/..%2Fportrait.png")[0] == 404
    assert ready.get("/liveavatar/streams") == []
