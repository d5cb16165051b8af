"""Ditto's published settings, read from their pickle without running any of it.

The file is a dictionary of numbers, texts and arrays. Its few names of numpy's functions are answered with stand-ins
that only note down what is said about an array, and every other name is refused, so no code of the file or of numpy
runs.
"""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...engines.ditto.conditions import Character
from ...engines.ditto.config import EMOTIONS
from ...engines.ditto.motion import FaceMotion
from ..files import check_file

LARGEST = 1_000_000
"""Bytes of the file; the published one has 31,002."""
MOST_VALUES = 100_000
KINDS = ("f4", "f8", "i4", "i8")
EXPRESSION, MOTION = 63, 265


@dataclass(frozen=True)
class DittoSettings:
    """What the published settings say that is no number of a table.

    Attributes:
        emotions: rows ``[m, 8]`` that frames go through.
        blink: shifts of the expression during a blink, ``[length, 63]``.
        bounds: lower and upper bounds of the motion vector, ``[2, 265]``.
        character: the reference character that motion is made for.
    """

    emotions: Tensor
    blink: Tensor
    bounds: Tensor
    character: Character


def read_settings(path: Path) -> DittoSettings:
    """The settings of a file; FileNotFoundError when it is missing, ValueError, naming it, when it is another one."""
    check_file(path)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"Choose Ditto's settings: {path} is too large for them.")
    try:
        values = _Reader(io.BytesIO(path.read_bytes())).load()["default_kwargs"]
        return DittoSettings(
            emotions=_rows(values["emo"], len(EMOTIONS)),
            blink=_rows(values["delta_eye_arr"], EXPRESSION),
            bounds=_rows(values["v_min_max_for_clip"], MOTION)[:2],
            character=_character(values["ch_info"]),
        )
    except (
        pickle.UnpicklingError,
        EOFError,
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
    ) as error:
        raise ValueError(
            f"Download {path} again, or remove it to go by the portrait itself: it holds no settings of Ditto "
            f"({type(error).__name__}: {error})."
        ) from error


def _character(info: Mapping[str, Any]) -> Character:
    motion = info["x_s_info_lst"][0]
    widths = {"scale": 1, "pitch": 66, "yaw": 66, "roll": 66, "t": 3, "exp": EXPRESSION, "kp": EXPRESSION}
    heads = {name: _rows(motion[name], width)[:1] for name, width in widths.items()}
    return Character(
        FaceMotion.of_heads(heads),
        _rows(info["eye_open_lst"][0], 2)[:1],
        _rows(info["eye_ball_lst"][0], 6)[:1],
    )


def _rows(value: Any, width: int) -> Tensor:
    """An array, a number or a list as float32 ``[n, width]``."""
    array = value.array() if isinstance(value, _Array) else np.asarray(value, dtype=np.float64)
    if array.size == 0 or array.size % width or not np.isfinite(array).all():
        raise ValueError(f"{array.shape} are no rows of {width} numbers")
    return torch.from_numpy(array.reshape(-1, width).astype(np.float32))


class _Kind:
    """What a file says of an array's numbers."""

    def __init__(self, name: str, *_: Any):
        self.name = name

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def dtype(self) -> np.dtype:
        if self.name not in KINDS:
            raise ValueError(f"numbers of the kind {self.name!r:.20}")
        return np.dtype(f"{'>' if getattr(self, 'order', '<') == '>' else '<'}{self.name}")


class _Array:
    """What a file says of an array; the bytes become numbers when they are asked for."""

    def __init__(self, *_: Any):
        self.shape: tuple[int, ...] = ()

    def __setstate__(self, state: tuple) -> None:
        _, self.shape, self.kind, self.by_columns, self.data = state

    def array(self) -> np.ndarray:
        count = math.prod(self.shape)
        if not 0 < count <= MOST_VALUES:
            raise ValueError(f"an array of {count} numbers")
        data = self.data.encode("latin1") if isinstance(self.data, str) else self.data
        flat = np.frombuffer(data, self.kind.dtype(), count)
        return flat.reshape(self.shape, order="F" if self.by_columns else "C")


def _scalar(kind: _Kind, data: bytes | str) -> float:
    data = data.encode("latin1") if isinstance(data, str) else data
    return float(np.frombuffer(data, kind.dtype(), 1)[0])


def _encode(text: str, encoding: str) -> bytes:
    """The way in which old protocols write bytes."""
    return text.encode("latin1")


def _from_buffer(data: Any, kind: _Kind, shape: tuple[int, ...], order: str) -> _Array:
    """The way in which the newest protocol writes arrays."""
    array = _Array()
    array.__setstate__((1, shape, kind, order == "F", bytes(data)))
    return array


STAND_INS = {
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _Array for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


class _Reader(pickle._Unpickler):  # the one in C takes memory by numbers in the file
    def find_class(self, module: str, name: str) -> Any:
        """A stand-in; UnpicklingError for every name that arrays do not need."""
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it asks for {module:.60}.{name:.60}")
        return STAND_INS[module, name]
