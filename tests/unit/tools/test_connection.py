"""What is said to a host over HTTP, and what is made of its answers."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.error
from collections.abc import Iterator

import pytest

from tools.connection import Connection, HostError


class Handler(http.server.BaseHTTPRequestHandler):
    """Takes files up to 1 MB and refuses workflows."""

    def do_GET(self) -> None:
        self.answer(200, json.dumps({"max_upload_size": 1048576.0}).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/upload/image":
            self.server.bodies.append(body)
            self.answer(200, json.dumps({"name": "a.wav", "subfolder": "batch"}).encode())
        else:
            self.answer(*self.server.refusal)

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[http.server.HTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.bodies = []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def connection(server: http.server.HTTPServer) -> Connection:
    return Connection(f"http://127.0.0.1:{server.server_port}/")


def test_a_file_is_sent_whole(server, connection, tmp_path):
    (tmp_path / "a.wav").write_bytes(b"sound" * 1000)
    assert connection.send(tmp_path / "a.wav", "a.wav", "batch") == "batch/a.wav"
    (body,) = server.bodies
    assert b"sound" * 1000 in body and len(body) < 6000


def test_a_file_that_the_host_would_cut_off_is_refused_before_it_is_sent(server, connection, tmp_path):
    (tmp_path / "long.wav").write_bytes(bytes(2 << 20))
    with pytest.raises(HostError, match=r"--max-upload-size 3, or shorten long.wav: the host takes 1 MB"):
        connection.send(tmp_path / "long.wav", "a.wav")
    assert server.bodies == []


def test_a_refused_workflow_says_why_and_other_answers_keep_their_status(server, connection):
    server.refusal = (400, json.dumps({"error": {"message": "No outputs", "details": "none"}}).encode())
    with pytest.raises(HostError, match="No outputs: none"):
        connection.submit({})
    server.refusal = (502, b"<html>Bad gateway</html>")
    with pytest.raises(urllib.error.HTTPError, match="502"):
        connection.submit({})
