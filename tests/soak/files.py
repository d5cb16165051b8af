"""Files that are not what their names say, or far more than their size says, in every loader of the pack."""

from __future__ import annotations

import json
import struct
import wave
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.host.media import encode_audio, tone, write_wav
from tests.host.workflows import change, every

from .attack import Attack, alone
from .stage import Stage

LONG = 400_000


def attacks(stage: Stage) -> Iterator[Attack]:
    """Every bad file in every node that reads files of its kind."""
    folder = stage.host.input_dir
    for name, write in SOUNDS.items():
        write(folder / name)
        yield _with(stage, "speech file", "LiveAvatarLoadSpeechFile", audio=name)
        yield _with(stage, "live speech", "LiveAvatarLiveSpeech", file=name)
    for name, rows in BATCHES.items():
        (folder / name).write_bytes(rows)
        yield _with(stage, "batch", "AvatarBatch", file=name)
    for name, write in PICTURES.items():
        write(folder / name)
        row = {"image": name, "audio": "speech.wav", "output": "one", "seed": 1}
        (folder / f"{name}.json").write_text(json.dumps([row]))
        yield _with(stage, "batch", "AvatarBatch", file=f"{name}.json")
    for name in ("nothing.wav", "text.wav", "header.wav", "no-samples.wav", "cut-off.mp4", "huge.png"):
        yield _with(stage, "personalive", "PersonaLiveExtractMotion", "LoadVideo", file=name)
        yield _with(stage, "measured", "AvatarMeasureVideo", "LoadVideo", file=name)
    yield from _weights(stage)


def _with(stage: Stage, workflow: str, node: str, loader: str = "", **inputs: str) -> Attack:
    graph = alone(stage.workflows[workflow], every(stage.workflows[workflow], node)[0])
    change(graph, loader or node, **inputs)
    return Attack("files", f"{node} of {next(iter(inputs.values()))}", graph)


def _weights(stage: Stage) -> Iterator[Attack]:
    """Weight files whose header lies, in a copy of the tiny models."""
    loras = stage.host.models_dir / "loras"
    for name, data in HEADERS.items():
        (loras / f"{name}.safetensors").write_bytes(data)
        yield _with(stage, "lora", "LiveAvatarApplyLora", lora=f"{name}.safetensors")
        (stage.host.models_dir / "vae_approx" / f"{name}-taew2_1.safetensors").write_bytes(data)
        yield _with(stage, "decoder", "LiveAvatarLoadFastDecoder", decoder=f"{name}-taew2_1.safetensors")


def _bytes(data: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(data)


def _wav_header(channels: int, rate: int, size: int) -> bytes:
    block = channels * 2
    head = struct.pack(
        "<4sI4s4sIHHIIHH",
        b"RIFF",
        36 + size & 0xFFFFFFFF,
        b"WAVE",
        b"fmt ",
        16,
        1,
        channels,
        rate,
        rate * block & 0xFFFFFFFF,
        block & 0xFFFF,
        16,
    )
    return head + b"data" + struct.pack("<I", size & 0xFFFFFFFF)


def _silence(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))


def _flac(path: Path) -> None:
    """An hour of silence at the highest rate, in some kilobytes a minute."""
    encode_audio(path, "flac", "s16", tone(0.01, 16_000, 1).repeat(20_000, 0) * 0, 655_350)


def _cut_off(path: Path) -> None:
    whole = (path.parent / "driving.mp4").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


