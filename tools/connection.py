"""A ComfyUI at an address, over its HTTP interface. Needs the standard library only."""

from __future__ import annotations

import json
import math
import shutil
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from jobs.answers import refusal

HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""For a host on this machine: a proxy from the environment must not be asked for it."""
REMOTE = urllib.request.build_opener()
SECONDS = 30
FORM_BYTES = 4096
"""More than what a form has beside its file."""


class HostError(RuntimeError):
    """The host did not start, refused a workflow or failed while running it; the message says why."""


class Connection:
    """ComfyUI at ``url``, such as http://127.0.0.1:8188."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        name = urllib.parse.urlsplit(self.url).hostname or ""
        self._opener = HTTP if name == "localhost" or name.startswith("127.") or name == "::1" else REMOTE

    def get(self, path: str) -> Any:
        """The JSON answer to a GET request."""
        with self._opener.open(self.url + path, timeout=SECONDS) as answer:
            return json.load(answer)

    def post(self, path: str, body: Any) -> Any:
        """The JSON answer (or None for an empty one) to a POST request with a JSON body."""
        return self._post(path, json.dumps(body).encode(), "application/json")

    def submit(
        self,
        workflow: dict[str, Any],
        client_id: str | None = None,
        extra_data: dict[str, Any] | None = None,
        prompt_id: str | None = None,
    ) -> str:
        """Queue a workflow in API format, return its prompt id; HostError says why it was refused."""
        body = {
            "prompt": workflow,
            "client_id": client_id or uuid.uuid4().hex,
            "extra_data": extra_data or {},
            "prompt_id": prompt_id or str(uuid.uuid4()),
        }
        try:
            return self.post("/prompt", body)["prompt_id"]
        except urllib.error.HTTPError as error:
            if error.code != 400:  # the host's own refusals say why, in JSON
                raise
            raise HostError(refusal(json.load(error))) from None

    def finished(self, prompt_id: str) -> dict[str, Any] | None:
        """The history entry of a prompt that has ended, well or not."""
        return self.get(f"/history/{prompt_id}").get(prompt_id)

    def interrupt(self) -> None:
        """Ask the host to stop what it runs."""
        self.post("/interrupt", {})

    def send(self, file: Path, name: str, subfolder: str = "") -> str:
        """Put a file into the host's input folder and return the name that nodes know it by.

        Raises:
            HostError: it is larger than the host lets in, which would cut the connection.
        """
        size, most = file.stat().st_size + FORM_BYTES, self.get("/features")["max_upload_size"]
        if size > most:
            raise HostError(
                f"Start ComfyUI with --max-upload-size {math.ceil(size / 2**20)}, or shorten {file.name}: the host "
                f"takes {most / 2**20:g} MB."
            )
        border = uuid.uuid4().hex
        fields = {"subfolder": subfolder, "overwrite": "true"}
        head = "".join(
            f'--{border}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
            for key, value in fields.items()
        )
        head += (
            f'--{border}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        )
        body = head.encode() + file.read_bytes() + f"\r\n--{border}--\r\n".encode()
        kept = self._post("/upload/image", body, f"multipart/form-data; boundary={border}")
        return f"{kept['subfolder']}/{kept['name']}".lstrip("/")

    def download(self, place: dict[str, str], target: Path) -> None:
        """Save a file of the host, by its filename, subfolder and type; ``target`` is there only once it is whole."""
        part = target.with_name(target.name + ".part")
        with (
            self._opener.open(f"{self.url}/view?{urllib.parse.urlencode(place)}", timeout=SECONDS) as answer,
            part.open("wb") as file,
        ):
            shutil.copyfileobj(answer, file)
            expected = answer.headers.get("Content-Length")
        if expected is not None and part.stat().st_size != int(expected):
            raise ConnectionError(f"{target.name} has not arrived whole.")
        part.replace(target)

    def _post(self, path: str, body: bytes, kind: str) -> Any:
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind})
        with self._opener.open(request, timeout=SECONDS) as answer:
            text = answer.read()
        return json.loads(text) if text else None
