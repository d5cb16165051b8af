"""A pool of tiny talkers on CPUs: what it makes, and what it survives."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.gone_on import check_gone_on
from tests.host.contract import Service
from tools.environment import ROOT

pytest.importorskip("ray", reason="a pool needs Ray: pip install 'ray[serve]'")
websockets = pytest.importorskip("websockets", reason="ray[serve] brings websockets")
connect = pytest.importorskip("websockets.sync.client").connect

from .running import EXAMPLE, Pool, files, frames, running_pool, said, sound, until  # noqa: E402

SHORT, LONG = {"seconds": 0.48}, {"seconds": 4}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    folder = tmp_path_factory.mktemp("pool")
    with running_pool(folder, "--most-replicas", "2", "--rest", "6", "--waiting", "2") as running:
        yield running


@pytest.fixture(autouse=True)
def quiet(request: pytest.FixtureRequest) -> None:
    if "pool" in request.fixturenames:
        request.getfixturevalue("pool").quiet()


@pytest.fixture(scope="module")
def undisturbed(pool: Pool) -> np.ndarray:
    """The frames of the long video, as a pool makes it in peace."""
    return frames(pool.finished(pool.submit(**LONG)))


def socket_of(pool: Pool, session: dict[str, str]):
    return connect(f"ws://127.0.0.1:{pool.port}{session['socket']}", max_size=None)


def talk(pool: Pool, seconds: float = 1.0, **wish: str) -> tuple[list[dict], bytes]:
    """A whole live session on a WebSocket: its messages and its video."""
    with socket_of(pool, pool.open(**wish)) as socket:
        samples = said(seconds)
        for start in range(0, len(samples), 9600):
            socket.send(samples[start : start + 9600])
        socket.send(json.dumps({"type": "end"}))
        got = list(socket)
    return [json.loads(one) for one in got if isinstance(one, str)], b"".join(
        one for one in got if isinstance(one, bytes)
    )


def far(frame: np.ndarray, portrait: str) -> float:
    """How far a frame is from a portrait, as the mean difference of pixels."""
    picture = (
        Image.open(EXAMPLE / portrait).convert("RGB").resize(frame.shape[1::-1], Image.Resampling.LANCZOS)
    )
    return float(np.abs(frame.astype(float) - np.asarray(picture, float)).mean())


def test_files_are_those_of_the_described_service(pool):
    service = Service(pool.port)
    made = service.generate(**files(), seed=5, **SHORT)
    assert made.status == 200 and made.json["seed"] == 5 and made.json["seconds"] == 0.48
    waiting = service.generate(**files(), wait=False, **SHORT).json
    pool.finished(waiting)
    assert service.ask("GET", waiting["status"]).json["frames"] == 12
    video = service.ask("GET", waiting["file"], headers={"Range": "bytes=0-99"})
    assert video.status == 206 and len(video.body) == 100
    growing = service.ask(
        "POST", "/liveavatar/generate", {**files(), "seed": 5, **SHORT}, {"Accept": "video/mp4"}
    )
    assert len(frames(growing.body)) == 12 and len(sound(growing.body)) > 0.4 * 48_000


@pytest.mark.parametrize(
    ("changes", "status", "sentence"),
    [
        ({"workflow": "demo"}, 400, "Leave workflow out"),
        ({"audio": None, "text": "Hello."}, 400, "Send audio in place of text"),
        ({"reference_image": "../../etc/passwd.png"}, 400, "Send reference_image as base64"),
        ({"reference_image": "AAAA"}, 400, "Send reference_image as PNG"),
        ({"audio": "AAAA"}, 400, "Send audio as WAV"),
        ({"num_inference_steps": 51}, 400, "Set num_inference_steps"),
    ],
)
def test_what_makes_no_sense_is_refused_before_it_waits(pool, changes, status, sentence):
    answer = Service(pool.port).generate(**{**files(), **changes})
    assert answer.status == status and sentence in answer.json["error"]


@pytest.mark.parametrize(
    "headers",
    [{"Origin": "http://example.org"}, {"X-Forwarded-For": "203.0.113.5"}, {"Host": "rebound.example.org"}],
    ids=lambda headers: next(iter(headers)),
)
def test_who_comes_from_elsewhere_is_refused(pool, headers):
    assert pool.ask("/liveavatar/health", headers=headers)[0] == 403


def test_ids_lead_nowhere_else(pool):
    for id_ in ("..", "%2e%2e%2fpool.log", "x" * 22):
        assert pool.ask(f"/liveavatar/generate/{id_}/file")[0] in (404, 405)
        assert pool.ask(f"/liveavatar/live/{id_}/stream")[0] in (404, 405)


def test_live_speech_becomes_a_video_that_comes_in_fragments(pool):
    messages, video = talk(pool)
    kinds = [message["type"] for message in messages if message["type"] != "waiting"]
    assert kinds == ["begun", "ended"] and messages[-2]["width"] == 128
    assert len(frames(video)) >= 25
    voice = np.frombuffer(said(1.0), np.int16) / 32768
    assert sound(video).std() * len(sound(video)) ** 0.5 == pytest.approx(
        voice.std() * (2 * len(voice)) ** 0.5, rel=0.1
    ), "all of the speech is in the video"


def test_live_speech_may_be_posted(pool):
    session = pool.open()
    with ThreadPoolExecutor(1) as thread:
        video = thread.submit(pool.ask, session["stream"])
        assert pool.told(session["speech"], (EXAMPLE / "speech.ogg").read_bytes())["waiting_seconds"] > 10
        pool.told(f"{session['speech']}?rate=24000&replace=1", said(0.5))
        pool.told(session["end"], b"")
        status, headers, data = video.result()
    assert status == 200 and headers["Content-Type"].startswith("video/mp4")
    assert 12 <= len(frames(data)) <= 60, "the speech that was replaced is not said"
    assert pool.ask(session["stream"])[0] == 404, "a session is over once"


def test_two_people_are_kept_apart(pool):
    portraits = ["portrait.png", "portrait_2.png"]
    with ThreadPoolExecutor(2) as threads:
        talks = list(
            threads.map(lambda name: talk(pool, reference_image=files(name)["reference_image"]), portraits)
        )
        jobs = [pool.submit(**{**files(name), **SHORT}) for name in portraits]
        videos = list(threads.map(pool.finished, jobs))
    for own, other, (_, live), video in zip(portraits, reversed(portraits), talks, videos, strict=True):
        for data in (live, video):
            assert far(frames(data)[0], own) < far(frames(data)[0], other)


def test_a_file_survives_a_lost_avatar_with_the_same_video(pool, undisturbed):
    video = pool.submit(**LONG)
    with ThreadPoolExecutor(1) as thread:
        watched = thread.submit(pool.ask, video["stream"])
        until(lambda: pool.status(video)["frames"] >= 24)
        pool.kill("Avatar")
        made = frames(pool.finished(video))
        status, _, growing = watched.result()
    check_gone_on(made, undisturbed, 24)
    assert status == 200 and np.array_equal(frames(growing), made), "who watched has seen all of it"


def test_a_file_survives_a_lost_door(pool, undisturbed):
    video = pool.submit(**LONG)
    until(lambda: pool.status(video)["frames"] >= 12)
    pool.kill("Door")
    until(lambda: pool.ask(video["status"])[0] == 200)
    check_gone_on(frames(pool.finished(video)), undisturbed, 12)


def test_a_live_session_whose_avatar_is_lost_says_so(pool):
    with socket_of(pool, pool.open()) as socket:
        next(one for one in socket if isinstance(one, bytes))
        pool.kill("Avatar")
        messages = [json.loads(one) for one in socket if isinstance(one, str)]
    assert messages[-1] == {
        "type": "error",
        "message": "Begin another session: the machine of this avatar was lost.",
    }
    pool.finished(pool.submit(**SHORT))


def test_more_than_may_wait_are_sent_away_and_leaving_makes_room(pool):
    sockets = [socket_of(pool, pool.open()) for _ in range(2)]
    try:
        for socket in sockets:
            next(one for one in socket if isinstance(one, bytes))
        assert until(lambda: pool.health()["avatars"].get("running") == 2), (
            "the second one was started for them"
        )
        waiting = [pool.submit(**SHORT), pool.submit(**SHORT)]
        until(lambda: [pool.status(video)["ahead"] for video in waiting] == [0, 1])
        for path, body in (
            ("/liveavatar/generate", files()),
            ("/liveavatar/live", {"reference_image": "AAAA"}),
        ):
            status, headers, data = pool.ask(path, body)
            assert status == 503 and 1 <= int(headers["Retry-After"]) <= 600
            assert "2 are waiting" in json.loads(data)["error"]
        assert pool.ask("/liveavatar/health")[0] == 503
        sockets[0].socket.close()  # without a word
        for video in waiting:
            assert len(frames(pool.finished(video))) == 12
        assert pool.told(pool.submit(**LONG)["status"], method="DELETE")["state"] == "stopped"
    finally:
        for socket in sockets:
            socket.close()
    pool.quiet()
    assert until(lambda: pool.health()["avatars"] == {"running": 1}), "nobody needs the second one"


def test_bodies_that_still_arrive_have_their_places(pool):
    head = "POST /liveavatar/generate HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    began = [socket.create_connection(("127.0.0.1", pool.port)) for _ in range(2)]
    try:
        for one in began:
            one.sendall(f"{head}Content-Length: 1000000\r\n\r\n{{".encode())
        until(lambda: pool.health()["queue"]["waiting"] == 2)
        status, _, data = pool.ask("/liveavatar/generate", files())
        assert status == 503 and "2 are waiting" in json.loads(data)["error"]
    finally:
        for one in began:
            one.close()
    pool.quiet()


def test_a_message_that_is_too_large_ends_a_socket_and_others_are_answered(pool):
    with socket_of(pool, pool.open()) as live:
        for message, sentence in (
            (b"x", "no whole number"),
            ("[", "Send sound"),
            (bytes(48_002), "a second"),
        ):
            live.send(message)
            told = (json.loads(one) for one in live if isinstance(one, str))
            assert sentence in next(one["message"] for one in told if one["type"] == "error")
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            while True:
                live.recv()
        assert live.close_code == 1009


def test_who_waits_is_told_the_place_and_may_leave(pool):
    with socket_of(pool, pool.open()), socket_of(pool, pool.open()):
        until(lambda: pool.health()["queue"]["running"] == 2)
        with socket_of(pool, pool.open()) as third:
            assert json.loads(third.recv(timeout=30)) == {"type": "waiting", "ahead": 0}
        until(lambda: pool.health()["queue"] == {"running": 2, "waiting": 0})


def test_whoever_asked_and_left_leaves_no_work(pool):
    connection = http.client.HTTPConnection("127.0.0.1", pool.port)
    headers = {"Content-Type": "application/json"}
    connection.request("POST", "/liveavatar/generate", json.dumps(files()), headers)
    until(lambda: pool.health()["queue"]["running"] == 1)
    connection.close()
    pool.quiet()


def test_an_ending_pool_lets_people_finish_and_keeps_files(tmp_path):
    with running_pool(tmp_path) as pool:
        with socket_of(pool, pool.open()) as socket:
            video = pool.submit(**SHORT)
            next(one for one in socket if isinstance(one, bytes))
            pool.process.send_signal(signal.SIGTERM)
            until(lambda: not pool.health()["ready"])
            status, _, data = pool.ask("/liveavatar/generate", files())
            assert status == 503 and "this pool is ending" in json.loads(data)["error"]
            socket.send(said(0.5))
            socket.send(json.dumps({"type": "end"}))
            assert json.loads([one for one in socket if isinstance(one, str)][-1]) == {"type": "ended"}
        assert pool.process.wait(120) == 0
    with running_pool(tmp_path) as pool:
        assert len(frames(pool.finished(video))) == 12


def refused_start(*arguments: str) -> str:
    """What a pool says that does not start."""
    ended = subprocess.run(
        [sys.executable, "-m", "pool", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ended.returncode == 2 and "Traceback" not in ended.stderr
    return ended.stderr


def test_other_addresses_need_a_key():
    assert "Set LIVEAVATAR_HTTP_NETWORK=1 and a LIVEAVATAR_HTTP_KEY" in refused_start("--host", "0.0.0.0")


def test_a_port_that_is_taken_is_said_before_anything_starts():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Choose another --port" in refused_start("--port", str(taken.getsockname()[1]))
