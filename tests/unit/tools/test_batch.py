"""``run.py batch`` and a host that is told what to answer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jobs.workflows import read_workflow
from tools import batch
from tools.batch import Batch, Work

DONE = {
    "status": {"messages": []},
    "outputs": {"9": {"images": [{"filename": "a_00001_.mp4", "subfolder": "", "type": "output"}]}},
}
INTERRUPTED = {
    "status": {"messages": [["execution_interrupted", {"node_type": "Sampler", "node_id": "3"}]]},
    "outputs": {},
}


class Host:
    """What a host would answer; ``moves`` are made one after another, each after an answer."""

    def __init__(self) -> None:
        self.queue: list[str] = []
        self.history: dict[str, dict] = {}
        self.moves: list = []
        self.submitted: list[str] = []

    def get(self, path: str) -> dict:
        if path != "/queue":
            return {"state": "running", "frames": 0}
        answer = {"queue_running": [], "queue_pending": [[0, prompt] for prompt in self.queue]}
        return self.move(answer)

    def finished(self, prompt: str) -> dict | None:
        return self.move(self.history.get(prompt))

    def move(self, answer: dict | None) -> dict | None:
        if self.moves:
            self.moves.pop(0)()
        return answer

    def send(self, file: Path, name: str, subfolder: str) -> str:
        return f"{subfolder}/{name}"

    def submit(self, graph: dict, extra_data: dict, prompt_id: str) -> str:
        self.submitted.append(prompt_id)
        self.queue.append(prompt_id)
        return prompt_id

    def download(self, place: dict, target: Path) -> None:
        target.write_bytes(b"video")

    def end(self, entry: dict) -> None:
        self.history[self.queue.pop(0)] = entry


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "POLL_SECONDS", 0)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    for name in ("a.png", "a.wav"):
        (tmp_path / name).write_bytes(b"file")
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"image": "a.png", "audio": "a.wav", "output": "a"}]))
    ((number, job, _),) = batch.read_rows(file.read_bytes(), file.name)
    return batch._work(number, job, read_workflow("demo"), tmp_path)


def run(host: Host, work: Work, folder: Path) -> str:
    ((_, problem),) = Batch(host, read_workflow("demo"), folder, "rows").run([work])
    return problem


def test_a_row_that_is_taken_out_of_the_queue_is_said_and_sent_again_next_time(work, tmp_path):
    host = Host()
    host.moves = [lambda: None, host.queue.clear]
    assert run(host, work, tmp_path) == "Run the batch again: this row was taken out of the host's queue."
    host.moves = [lambda: host.end(DONE)]
    assert run(host, work, tmp_path) == ""
    assert len(set(host.submitted)) == 2


def test_a_row_that_ends_between_two_questions_is_not_sent_again(work, tmp_path):
    host = Host()
    host.queue.append("earlier")
    Batch(host, {}, tmp_path, "rows")._state.note(work, seed=1, prompt="earlier")
    host.moves = [lambda: host.end(DONE)]
    assert run(host, work, tmp_path) == ""
    assert host.submitted == [] and (tmp_path / "a.mp4").is_file()


def test_an_interrupted_row_is_said_and_sent_again_next_time(work, tmp_path):
    host = Host()
    host.moves = [lambda: host.end(INTERRUPTED)]
    assert run(host, work, tmp_path) == "Sampler (node 3): interrupted"
    host.moves = [lambda: host.end(DONE)]
    assert run(host, work, tmp_path) == "" and len(host.submitted) == 2


def test_a_row_is_the_same_wherever_the_command_is_given(work, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = batch.read_rows(Path("rows.json").read_bytes(), "rows.json")
    again = batch._work(1, rows[0].job, read_workflow("demo"), Path("."))
    assert again.identity == work.identity
    (tmp_path / "a.wav").write_bytes(b"another")
    assert batch._work(1, rows[0].job, read_workflow("demo"), Path(".")).identity != work.identity
