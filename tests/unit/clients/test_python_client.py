"""The Python client and a service that is told what to answer."""

from __future__ import annotations

import http.server
import importlib.util
import json
import sys
import threading

import pytest

from tools.environment import ROOT

FILE = ROOT / "clients" / "liveavatar_client.py"


class Handler(http.server.BaseHTTPRequestHandler):
    """Takes every video, and cuts its stream after the first piece."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = json.dumps({"id": "one", "seed": 1}).encode()
        self.send_response(202)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"5\r\nfirst\r\n")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_stream_that_is_cut_is_said_and_is_no_success(url, tmp_path, monkeypatch, capfdbinary):
    spec = importlib.util.spec_from_file_location("liveavatar_client", FILE)
    client = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(client)
    for name in ("a.png", "a.wav"):
        (tmp_path / name).write_bytes(b"file")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = [str(tmp_path / "a.png"), str(tmp_path / "a.wav")]
    monkeypatch.setattr(sys, "argv", ["client", *files, "-", "--url", url])
    assert client.main() == 1
    sys.stdout.flush()
    out, err = capfdbinary.readouterr()
    assert out == b"first" and b"its run ended early" in err
