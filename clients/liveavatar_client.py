"""A client of the LiveAvatar service of a ComfyUI. One file, Python 3.10 or newer, no package.

    python liveavatar_client.py portrait.png speech.wav video.mp4 --prompt "She smiles." --seed 42

As a library:

    client = Client("http://127.0.0.1:8188")
    video = client.submit("portrait.png", "speech.wav", seed=42)
    client.wait(video["id"])
    client.save(video["id"], "video.mp4")
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.5
PIECE = 1 << 16


class ServiceError(RuntimeError):
    """The service refuses or a video has failed; the message says why. ``status`` is that of HTTP, or None."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    """The service at ``url``; ``key`` where it asks for one (by default the variable LIVEAVATAR_HTTP_KEY)."""

    def __init__(self, url: str = "http://127.0.0.1:8188", key: str | None = None) -> None:
        self.url = url.rstrip("/")
        self.key = key or os.environ.get("LIVEAVATAR_HTTP_KEY")

    def submit(self, image: str | Path, audio: str | Path | None = None, **settings: Any) -> dict[str, Any]:
        """Queue a video: its id, seed and addresses.

        ``settings`` are the inputs of the service: text, voice, prompt, seed, num_inference_steps, guidance_scale, fps,
        seconds, workflow. None leaves them to the workflow.
        """
        wish = {name: value for name, value in settings.items() if value is not None}
        wish |= {"reference_image": _base64(image), "wait": False}
        if audio is not None:
            wish["audio"] = _base64(audio)
        return self._json("POST", "/liveavatar/generate", wish)

    def status(self, id_: str) -> dict[str, Any]:
        """How far a video is: state, ahead, frames, total_frames, and more."""
        return self._json("GET", f"/liveavatar/generate/{id_}")

    def wait(self, id_: str, watch: Callable[[dict[str, Any]], None] = lambda status: None) -> dict[str, Any]:
        """Wait for a video; ``watch`` is told its status now and then. ServiceError where it fails."""
        while (told := self.status(id_))["state"] in ("waiting", "running"):
            watch(told)
            time.sleep(POLL_SECONDS)
        if told["state"] != "finished":
            raise ServiceError(told["error"] or "The video was stopped.")
        return told

    def stop(self, id_: str) -> dict[str, Any]:
        """Stop a video, or take it out of the queue."""
        return self._json("DELETE", f"/liveavatar/generate/{id_}")

    def save(self, id_: str, target: str | Path) -> None:
        """Save a finished video."""
        part = Path(f"{target}.part")
        with self._open("GET", f"/liveavatar/generate/{id_}/file") as answer, part.open("wb") as file:
            shutil.copyfileobj(answer, file)
        part.replace(target)

    def stream(self, id_: str) -> Iterator[bytes]:
        """The bytes of a video while it is made. ServiceError where its run ends early."""
        with self._open("GET", f"/liveavatar/generate/{id_}/stream") as answer:
            try:
                while piece := answer.read1(PIECE):
                    yield piece
            except (http.client.IncompleteRead, ConnectionError) as error:
                raise ServiceError("Ask for the video's status: its run ended early.") from error

    def health(self) -> dict[str, Any]:
        """Whether the service takes videos, its free memory and its queue."""
        return self._json("GET", "/liveavatar/health")

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        with self._open(method, path, body) as answer:
            return json.load(answer)

    def _open(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            return urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            raise ServiceError(_message(error), error.code) from None


def _base64(file: str | Path) -> str:
    return base64.b64encode(Path(file).read_bytes()).decode()


def _message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return text or f"{error.code} {error.reason}"


def _show(status: dict[str, Any]) -> None:
    done = (
        f"{status['frames']} of {status['total_frames'] or '?'} frames"
        if status["frames"]
        else status["state"]
    )
    print(f"\r{done:<40}", end="", file=sys.stderr, flush=True)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Makes a talking portrait.")
    parser.add_argument("image", type=Path, help="portrait: PNG, JPEG or WebP")
    parser.add_argument("audio", type=Path, help="speech: WAV, FLAC, Ogg, MP3, AAC, MP4 or WebM")
    parser.add_argument("video", help="where to write the mp4; - writes it to the output while it is made")
    parser.add_argument(
        "--url", default="http://127.0.0.1:8188", help="a running ComfyUI (default %(default)s)"
    )
    parser.add_argument("--prompt", help="what the person does")
    parser.add_argument("--seed", type=int, help="a number; another one each time without it")
    parser.add_argument("--steps", type=int, dest="num_inference_steps", help="denoising steps")
    parser.add_argument(
        "--guidance", type=float, dest="guidance_scale", help="1 to 5, where the model knows it"
    )
    parser.add_argument("--fps", type=float, help="15 to 30 frames per second")
    parser.add_argument("--seconds", type=float, help="where the video ends at the latest")
    parser.add_argument("--workflow", help="demo: the tiny talker that comes with the pack")
    options = vars(parser.parse_args())
    client, target = Client(options.pop("url")), options.pop("video")
    try:
        video = client.submit(options.pop("image"), options.pop("audio"), **options)
        if target == "-":
            for piece in client.stream(video["id"]):
                sys.stdout.buffer.write(piece)
            return 0
        client.wait(video["id"], _show)
        client.save(video["id"], target)
    except (ServiceError, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print(f"\n{target} is written, seed {video['seed']}.", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