SOUNDS: dict[str, Callable[[Path], object]] = {
    "nothing.wav": _bytes(b""),
    "text.wav": _bytes(b"no sound " * 100),
    "header.wav": _bytes(_wav_header(1, 16_000, 1 << 31)),
    "rate-0.wav": _bytes(_wav_header(1, 0, 100) + bytes(100)),
    "channels-0.wav": _bytes(_wav_header(0, 16_000, 100) + bytes(100)),
    "channels-60000.wav": _bytes(_wav_header(60_000, 16_000, 240_000) + bytes(240_000)),
    "rate-4000000000.wav": _bytes(_wav_header(1, 4_000_000_000, 1000) + bytes(1000)),
    "no-samples.wav": _silence,
    "10-ms.wav": lambda path: write_wav(path, tone(0.01, 16_000, 1), 16_000),
    "5-channels.wav": lambda path: write_wav(path, tone(0.3, 16_000, 5), 16_000),
    "bomb.flac": _flac,
    "picture.wav": lambda path: path.write_bytes((path.parent / "face.png").read_bytes()),
    "cut-off.mp4": _cut_off,
}
BATCHES: dict[str, bytes] = {
    "nothing.json": b"",
    "nothing.csv": b"",
    "no-list.json": b"{}",
    "no-rows.json": b"[]",
    "nested.json": b"[" * LONG,
    "numbers.json": b'[1, null, true, [], "a", 1e999]',
    "digits.json": b"[" + b"9" * 100_000 + b"]",
    "not-utf-8.csv": b"image,audio\n\xff\xfe,\xff\n",
    "one-long-line.csv": b"image,audio\n" + b"a" * LONG + b",b\n",
    "quote.csv": b'image,audio\n"a,b\n',
    "zeros.csv": b"image,audio\n\0,\0\n",
    "upwards.json": json.dumps([{"image": "../../../etc/passwd", "audio": "/etc/passwd"}]).encode(),
    "markup.json": json.dumps([{"image": "<img src=x>.png", "audio": "a\0b.wav"}]).encode(),
    "odd-values.json": json.dumps(
        [
            {"image": "portrait.png", "audio": "speech.wav", key: value, "output": f"{number}"}
            for number, (key, value) in enumerate(
                [
                    ("seed", -1),
                    ("seed", 1e400),
                    ("seed", []),
                    ("fps", "x"),
                    ("fps", 1e9),
                    ("seconds", -1),
                    ("prompt", {}),
                    ("steps", 10**30),
                    ("output", "../up"),
                    ("output", "a" * 300),
                    ("guidance", None),
                ]
            )
        ]
    )
    .replace("Infinity", "1e400")
    .encode(),
}


def _png(width: int, height: int, rows: int) -> Callable[[Path], None]:
    """A grey picture whose header promises ``height`` rows; one bit a pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def write(path: Path) -> None:
        packer, line = zlib.compressobj(9), bytes(1 + (width + 7) // 8)
        data = b"".join([packer.compress(line) for _ in range(rows)]) + packer.flush()
        head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
        )

    return write


PICTURES: dict[str, Callable[[Path], object]] = {
    "1x1.png": _png(1, 1, 1),
    "huge.png": _png(20_000, 20_000, 20_000),
    "promise.png": _png(20_000, 20_000, 1),
    "bomb.png": _png(2**31 - 1, 1, 0),
    "nothing.png": _bytes(b""),
    "text.png": _bytes(b"no picture"),
    "sound.png": lambda path: path.write_bytes((path.parent / "speech.wav").read_bytes()),
}


def _header(text: bytes, size: int | None = None) -> bytes:
    return (len(text) if size is None else size).to_bytes(8, "little") + text


def _tensor(shape: list, end: int, name: str = "a", dtype: str = "F32") -> bytes:
    return _header(json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": [0, end]}}).encode())


HEADERS: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x01",
    "endless": _header(b"{}", 2**63),
    "nested": _header(b"[" * LONG),
    "no-json": _header(b"nonsense"),
    "a-list": _header(b"[]"),
    "no-tensors": _header(b"{}"),
    "huge": _tensor([10**6, 10**6], 4 * 10**12),
    "negative": _tensor([-1], 4) + bytes(4),
    "overflow": _tensor([2**62, 4], 4) + bytes(4),
    "short-data": _tensor([100], 400) + bytes(4),
    "unknown-type": _tensor([1], 4, dtype="F99") + bytes(4),
    "unknown-key": _tensor([1], 4) + bytes(4),
    "lora-of-nothing": _tensor([0, 0], 0, "diffusion_model.blocks.0.self_attn.q.lora_A.weight"),
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "zip": b"PK\x03\x04" + bytes(100),
}
"""Weight files that are none."""
