"""``run.py batch`` against a real host: ten rows, a bad one among them, and both sides killed in the middle."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tools.connection import HostError
from tools.environment import ROOT
from tools.host_events import HostEvents

from .client import Host
from .media import check_talks, make_inputs, read_video, tone, write_wav
from .models import install_tiny_models
from .workflows import Api, add, change, small

ROWS = 10


@pytest.fixture(scope="module")
def own_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that may be killed."""
    running = Host(tmp_path_factory.mktemp("batch"))
    install_tiny_models(running.models_dir)
    with running:
        make_inputs(running.input_dir)
        yield running


class Client:
    """The command with its files in a folder of its own."""

    def __init__(self, host: Host, folder: Path, rows: list[dict], **sampler: object) -> None:
        folder.mkdir()
        for name in ("portrait.png", "speech.wav"):
            (folder / name).write_bytes((host.input_dir / name).read_bytes())
        self.file, self.videos = folder / "rows.json", folder / "rows"
        self.write(rows)
        workflow = folder / "workflow.json"
        workflow.write_text(json.dumps(small(**sampler)))
        self.command = [
            sys.executable,
            "run.py",
            "batch",
            str(self.file),
            "--url",
            host.url,
            "--workflow",
            str(workflow),
        ]

    def write(self, rows: list[dict]) -> None:
        self.file.write_text(json.dumps(rows))

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self.command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )

    def run(self) -> subprocess.CompletedProcess:
        return subprocess.run(self.command, cwd=ROOT, capture_output=True, text=True, timeout=300)

    def made(self) -> list[str]:
        return sorted(path.name for path in self.videos.glob("*.mp4"))


def row(number: int, **values: object) -> dict:
    return {
        "image": "portrait.png",
        "audio": "speech.wav",
        "output": f"row {number}",
        "seed": number,
        **values,
    }


def wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_ten_rows_go_on_after_the_client_is_killed_and_a_bad_one_is_named(own_host, tmp_path):
    rows = [row(number) for number in range(ROWS)]
    rows[4] = row(4, steps=900)
    rows[6] = row(6, audio="nowhere.wav")
    client = Client(own_host, tmp_path / "ten", rows)
    first = client.start()
    wait(lambda: len(client.made()) >= 3)
    first.kill()
    first.communicate()
    before = {name: (client.videos / name).stat().st_mtime_ns for name in client.made()}
    assert 3 <= len(before) < ROWS - 2

    second = client.run()
    assert second.returncode == 1, "two rows are bad"
    assert "row 5: Set steps to a whole number from 1 to 50: it is 900." in second.stderr
    assert "row 7: Put the file there, or correct its name" in second.stderr
    assert "rows are finished already" in second.stdout and "8 of 10 videos are in" in second.stdout
    assert client.made() == [f"row {number}.mp4" for number in range(ROWS) if number not in (4, 6)]
    for name, time_ in before.items():
        assert (client.videos / name).stat().st_mtime_ns == time_, "what is finished is not made again"
    assert len(own_host.get("/history")) == ROWS - 2, "no row was sent twice"
    seen = [read_video(client.videos / name) for name in ("row 0.mp4", "row 9.mp4")]
    check_talks(seen[0], (64, 64), 8, 24_000, 1)
    assert not np.array_equal(seen[0].frames, seen[1].frames), "each row has its own seed"

    rows[4], rows[6] = row(4), row(6, prompt="A person laughs.")
    client.write(rows)
    third = client.run()
    assert third.returncode == 0, third.stderr
    assert "8 of 10 rows are finished already" in third.stdout and len(client.made()) == ROWS
    assert len(own_host.get("/history")) == ROWS


def test_a_changed_row_is_made_again_and_the_others_are_not(own_host, tmp_path):
    client = Client(own_host, tmp_path / "changed", [row(1), row(2, seed="random")])
    assert client.run().returncode == 0
    sent = len(own_host.get("/history"))
    client.write([row(1, prompt="Another one."), row(2, seed="random")])
    again = client.run()
    assert "1 of 2 rows are finished already" in again.stdout
    assert len(own_host.get("/history")) == sent + 1


