"""Videos over HTTP from a real host: what comes back, what is refused, and how a run is watched and stopped."""

from __future__ import annotations

import base64
import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tools.scripted_services import Script, running_services

from .client import Host
from .contract import Service
from .media import check_talks, make_inputs, read_video, tone, write_wav
from .models import install_tiny_models
from .workflows import add, only, put, small

MP4 = {"Accept": "video/mp4"}
WISH = {"reference_image": "portrait.png", "audio": "speech.wav", "seed": 7}
LONG = {**WISH, "audio": "long.wav", "seconds": 6, "num_inference_steps": 2}
LONGEST = {**LONG, "seconds": 12, "num_inference_steps": 8}


@pytest.fixture(scope="module")
def own_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host whose owner has chosen the tests' small workflow."""
    base = tmp_path_factory.mktemp("generate")
    workflow = base / "small.json"
    workflow.write_text(json.dumps(small()))
    running = Host(base)
    install_tiny_models(running.models_dir)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIVEAVATAR_HTTP_WORKFLOW", str(workflow))
        running.start()
    try:
        make_inputs(running.input_dir)
        write_wav(running.input_dir / "long.wav", tone(12, 44_100, 1), 44_100)
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def service(own_host: Host) -> Service:
    return Service(own_host.port)


def sent(host: Host, name: str) -> str:
    return base64.b64encode((host.input_dir / name).read_bytes()).decode()


def saved(folder: Path, body: bytes) -> Path:
    path = folder / "answer.mp4"
    path.write_bytes(body)
    return path


def until(service: Service, id_: str, *states: str) -> dict:
    deadline = time.monotonic() + 180
    while (told := service.ask("GET", f"/liveavatar/generate/{id_}").json)["state"] not in states:
        assert time.monotonic() < deadline, told
        time.sleep(0.02)
    return told


def test_files_in_base64_become_a_video_in_base64(own_host, service, tmp_path):
    answer = service.generate(
        reference_image=sent(own_host, "portrait.png"),
        audio="data:audio/wav;base64," + sent(own_host, "speech.wav"),
        prompt="A person laughs.",
        seed=7,
        num_inference_steps=2,
    )
    assert answer.status == 200 and answer.json["seed"] == 7
    video = read_video(saved(tmp_path, base64.b64decode(answer.json["video"])))
    check_talks(video, (64, 64), 8, 24_000, 1)
    assert answer.json["seconds"] == pytest.approx(8 / 25, abs=0.03)


def test_names_in_the_input_folder_give_the_same_video_as_their_bytes(own_host, service, tmp_path):
    named = service.ask("POST", "/liveavatar/generate", WISH, MP4)
    assert named.headers["Content-Type"].startswith("video/mp4")
    bytes_ = service.ask(
        "POST",
        "/liveavatar/generate",
        {**WISH, "reference_image": sent(own_host, "portrait.png"), "audio": sent(own_host, "speech.wav")},
        MP4,
    )
    frames = [read_video(saved(tmp_path, answer.body)).frames for answer in (named, bytes_)]
    np.testing.assert_array_equal(*frames)


def test_a_random_seed_is_told_and_gives_the_video_again(service, tmp_path):
    first = service.generate(**{**WISH, "seed": None}).json
    second = service.generate(**{**WISH, "seed": first["seed"]}).json
    third = service.generate(**{**WISH, "seed": "random"}).json
    assert first["seed"] == second["seed"] != third["seed"]
    frames = [
        read_video(saved(tmp_path, base64.b64decode(one["video"]))).frames for one in (first, second, third)
    ]
    np.testing.assert_array_equal(frames[0], frames[1])
    assert not np.array_equal(frames[0], frames[2])


def test_guidance_is_done_though_the_workflow_has_no_negative_prompt(service):
    answers = [service.generate(**WISH, seconds=0.5, guidance_scale=scale) for scale in (1, 3)]
    assert [answer.status for answer in answers] == [200, 200], answers[-1].body[:500]
    assert answers[0].json["video"] != answers[1].json["video"]


def test_another_frame_rate_keeps_length_and_sound(service, tmp_path):
    usual = read_video(saved(tmp_path, service.ask("POST", "/liveavatar/generate", WISH, MP4).body))
    other = read_video(
        saved(tmp_path, service.ask("POST", "/liveavatar/generate", {**WISH, "fps": 20}, MP4).body)
    )
    assert other.fps == 20 and len(other.frames) == 6
    assert other.audio_seconds == pytest.approx(usual.audio_seconds, abs=0.05)


