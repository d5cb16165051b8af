"""Hub folders: found without network, downloaded on consent from a small hub on this machine."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
import torch
from avatar.loaders import download, hub
from avatar.loaders.hub import FILE_SETS, LIVE_AVATAR, WAN_S2V, known_files, resolve_snapshot
from safetensors.torch import save

REPO = "owner/model"
FILES = ["config.json", "weights.safetensors", "tokenizer/*"]


def contents() -> dict[str, bytes]:
    weights = torch.arange(300_000, dtype=torch.int32)
    return {
        "config.json": b'{"dim": 8}',
        "weights.safetensors": save({"w": weights}),
        "tokenizer/a.txt": b"a" * 10,
        "tokenizer/b.txt": b"b" * 20,
        "readme.md": b"not wanted",
    }


class FakeHub(BaseHTTPRequestHandler):
    """The two things that are needed of the hub: a listing with sizes and hashes, and files with ranges."""

    hub: SimpleNamespace

    def do_GET(self):
        path = urlsplit(self.path).path
        self.hub.requests.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        if path.startswith("/api/models/"):
            return self.list_files(path.removeprefix("/api/models/"))
        if path.startswith("/storage/"):
            return self.send_file(path.removeprefix("/storage/"))
        name = path.removeprefix(f"/{REPO}/resolve/{self.hub.sha}/")
        if self.hub.deny:
            return self.answer(self.hub.deny)
        # Another host name of this machine, as the real hub redirects to its storage.
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{self.server.server_port}/storage/{name}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def list_files(self, repo):
        if repo != REPO:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        siblings = []
        for name, data in self.hub.files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry = {"rfilename": name, "size": len(data), "blobId": blob}
            if name.endswith(".safetensors"):
                entry["lfs"] = {
                    "size": len(data),
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "pointerSize": 130,
                }
            siblings.append(entry)
        self.answer(200, json.dumps({"id": REPO, "sha": self.hub.sha, "siblings": siblings}).encode())

    def send_file(self, name):
        data = self.hub.corrupt.get(name, self.hub.files[name])
        start = int(self.headers["Range"][6:-1]) if "Range" in self.headers and self.hub.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data)
        if self.hub.break_after and name.endswith(".safetensors"):
            end = min(end, start + self.hub.break_after.pop(0))
        self.wfile.write(data[start:end])
        self.close_connection = True

    def answer(self, code, body=b""):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(monkeypatch):
    state = SimpleNamespace(
        files=contents(), sha="a" * 40, requests=[], deny=None, break_after=[], corrupt={}, ranges=True
    )
    handler = type("Handler", (FakeHub,), {"hub": state})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    endpoint = f"http://127.0.0.1:{http.server_port}"
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    # Older versions hold it in a second place.
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub, "build_hf_headers", lambda **_: {"authorization": "Bearer secret"})
    monkeypatch.setattr(download, "PAUSE", 0.0)
    state.endpoint = endpoint
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(hub.HfApi, "model_info", refuse)
    monkeypatch.setattr(download, "urlopen", refuse)


def fill(folder, files=None):
    for name, data in (files or contents()).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def assert_complete(folder):
    wanted = {name: data for name, data in contents().items() if name != "readme.md"}
    there = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert there == wanted


def downloads(server):
    return [name for name, _, _ in server.requests if name.startswith("/storage/")]


def test_complete_folder_is_used_without_network(tmp_path, no_network):
    fill(tmp_path / "model")
    assert resolve_snapshot(REPO, FILES, tmp_path, download=True) == tmp_path / "model"


def test_local_folder_is_used_as_it_is(tmp_path, no_network):
    fill(tmp_path / "mine")
    assert (
        resolve_snapshot(str(tmp_path / "mine"), FILES, tmp_path / "root", download=True) == tmp_path / "mine"
    )


def test_incomplete_local_folder_is_never_downloaded_into(tmp_path, no_network):
    fill(tmp_path / "mine", {"config.json": b"{}"})
    with pytest.raises(FileNotFoundError, match=r"mine is not complete: weights\.safetensors is missing"):
        resolve_snapshot(str(tmp_path / "mine"), FILES, tmp_path, download=True)


@pytest.mark.parametrize(
    "name", ["/no/such/folder", "just-a-name", "a/b/c", "../x", "https://x/y", "a/..", ".a/b"]
)
def test_neither_folder_nor_repository(tmp_path, no_network, monkeypatch, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileNotFoundError, match="neither an existing folder nor a hub repository"):
        resolve_snapshot(name, FILES, tmp_path, download=True)


def test_without_consent_the_error_tells_what_to_do(tmp_path, no_network):
    with pytest.raises(FileNotFoundError) as caught:
        resolve_snapshot(LIVE_AVATAR, known_files(LIVE_AVATAR), tmp_path, download=False)
    sentence = str(caught.value)
    assert "liveavatar.safetensors is missing" in sentence
    assert "download option (about 1.4 GB)" in sentence
    command = f'hf download {LIVE_AVATAR} liveavatar.safetensors --local-dir "{tmp_path / "Live-Avatar"}"'
    assert command in sentence
    assert not list(tmp_path.iterdir())


def test_command_for_patterns_uses_include(tmp_path, no_network):
    with pytest.raises(
        FileNotFoundError, match=r'--include "config\.json" .*--include "tokenizer/\*" --local-dir'
    ):
        resolve_snapshot(REPO, FILES, tmp_path, download=False)


def test_only_the_missing_parts_are_counted(tmp_path, no_network):
    fill(tmp_path / "Wan2.2-S2V-14B", {"Wan2.1_VAE.pth": b"x"})
    with pytest.raises(FileNotFoundError, match=r"about 11\.4 GB\)"):
        resolve_snapshot(WAN_S2V, known_files(WAN_S2V, "vae", "text"), tmp_path, download=False)


def test_cut_off_file_is_detected_before_use(tmp_path, no_network):
    files = contents()
    fill(tmp_path / "model", {**files, "weights.safetensors": files["weights.safetensors"][:-1]})
    with pytest.raises(FileNotFoundError, match=r"weights\.safetensors is cut off"):
        resolve_snapshot(REPO, FILES, tmp_path, download=False)


def test_unfinished_command_line_download_is_detected(tmp_path, no_network):
    fill(tmp_path / "model", {**contents(), ".cache/huggingface/download/tokenizer/x.incomplete": b"1"})
    with pytest.raises(FileNotFoundError, match=r"x\.incomplete is an unfinished download"):
        resolve_snapshot(REPO, FILES, tmp_path, download=False)


def test_any_of_several_alternatives_is_enough(tmp_path, no_network):
    fill(tmp_path / "model", {"b.json": b"{}"})
    assert resolve_snapshot(REPO, ["a.json|b.json"], tmp_path, download=False)
    with pytest.raises(FileNotFoundError, match=r"c\.json or d\.json is missing"):
        resolve_snapshot(REPO, ["c.json|d.json"], tmp_path, download=False)


def test_downloads_what_is_wanted_and_nothing_else(tmp_path, server):
    seen = []
    folder = resolve_snapshot(REPO, FILES, tmp_path, download=True, progress=lambda *pair: seen.append(pair))
    assert folder == tmp_path / "model"
    assert_complete(folder)
    total = sum(len(data) for name, data in contents().items() if name != "readme.md")
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {whole for _, whole in seen} == {total}


def test_first_existing_alternative_is_downloaded(tmp_path, server):
    folder = resolve_snapshot(REPO, ["absent.bin|config.json|readme.md"], tmp_path, download=True)
    assert [path.name for path in folder.iterdir()] == ["config.json"]


def test_present_files_are_not_downloaded_again(tmp_path, server):
    files = contents()
    del files["readme.md"], files["tokenizer/a.txt"]
    cut = files["weights.safetensors"][:-5]
    fill(tmp_path / "model", {**files, "config.json": b"{}", "weights.safetensors": cut})
    assert_complete(resolve_snapshot(REPO, FILES, tmp_path, download=True))
    fetched = {name.removeprefix("/storage/") for name in downloads(server)}
    assert fetched == {"config.json", "tokenizer/a.txt", "weights.safetensors"}


def test_broken_connection_is_continued_within_one_call(tmp_path, server):
    server.break_after = [400_000, 300_000]
    assert_complete(resolve_snapshot(REPO, FILES, tmp_path, download=True))
    ranges = [r for name, r, _ in server.requests if name.endswith("storage/weights.safetensors")]
    assert ranges == [None, "bytes=400000-", "bytes=700000-"]


def test_interrupted_download_is_continued_by_the_next_call(tmp_path, server):
    class Interrupt(Exception):
        pass

    def interrupt(done, total):
        if done > 1_000_000:
            raise Interrupt

    with pytest.raises(Interrupt):
        resolve_snapshot(REPO, ["weights.safetensors"], tmp_path, download=True, progress=interrupt)
    assert not (tmp_path / "model" / "weights.safetensors").exists()
    server.requests.clear()
    folder = resolve_snapshot(REPO, ["weights.safetensors"], tmp_path, download=True)
    assert (folder / "weights.safetensors").read_bytes() == contents()["weights.safetensors"]
    assert downloads(server) == ["/storage/weights.safetensors"]
    assert [r for _, r, _ in server.requests if r] == [
        f"bytes={1 << 20}-"
    ] * 2  # the redirect and the storage
    assert [path.name for path in folder.iterdir()] == ["weights.safetensors"]


def test_server_without_ranges_starts_over(tmp_path, server):
    server.ranges, server.break_after = False, [400_000]
    assert_complete(resolve_snapshot(REPO, FILES, tmp_path, download=True))


def test_lost_connection_is_reported_and_what_arrived_is_kept(tmp_path, server):
    server.break_after = [400_000] + [0] * 50
    with pytest.raises(
        RuntimeError, match=r"weights\.safetensors stopped after 400,000 of 1,2.* start again"
    ):
        resolve_snapshot(REPO, FILES, tmp_path, download=True)
    server.break_after = []
    assert_complete(resolve_snapshot(REPO, FILES, tmp_path, download=True))


def test_damaged_content_never_becomes_the_file(tmp_path, server):
    good = contents()["weights.safetensors"]
    server.corrupt = {"weights.safetensors": good[:-4] + b"oops"}
    with pytest.raises(ValueError, match=r"weights\.safetensors arrived damaged"):
        resolve_snapshot(REPO, FILES, tmp_path, download=True)
    assert not list((tmp_path / "model").glob("weights*"))
    server.corrupt = {}
    assert_complete(resolve_snapshot(REPO, FILES, tmp_path, download=True))


def test_an_answer_without_end_is_not_written_to_the_disk(tmp_path, server):
    good = contents()["weights.safetensors"]
    server.corrupt = {"weights.safetensors": good + bytes(3 << 20)}
    with pytest.raises(ValueError, match=r"another file: more than 1,2.* bytes"):
        resolve_snapshot(REPO, FILES, tmp_path, download=True)
    assert all(path.stat().st_size <= len(good) for path in (tmp_path / "model").glob("weights*"))
    server.corrupt = {}
    assert_complete(resolve_snapshot(REPO, FILES, tmp_path, download=True))


def test_token_goes_to_the_hub_but_not_to_its_storage(tmp_path, server):
    resolve_snapshot(REPO, ["config.json"], tmp_path, download=True)
    tokens = {name.split("/")[1]: token for name, _, token in server.requests if not name.startswith("/api")}
    assert tokens == {"owner": "Bearer secret", "storage": None}


@pytest.mark.parametrize("code", [401, 403])
def test_gated_repository(tmp_path, server, code):
    server.deny = code
    with pytest.raises(
        PermissionError, match=rf"needs a login: accept its terms on {server.endpoint}/{REPO}"
    ):
        resolve_snapshot(REPO, FILES, tmp_path, download=True)


def test_unknown_repository(tmp_path, server):
    with pytest.raises(PermissionError, match="owner/nothing does not exist on"):
        resolve_snapshot("owner/nothing", FILES, tmp_path, download=True)


def test_file_that_the_repository_lacks(tmp_path, server):
    with pytest.raises(ValueError, match=r"has no file other\.bin"):
        resolve_snapshot(REPO, ["other.bin"], tmp_path, download=True)
    assert not downloads(server)


def test_names_that_would_leave_the_folder_are_not_fetched(tmp_path, server):
    server.files = {"../evil.txt": b"x"}
    with pytest.raises(ValueError, match="has no file"):
        resolve_snapshot(REPO, ["*/*.txt"], tmp_path, download=True)


def test_full_disk_is_noticed_before_the_download(tmp_path, server, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=hub.SPARE_BYTES + 1000))
    with pytest.raises(OSError, match=r"owner/model needs .* more on the disk of .* which has 0\.3 GB free"):
        resolve_snapshot(REPO, FILES, tmp_path, download=True)
    assert not downloads(server)


def test_no_network(tmp_path, server, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match=r"127\.0\.0\.1:9 cannot be reached .* copy the files by hand"):
        resolve_snapshot(REPO, FILES, tmp_path, download=True)


def test_offline_mode_is_named(tmp_path, server, monkeypatch):
    def offline(*args, **kwargs):
        raise hub.OfflineModeIsEnabled

    monkeypatch.setattr(hub.HfApi, "model_info", offline)
    with pytest.raises(ConnectionError, match="HF_HUB_OFFLINE is set"):
        resolve_snapshot(REPO, FILES, tmp_path, download=True)


def test_leftovers_of_the_command_line_are_cleared_by_a_complete_download(tmp_path, server):
    fill(tmp_path / "model", {".cache/huggingface/download/tokenizer/x.incomplete": b"1"})
    folder = resolve_snapshot(REPO, FILES, tmp_path, download=True)
    assert_complete(folder)


def test_known_sets_name_every_part():
    assert set(FILE_SETS[WAN_S2V]) == {"transformer", "vae", "text", "audio"}
    everything = known_files(WAN_S2V)
    assert len(everything) == len(set(everything)) == sum(map(len, FILE_SETS[WAN_S2V].values()))
    assert known_files(WAN_S2V, "vae") == ["Wan2.1_VAE.pth"]