def node(rows: str, **inputs: object) -> Api:
    """The small workflow with its portrait, speech, prompt, seed and name from rows."""
    workflow = small()
    batch = add(
        workflow,
        "AvatarBatch",
        file=rows,
        folder="listed",
        skip_finished=True,
        prompt="A person talks.",
        steps=4,
        guidance=1.0,
    )
    workflow[batch]["inputs"].update(inputs)
    for type_, name, slot in (
        ("LiveAvatarReferenceImage", "image", 0),
        ("LiveAvatarEncodeSpeech", "audio", 1),
        ("CLIPTextEncode", "text", 3),
        ("LiveAvatarSampler", "seed", 4),
        ("AvatarStreamToVideo", "filename_prefix", 5),
    ):
        change(workflow, type_, **{name: [batch, slot]})
    return workflow


def listed(host: Host) -> list[str]:
    return sorted(path.name for path in (host.output_dir / "listed").iterdir())


def test_the_node_makes_a_video_per_row_names_bad_ones_and_skips_what_is_finished(own_host):
    file = own_host.input_dir / "rows.csv"
    file.write_text(
        "image,audio,output,seed,steps\nportrait.png,speech.wav,one,1,\nportrait.png,gone.wav,two,2,\n"
        "portrait.png,speech.wav,three,3,\nportrait.png,speech.wav,four,4,8\n"
    )
    workflow = node("rows.csv")
    with HostEvents(own_host) as events:
        entry = own_host.wait(own_host.submit(workflow, events.client_id))
        told = b"".join(events.previews).decode(errors="replace")
    assert "4 rows: 2 to make, 0 finished, 2 left out" in told
    assert "row 2: Put 'gone.wav' into the input folder" in told
    assert "row 4: Connect Batch's output steps" in told
    assert not own_host.errors(entry)
    made = listed(own_host)
    assert [name.partition("-")[0] for name in made] == ["one", "three"]
    check_talks(read_video(own_host.output_dir / "listed" / made[0]), (64, 64), 8, 24_000, 1)

    own_host.run(workflow)
    assert listed(own_host) == made, "all rows that can be used are finished"

    file.write_text(file.read_text().replace("one,1", "one,11"))
    own_host.run(workflow)
    again = listed(own_host)
    assert len(again) == 3 and set(made) < set(again), "a changed row is another video"

    (own_host.output_dir / "listed" / made[1]).unlink()
    own_host.run(workflow)
    assert listed(own_host) == again, "a video that is gone is made again"


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("none.csv", "image,audio\nportrait.png,gone.wav\n", "Correct none.csv, no row of it can be used: row 1: Put"),
        ("broken.json", "{", "Correct broken.json: it is no JSON"),
        ("../rows.json", None, "leads out"),
        ("missing.json", None, "Choose another file"),
    ],
)  # fmt: skip
def test_the_node_says_what_is_wrong_with_a_file(own_host, name, content, sentence):
    if content is not None:
        (own_host.input_dir / name).write_text(content)
    with pytest.raises(HostError) as raised:
        own_host.run(node(name))
    assert sentence in str(raised.value)


def test_a_refused_workflow_is_said_for_its_row(own_host, tmp_path):
    client = Client(own_host, tmp_path / "refused", [row(1)], frames_per_clip=50)
    done = client.run()
    assert done.returncode == 1
    assert done.stderr.startswith("row 1 row 1: LiveAvatarSampler")


def test_a_killed_host_is_said_and_its_video_is_gone_on_with(own_host, tmp_path):
    write_wav(own_host.input_dir / "speech.wav", tone(6, 16_000, 1), 16_000)
    client = Client(own_host, tmp_path / "killed", [row(1), row(2)], seconds=0.0, steps=2)
    folder = own_host.output_dir / "batch" / "rows"
    first = client.start()
    wait(lambda: any(json.loads(path.read_text())["frames"] > 20 for path in folder.glob("*.resume.json")))
    own_host.process.kill()
    own_host.process.wait()
    told = first.communicate(timeout=60)[1]
    assert first.returncode == 2
    assert told.startswith(f"Start ComfyUI and give the same command again: {own_host.url} does not answer")

    own_host.start()
    assert client.run().returncode == 0
    assert client.made() == ["row 1.mp4", "row 2.mp4"]
    assert not list(folder.glob("*.resume.json"))
    check_talks(read_video(client.videos / "row 1.mp4"), (64, 64), 150, 16_000, 1)