def test_a_video_arrives_while_it_is_made(own_host, service, tmp_path):
    accepted = service.generate(**LONG, wait=False)
    assert accepted.status == 202 and accepted.headers["Location"] == accepted.json["status"]
    connection = http.client.HTTPConnection("127.0.0.1", own_host.port, timeout=120)
    connection.request("GET", accepted.json["stream"])
    arriving = connection.getresponse()
    start = arriving.read(1000)
    told = service.ask("GET", accepted.json["status"]).json
    assert told["state"] == "running" and 0 < told["frames"] < told["total_frames"] == 150
    assert service.ask("GET", accepted.json["file"]).status == 409
    health = service.ask("GET", "/liveavatar/health").json
    assert health["streams"] == 1 and health["queue"]["running"] == 1 and "caches" in health["plan"]
    check_talks(read_video(saved(tmp_path, start + arriving.read())), (64, 64), 150, 44_100, 1)
    until(service, accepted.json["id"], "finished")
    whole = service.ask("GET", accepted.json["file"])
    check_talks(read_video(saved(tmp_path, whole.body)), (64, 64), 150, 44_100, 1)
    part = service.ask("GET", accepted.json["file"], headers={"Range": "bytes=4-7"})
    assert part.status == 206 and part.body == b"ftyp"


def test_a_stopped_run_cuts_the_connection_and_the_same_request_goes_on(own_host, service, tmp_path):
    wish = {**LONG, "seed": 99}
    accepted = service.generate(**wish, wait=False).json
    waiting = service.generate(**WISH, wait=False).json
    connection = http.client.HTTPConnection("127.0.0.1", own_host.port, timeout=120)
    connection.request("GET", accepted["stream"])
    arriving = connection.getresponse()
    arriving.read(1000)
    assert until(service, waiting["id"], "waiting")["ahead"] == 1
    assert service.ask("DELETE", waiting["status"]).json["state"] == "stopped"
    assert service.ask("GET", waiting["status"]).status == 404
    service.ask("DELETE", accepted["status"])
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        arriving.read()
    assert until(service, accepted["id"], "stopped")["error"] == "The run was stopped."
    assert service.ask("GET", accepted["file"]).json["error"] == "The run was stopped."
    (begun,) = own_host.output_dir.glob("http/*.resume.json")
    again = service.ask("POST", "/liveavatar/generate", wish, MP4)
    assert not begun.exists(), "the same file was gone on with"
    check_talks(read_video(saved(tmp_path, again.body)), (64, 64), 150, 44_100, 1)


def test_a_text_is_said_by_the_voice_of_the_workflow(own_host, service, tmp_path):
    workflow, script = small(), Script()
    chosen = own_host.base / "small.json"
    usual = chosen.read_text()
    with running_services(script) as url:
        voice = add(workflow, "AvatarVoice", url=url, model="scripted", voice="")
        say = put(workflow, "LiveAvatarEncodeSpeech", "audio", "AvatarSay", voice=[voice, 0], text="-")
        workflow[say]["_meta"] = {"title": "What the person says"}
        del workflow[only(workflow, "LoadAudio")]
        chosen.write_text(json.dumps(workflow))
        try:
            answer = service.generate(
                reference_image="portrait.png", text="Good morning.", voice="Ana", seed=1
            )
        finally:
            chosen.write_text(usual)
    assert answer.status == 200, answer.body
    ((_, asked),) = [one for one in script.asked if one[0].endswith("/audio/speech")]
    assert (asked["input"], asked["voice"]) == ("Good morning.", "Ana")
    check_talks(read_video(saved(tmp_path, base64.b64decode(answer.json["video"]))), (64, 64), 8, 24_000, 1)


