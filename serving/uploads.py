"""Pictures and sounds that come with a request, checked and put where the host's loaders find them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import threading
import time
from pathlib import Path

import folder_paths
from PIL import Image
from server import PromptServer

from ..host.folders import inside
from ..media.audio import CLIP_RATE, clip_format
from ..media.sound_file import open_sound
from .access import Refusal

FOLDER = "liveavatar_requests"
"""Below the host's temporary folder, which it empties when it starts."""
KEPT_SECONDS, KEPT_BYTES = 3600.0, 4 << 30
"""A file that no waiting or running prompt names is removed after this time, or earlier where all are larger."""
ARRIVING_SECONDS = 60.0
"""Within this time the prompt of a new file is on its way into the queue."""
PICTURE_BYTES, SOUND_BYTES = 32 << 20, 64 << 20
PICTURE_PIXELS = 64 << 20
DECODED_BYTES = 1 << 30
"""Size of a sound as float32; more belongs into files."""
PICTURES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}

_files = threading.Lock()  # over the folder of uploads


def picture(value: str, name: str) -> str:
    """The name by which Load Image knows a picture: base64, a data URL, or a name in the input folder."""
    data = _bytes(value, name, PICTURE_BYTES)
    return _named(value, name) if data is None else _keep(data, _picture_ending(data, name))


def sound(value: str, name: str) -> str:
    """The same for sound and Load Audio."""
    data = _bytes(value, name, SOUND_BYTES)
    return _named(value, name) if data is None else _keep(data, _sound_ending(data, name))


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


def _bytes(value: str, name: str, most: int) -> bytes | None:
    """The bytes of base64 or of a data URL; None for a name, which has an ending behind a point."""
    if value.startswith("data:"):
        head, comma, value = value.partition(",")
        if not comma or not head.endswith(";base64"):
            raise Refusal(400, f"Send {name} as base64: its data URL has none.")
    elif "." in value:
        return None
    if len(value) // 4 * 3 > most + 3:
        raise Refusal(
            413, f"Put {name} into ComfyUI's input folder and send its name: {most >> 20} MB may be sent."
        )
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(
            400,
            f"Send {name} as base64, or as a name with its ending in ComfyUI's input folder: it is neither.",
        ) from error


def _named(value: str, name: str) -> str:
    try:
        found = inside(f"{value} [input]").is_file()
    except ValueError as error:
        raise Refusal(400, str(error)) from error
    if not found:
        raise Refusal(400, f"Choose another {name}: ComfyUI's input folder has no such file.")
    return value


def _picture_ending(data: bytes, name: str) -> str:
    try:
        with Image.open(io.BytesIO(data), formats=list(PICTURES)) as opened:  # reads the header only
            width, height = opened.size
            ending, pictures = PICTURES[opened.format], getattr(opened, "n_frames", 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Refusal(
            400, f"Send {name} as PNG, JPEG or WebP: these bytes are none that can be read."
        ) from error
    if width * height > PICTURE_PIXELS or pictures != 1:
        raise Refusal(
            400,
            f"Send {name} as one picture of at most {PICTURE_PIXELS >> 20} million pixels: it is {pictures} of "
            f"{width}x{height}.",
        )
    return ending


def _sound_ending(data: bytes, name: str) -> str:
    kind = clip_format(data)
    if kind is None:
        raise Refusal(400, f"Send {name} as WAV, FLAC, Ogg, MP3, AAC, MP4 or WebM: these bytes are none.")
    size = 0
    try:
        with open_sound(io.BytesIO(data), name, kind, CLIP_RATE) as opened:
            for _, _, piece in opened.pieces():
                size += piece.numel() * piece.element_size()
                if size > DECODED_BYTES:
                    raise Refusal(
                        413,
                        f"Put {name} into ComfyUI's input folder and send its name: decoded it is more than "
                        f"{DECODED_BYTES >> 30} GB.",
                    )
    except ValueError as error:
        raise Refusal(400, str(error)) from error
    if not size:
        raise Refusal(400, f"Send another {name}: there is no sound in it.")
    return ".mkv" if kind == "matroska" else f".{kind}"


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
