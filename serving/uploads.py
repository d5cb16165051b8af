"""Pictures and sounds that come with a request, checked and put where the host's loaders find them."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from pathlib import Path

import folder_paths
from server import PromptServer

from ..host.folders import inside
from ..jobs.access import Refusal, refusing
from ..jobs.request import DECODED_BYTES, PICTURE_BYTES, SOUND_BYTES, sent_bytes
from ..media.audio import check_clip
from ..media.portrait import picture_format

FOLDER = "liveavatar_requests"
"""Below the host's temporary folder, which it empties when it starts."""
KEPT_SECONDS, KEPT_BYTES = 3600.0, 4 << 30
"""A file that no waiting or running prompt names is removed after this time, or earlier where all are larger."""
ARRIVING_SECONDS = 60.0
"""Within this time the prompt of a new file is on its way into the queue."""
OTHER = ", or as a name with its ending in ComfyUI's input folder"

_files = threading.Lock()  # over the folder of uploads


def picture(value: str, name: str) -> str:
    """The name by which Load Image knows a picture: base64, a data URL, or a name in the input folder."""
    data = sent_bytes(value, name, PICTURE_BYTES, OTHER)
    if data is None:
        return _named(value, name)
    with refusing():
        ending = picture_format(data, name)
    return _keep(data, f".{ending}")


def sound(value: str, name: str) -> str:
    """The same for sound and Load Audio."""
    data = sent_bytes(value, name, SOUND_BYTES, OTHER)
    if data is None:
        return _named(value, name)
    with refusing():
        kind = check_clip(data, name, DECODED_BYTES)
    return _keep(data, ".mkv" if kind == "matroska" else f".{kind}")


def forget_unused() -> None:
    """Remove files of earlier requests that no waiting or running prompt names."""
    folder = Path(folder_paths.get_temp_directory()) / FOLDER
    if not folder.is_dir():
        return
    running, waiting = PromptServer.instance.prompt_queue.get_current_queue_volatile()
    wanted = json.dumps([item[2] for item in (*running, *waiting)])
    with _files:
        found = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in folder.iterdir())
        total, now = sum(size for _, size, _ in found), time.time()
        for changed, size, file in found:
            kept = KEPT_SECONDS if total <= KEPT_BYTES else ARRIVING_SECONDS
            if file.name not in wanted and now - changed > kept:
                file.unlink(missing_ok=True)
                total -= size


def _named(value: str, name: str) -> str:
    with refusing():
        found = inside(f"{value} [input]").is_file()
    if not found:
        raise Refusal(400, f"Choose another {name}: ComfyUI's input folder has no such file.")
    return value


def _keep(data: bytes, ending: str) -> str:
    """Put a file into the temporary folder, once under one name, and return the name for loaders."""
    folder = Path(folder_paths.get_temp_directory()) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / (hashlib.sha256(data).hexdigest() + ending)
    with _files:
        if not file.is_file():
            part = file.with_name(f"{file.name}.part")
            part.write_bytes(data)
            part.replace(file)
        file.touch()
    return f"{FOLDER}/{file.name} [temp]"