def picture(width: int, height: int) -> str:
    """The header of a PNG of this size, without pixels."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    return base64.b64encode(png).decode()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reference_image": "../../etc/passwd.png"}, "leads out"),
        ({"reference_image": "/etc/hostname.png"}, "leads out"),
        (
            {"reference_image": "nobody.png"},
            "Choose another reference_image: ComfyUI's input folder has no such",
        ),
        ({"reference_image": "portrait.png [output]"}, "has no such file"),
        ({"reference_image": "http://example.org/a.png"}, "has no such file"),
        ({"reference_image": "data:image/png,abc"}, "Send reference_image as base64: its data URL has none"),
        ({"reference_image": "not base64!"}, "Send reference_image as base64, or as a name"),
        (
            {"reference_image": base64.b64encode(b"GIF89a" * 9).decode()},
            "Send reference_image as PNG, JPEG or WebP",
        ),
        ({"reference_image": picture(40_000, 40_000)}, "Send reference_image as"),
        ({"audio": base64.b64encode(b"no sound" * 9).decode()}, "Send audio as WAV"),
        ({"audio": base64.b64encode(b"RIFF" + bytes(40)).decode()}, "cannot be read as audio"),
        ({"audio": None}, "Give either audio or text: neither is there"),
        ({"audio": None, "text": "Good morning."}, "Give audio, or take a workflow with a voice"),
        ({"workflow": "../../secret"}, "Choose another workflow"),
        ({"workflow": "personalive"}, "Take another workflow: this one has no Load Audio"),
        ({"guidance_scale": 2, "workflow": "ditto_core"}, "Leave guidance_scale out"),
        ({"num_inference_steps": 51}, "Set num_inference_steps to a whole number from 1 to 50: it is 51"),
        ({"fps": 60}, "Set fps to a number from 15 to 30"),
        ({"seed": -1}, "Set seed"),
        ({"prompt": "\0"}, "Take the control characters out of prompt"),
        ({"wait": "no"}, "Set wait to true or false"),
        ({"filename_prefix": "x"}, "Leave 'filename_prefix' out"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(service, changes, sentence):
    before = service.ask("GET", "/liveavatar/health").json["queue"]
    answer = service.generate(**{**WISH, **changes})
    assert answer.status == 400 and sentence in answer.json["error"], answer.body[:500]
    assert "Traceback" not in answer.json["error"] and len(answer.json["error"]) < 500
    assert service.ask("GET", "/liveavatar/health").json["queue"] == before


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'{"seed": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe\x00", "application/json", 400),
        (
            b'{"audio": "' + b"A" * (90 << 20) + b'", "reference_image": "portrait.png"}',
            "application/json",
            413,
        ),
    ],
    ids=["plain", "form", "empty", "list", "nan", "deep", "no text", "large"],
)
def test_other_bodies_are_refused(service, body, kind, status):
    assert service.ask("POST", "/liveavatar/generate", body, {"Content-Type": kind}).status == status


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-For": "203.0.113.5"},
        {"Forwarded": "for=203.0.113.5"},
        {"Host": "rebound.example.org"},
        {"Origin": "http://example.org"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=lambda headers: next(iter(headers)),
)
@pytest.mark.parametrize(
    "path", ["/liveavatar/health", "/liveavatar/openapi.json", "/liveavatar/generate/x/file"]
)
def test_who_comes_from_elsewhere_is_refused(own_host, headers, path):
    if "Sec-Fetch-Site" in headers and "Sec-Fetch-Site" not in (own_host.folder / "server.py").read_text():
        pytest.skip("this host does not look at Sec-Fetch-Site")
    connection = http.client.HTTPConnection("127.0.0.1", own_host.port, timeout=30)
    connection.request("GET", path, headers=headers)
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize("headers", [{"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}], ids=str)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/liveavatar/generate"),
        ("DELETE", "/liveavatar/generate/x"),
        ("POST", "/liveavatar/speech/x"),
    ],
)
def test_a_page_that_hides_where_it_comes_from_changes_nothing(own_host, method, path, headers):
    connection = http.client.HTTPConnection("127.0.0.1", own_host.port, timeout=30)
    connection.request(method, path, headers=headers)
    assert connection.getresponse().status == 403
    connection.close()


def test_a_key_of_any_bytes_is_read(service):
    assert service.ask("GET", "/liveavatar/health", headers={"Authorization": b"Bearer \xff"}).status == 200


def test_runs_of_pages_are_no_videos_of_the_service(own_host, service):
    prompt = own_host.submit(small())
    own_host.wait(prompt)
    for path in ("", "/stream", "/file"):
        assert service.ask("GET", f"/liveavatar/generate/{prompt}{path}").status == 404


def test_a_run_that_fails_says_why(own_host, service):
    (own_host.input_dir / "broken.wav").write_bytes(b"no sound at all")
    answer = service.generate(**{**WISH, "audio": "broken.wav"})
    assert answer.status == 500 and "LoadAudio" in answer.json["error"]


def test_more_waiting_videos_than_the_bound_are_sent_away(own_host, service):
    running = service.generate(**LONGEST, wait=False).json
    until(service, running["id"], "running")
    ids = [service.generate(**WISH, wait=False).json["id"] for _ in range(100)]
    busy = service.generate(**WISH, wait=False)
    assert busy.status == 503 and busy.headers["Retry-After"] == "30"
    assert service.ask("GET", "/liveavatar/health").json["ready"] is False
    own_host.post("/queue", {"clear": True})
    assert service.ask("GET", f"/liveavatar/generate/{ids[-1]}").status == 404
    assert service.ask("GET", "/liveavatar/health").json["ready"] is True
    service.ask("DELETE", running["status"])
    until(service, running["id"], "stopped")


def test_the_shipped_workflow_talks_without_any_download(ready, tmp_path):
    shipped = Service(ready.port)
    answer = shipped.ask(
        "POST",
        "/liveavatar/generate",
        {
            "reference_image": "liveavatar_portrait.png",
            "audio": "liveavatar_speech.ogg",
            "workflow": "demo",
            "seconds": 0.4,
            "num_inference_steps": 1,
        },
        MP4,
    )
    video = read_video(saved(tmp_path, answer.body))
    assert video.size == (192, 192) and len(video.frames) == 10
