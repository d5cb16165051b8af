"""Things that no node expects behind a link, by the type of the input that they are given to."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

NAN, INFINITE = float("nan"), float("inf")
Make = Callable[[], Any]


def _picture(*shape: int, value: float | None = None, kind: torch.dtype = torch.float32) -> Make:
    def make() -> torch.Tensor:
        made = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        return (made if value is None else torch.full_like(made, value)).to(kind)

    return make


def _sound(channels: int = 1, seconds: float = 0.3, rate: Any = 16_000, **changed: Any) -> Make:
    def make() -> dict[str, Any]:
        samples = int(seconds * 16_000)
        tone = 0.3 * torch.sin(torch.arange(samples) / 10).expand(1, channels, samples)
        return {"waveform": tone, "sample_rate": rate} | changed

    return make


def _waveform(change: Callable[[torch.Tensor], Any]) -> Make:
    return lambda: {"waveform": change(_sound()()["waveform"]), "sample_rate": 16_000}


class _Video:
    """A VIDEO of another pack that cannot be read."""

    def get_components(self) -> Any:
        raise ValueError("the disk was removed")

    def get_dimensions(self) -> tuple[int, int]:
        return 64, 64

    def get_stream_source(self) -> Any:
        return io.BytesIO(b"no video")

    def get_duration(self) -> float:
        raise ValueError("the disk was removed")


NOTHING: dict[str, Make] = {
    "None": lambda: None,
    "a text": lambda: "a text",
    "a number": lambda: 3,
    "an empty list": lambda: [],
    "a dictionary": lambda: {"a": 1},
    "an object": object,
}
IMAGE = {
    "no pictures": _picture(0, 64, 64, 3),
    "no pixels": _picture(1, 0, 64, 3),
    "NaN": _picture(1, 64, 64, 3, value=NAN),
    "infinite": _picture(1, 64, 64, 3, value=INFINITE),
    "one NaN": lambda: torch.cat([_picture(1, 63, 64, 3)(), _picture(1, 1, 64, 3, value=NAN)()], 1),
    "huge values": _picture(1, 64, 64, 3, value=1e30),
    "1x1": _picture(1, 1, 1, 3),
    "20000x1": _picture(1, 1, 20_000, 3),
    "1x20000": _picture(1, 20_000, 1, 3),
    "20000x40": _picture(1, 40, 20_000, 3),
    "1 channel": _picture(1, 64, 64, 1),
    "2 channels": _picture(1, 64, 64, 2),
    "4 channels": _picture(1, 64, 64, 4),
    "5 channels": _picture(1, 64, 64, 5),
    "3 dimensions": _picture(64, 64, 3),
    "5 dimensions": _picture(1, 1, 64, 64, 3),
    "channels first": _picture(1, 3, 64, 64),
    "bytes": lambda: (_picture(1, 64, 64, 3)() * 255).to(torch.uint8),
    "truth values": lambda: _picture(1, 64, 64, 3)() > 0.5,
    "float16": _picture(1, 64, 64, 3, kind=torch.float16),
    "float64": _picture(1, 64, 64, 3, kind=torch.float64),
    "complex": _picture(1, 64, 64, 3, kind=torch.complex64),
    "an array": lambda: _picture(1, 64, 64, 3)().numpy(),
    "a list of pictures": lambda: [_picture(64, 64, 3)()],
    "three pictures": _picture(3, 64, 64, 3),
    "with gradient": lambda: _picture(1, 64, 64, 3)().requires_grad_(),
    "black": _picture(1, 64, 64, 3, value=0.0),
}
MASK = {
    "no masks": _picture(0, 64, 64),
    "no pixels": _picture(1, 0, 0),
    "NaN": _picture(1, 64, 64, value=NAN),
    "empty": _picture(1, 64, 64, value=0.0),
    "everything": _picture(1, 64, 64, value=1.0),
    "negative": _picture(1, 64, 64, value=-5.0),
    "huge values": _picture(1, 64, 64, value=1e30),
    "2 dimensions": _picture(64, 64),
    "4 dimensions": _picture(1, 1, 64, 64),
    "channels last": _picture(1, 64, 64, 1),
    "1x1": _picture(1, 1, 1),
    "20000x1": _picture(1, 1, 20_000),
    "truth values": lambda: _picture(1, 64, 64)() > 0.5,
    "bytes": lambda: (_picture(1, 64, 64)() * 255).to(torch.uint8),
    "another size": _picture(1, 33, 71),
    "seven masks": _picture(7, 64, 64),
    "an array": lambda: _picture(1, 64, 64)().numpy(),
}
AUDIO = {
    "no keys": dict,
    "no waveform": lambda: {"sample_rate": 16_000},
    "no rate": lambda: {"waveform": torch.zeros(1, 1, 1600)},
    "waveform None": _sound(waveform=None),
    "waveform a list": _sound(waveform=[0.0, 0.1]),
    "an array": _waveform(lambda wave: wave.numpy()),
    "1 dimension": _waveform(lambda wave: wave[0, 0]),
    "2 dimensions": _waveform(lambda wave: wave[0]),
    "4 dimensions": _waveform(lambda wave: wave[None]),
    "no samples": _sound(seconds=0),
    "one sample": _sound(seconds=1 / 16_000),
    "0.01 s": _sound(seconds=0.01),
    "no channels": _waveform(lambda wave: wave[:, :0]),
    "no sounds": _waveform(lambda wave: wave[:0]),
    "two sounds": _waveform(lambda wave: wave.repeat(2, 1, 1)),
    "5 channels": _sound(channels=5),
    "300 channels": _sound(channels=300),
    "rate 0": _sound(rate=0),
    "rate -1": _sound(rate=-16_000),
    "rate 1": _sound(rate=1),
    "rate 10^9": _sound(rate=10**9),
    "rate NaN": _sound(rate=NAN),
    "rate infinite": _sound(rate=INFINITE),
    "rate a text": _sound(rate="16000"),
    "rate None": _sound(rate=None),
    "rate 16000.5": _sound(rate=16000.5),
    "rate of numpy": _sound(rate=np.int64(16_000)),
    "rate a tensor": _sound(rate=torch.tensor(16_000)),
    "NaN": _waveform(lambda wave: wave * NAN),
    "one NaN": _waveform(lambda wave: torch.cat([wave, wave[..., :1] * NAN], -1)),
    "infinite": _waveform(lambda wave: wave * INFINITE),
    "huge values": _waveform(lambda wave: wave * 1e30),
    "16 bits": _waveform(lambda wave: (wave * 32767).to(torch.int16)),
    "8 bits": _waveform(lambda wave: (wave * 127 + 128).to(torch.uint8)),
    "truth values": _waveform(lambda wave: wave > 0),
    "float16": _waveform(torch.Tensor.half),
    "float64": _waveform(torch.Tensor.double),
    "complex": _waveform(lambda wave: wave.to(torch.complex64)),
    "strided": _waveform(lambda wave: wave.repeat_interleave(2, -1)[..., ::2]),
    "silent": _waveform(torch.zeros_like),
    "further keys": _sound(path="/etc/passwd", more={1, 2}),
}
VIDEO = {"a video that cannot be read": _Video, "a path": lambda: "/etc/passwd"}
CONDITIONING = {
    "a part without options": lambda: [[torch.zeros(1, 4, 4096)]],
    "a part without tensor": lambda: [[None, {}]],
    "another width": lambda: [[torch.zeros(1, 4, 7), {}]],
    "NaN": lambda: [[torch.full((1, 4, 4096), NAN), {}]],
    "no words": lambda: [[torch.zeros(1, 0, 4096), {}]],
    "2 dimensions": lambda: [[torch.zeros(4, 4096), {}]],
}
BY_TYPE: dict[str, dict[str, Make]] = {
    "IMAGE": IMAGE,
    "MASK": MASK,
    "AUDIO": AUDIO,
    "VIDEO": VIDEO,
    "CONDITIONING": CONDITIONING,
}


def odd_objects(type_: str) -> dict[str, Make]:
    """What an input of this type, or of several with commas between them, may be given, by name."""
    found = dict(NOTHING)
    for one in type_.split(","):
        found |= BY_TYPE.get(one, {})
    return found
