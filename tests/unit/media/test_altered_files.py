"""An unfinished video, or what lies beside it, altered on the disk: the video is right, or begun anew and that said."""

from __future__ import annotations

import functools
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from avatar.engines.liveavatar.state import GenerationState
from avatar.media.frames import AvatarStream
from avatar.media.journal import growing_path, journal_path, state_path

from tests.gone_on import check_gone_on
from tests.unit.media.resumable_videos import (
    CONFIG,
    FRAMES,
    generated,
    heard,
    passes,
    pictures,
    stream,
    whole,
    whole_video,
)

KEPT = 33
VIDEO = Path("v_00001_.mp4")
BLOCKS = [*range(9, FRAMES, 12)]
Change = Callable[[bytes], bytes]


def quick() -> AvatarStream:
    """The stream, whose passes from the beginning are not computed again."""

    def start(state: GenerationState | None = None) -> Iterator[torch.Tensor]:
        begun = state is not None and state.first_frame > 0
        return passes(CONFIG, state) if begun else iter(torch.tensor_split(whole(), BLOCKS))

    video = stream()
    return AvatarStream(
        start,
        frames=FRAMES,
        width=video.width,
        height=video.height,
        audio=video.audio,
        resumable=video.resumable,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and sound of a run that nothing has disturbed."""
    path = whole_video(tmp_path_factory.mktemp("whole"))
    return pictures(path), heard(path)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stopped video, its journal, growing form and snapshot."""
    folder = tmp_path_factory.mktemp("stopped")
    path, _, _ = generated(folder, stream(), stop_after=KEPT)
    assert path.name == VIDEO.name and len(list(folder.iterdir())) == 4
    return folder


def flip(place: float, bit: int = 0) -> Change:
    """One bit, at a part of the length."""

    def change(data: bytes) -> bytes:
        altered = bytearray(data)
        altered[min(len(data) - 1, int(place * len(data)))] ^= 1 << bit
        return bytes(altered)

    return change


def at(offset: int, new: bytes) -> Change:
    return lambda data: data[:offset] + new + data[offset + len(new) :]


def header(edit: Callable[[dict], None]) -> Change:
    """A snapshot with another header, in the same room where it fits."""

    def change(data: bytes) -> bytes:
        size = int.from_bytes(data[:8], "little")
        values = json.loads(data[8 : 8 + size])
        edit(values)
        head = json.dumps(values).encode()
        head += b" " * max(-len(head) % 8, size - len(head))
        return len(head).to_bytes(8, "little") + head + data[8 + size :]

    return change


def metadata(**values: str) -> Change:
    return header(lambda head: head["__metadata__"].update(values))


def pair(head: dict) -> tuple[str, str]:
    """Two tensors of a snapshot that look the same."""
    names = [name for name in head if name.startswith("window.")]
    same = [name for name in names[1:] if head[name]["shape"] == head[names[0]]["shape"]]
    return names[0], same[0]


def swap_names(head: dict) -> None:
    one, other = pair(head)
    head[one], head[other] = head[other], head[one]


def tensor_data(write: Callable[[bytearray, tuple[int, int], tuple[int, int]], None]) -> Change:
    """A snapshot whose two tensors of the same look are written to."""

    def change(data: bytes) -> bytes:
        size = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + size])
        altered = bytearray(data)
        places = [tuple(8 + size + end for end in head[name]["data_offsets"]) for name in pair(head)]
        write(altered, *places)
        return bytes(altered)

    return change


def not_a_number(data: bytearray, one: tuple[int, int], other: tuple[int, int]) -> None:
    data[slice(*one)] = struct.pack("<f", float("nan")) * ((one[1] - one[0]) // 4)


def exchange(data: bytearray, one: tuple[int, int], other: tuple[int, int]) -> None:
    data[slice(*one)], data[slice(*other)] = data[slice(*other)], data[slice(*one)]


def zeros(data: bytearray, one: tuple[int, int], other: tuple[int, int]) -> None:
    data[slice(*one)] = bytes(one[1] - one[0])


def journal(**changes: object) -> Change:
    """A journal with other values; a function makes one of the value before."""

    def change(data: bytes) -> bytes:
        values = json.loads(data)
        for name, value in changes.items():
            values[name] = value(values[name]) if callable(value) else value
        return json.dumps(values, indent=1).encode()

    return change


def fragments_exchanged(data: bytes) -> bytes:
    """The second and the third fragment of a growing video in each other's place."""
    boxes, offset = [], 0
    while offset < len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        boxes.append(data[offset : offset + size])
        offset += size
    first, *later = [n for n, box in enumerate(boxes) if box[4:8] == b"moof"]
    assert first and len(later) == 2
    return b"".join(boxes[: later[0]] + boxes[later[1] :] + boxes[later[0] : later[1]])


def more(value: int) -> int:
    return value + 1


def less(value: int) -> int:
    return value - 1


SNAPSHOT: dict[str, Change] = {
    **{f"bit {n}/16": flip(n / 16, n % 8) for n in range(16)},
    "last bit": flip(1.0),
    "length of the header": flip(0.0, 3),
    "a header without end": at(0, b"\xff" * 7 + b"\x7f"),
    "NaN": tensor_data(not_a_number),
    "zeros": tensor_data(zeros),
    "tensors swapped": tensor_data(exchange),
    "names swapped": header(swap_names),
    "one block more": metadata(blocks="4"),
    "one block less": metadata(blocks="2"),
    "no block": metadata(blocks="0"),
    "blocks that are no number": metadata(blocks="x"),
    "of another video": metadata(fingerprint="x"),
    "another type": header(lambda head: head["first_latent"].update(dtype="I32")),
    "a nested header": lambda data: (200_000).to_bytes(8, "little") + b"[" * 200_000 + data,
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "ten bytes": lambda data: data[:10],
    "empty": lambda data: b"",
}
JOURNAL: dict[str, Change] = {
    **{f"bit {n}/12": flip(n / 12, n % 7) for n in range(12)},
    "one frame more": journal(frames=more),
    "one frame less": journal(frames=less),
    "one fragment more": journal(fragments=more),
    "one fragment less": journal(fragments=less),
    "one byte more": journal(size=more),
    "one byte less": journal(size=less),
    "as of the first block": journal(frames=9, fragments=1),
    "NaN frames": journal(frames=float("nan")),
    "endless": journal(size=10**400),
    "text": journal(frames=str),
    "nested": lambda data: b"[" * 100_000,
    "nested inside": journal(about=lambda _: functools.reduce(lambda inner, _: [inner], range(900), 1)),
    "a list": lambda data: b"[]",
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "no text": lambda data: bytes(range(256)),
}
GROWING: dict[str, Change] = {
    **{f"bit {n}/6": flip(n / 6, n) for n in range(6)},
    "fragments swapped": fragments_exchanged,
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "one byte more": lambda data: data + b"\0",
    "empty": lambda data: b"",
}
CASES = [
    pytest.param(path_of, change, id=f"{what}: {name}")
    for what, path_of, changes in (
        ("snapshot", state_path, SNAPSHOT),
        ("journal", journal_path, JOURNAL),
        ("video", growing_path, GROWING),
    )
    for name, change in changes.items()
]


@pytest.mark.parametrize(("path_of", "change"), CASES)
def test_an_altered_file_never_makes_a_wrong_video(tmp_path, stopped, undisturbed, path_of, change):
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    altered = path_of(tmp_path / VIDEO)
    altered.write_bytes(change(altered.read_bytes()))
    said: list[str] = []
    path, made, _ = generated(tmp_path, quick(), limit=0, say=said.append)
    expected, sound = undisturbed
    check_gone_on(pictures(path), expected, KEPT)
    np.testing.assert_allclose(heard(path), sound, atol=2e-2)
    if path.name != VIDEO.name or len(made) > FRAMES - KEPT:
        assert len(said) == 1 and altered.name in said[0], "what is begun anew, or made again, is said"
    # Nothing is left that a later run would stumble over.
    assert {file.name for file in tmp_path.iterdir()} == {VIDEO.name, path.name}


def test_without_any_change_it_goes_on_and_nothing_is_said(tmp_path, stopped, undisturbed):
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    said: list[str] = []
    path, made, _ = generated(tmp_path, quick(), limit=0, say=said.append)
    assert not said and path.name == VIDEO.name and len(made) == FRAMES - KEPT
    check_gone_on(pictures(path), undisturbed[0], KEPT)


def test_a_snapshot_of_a_later_block_than_the_file_holds_is_not_used(tmp_path, stopped, undisturbed):
    path, _, _ = generated(tmp_path, stream(), stop_after=KEPT - 12)
    shutil.copy(state_path(stopped / VIDEO), state_path(path))
    said: list[str] = []
    again, made, _ = generated(tmp_path, quick(), limit=0, say=said.append)
    assert again == path and len(made) == FRAMES and "is ahead of its video" in said[0]
    check_gone_on(pictures(path), undisturbed[0], KEPT - 12)
