"""A video's steps as packets of H.264 and Opus, each as soon as it is there."""

from __future__ import annotations

from fractions import Fraction

import av
from av.video.frame import PictureType
from torch import Tensor

from ...media.fragments import BT601, BT709, LIMITED
from .pace import TICKS

KEY_SECONDS = 2.0
"""Between two pictures from which a viewer can begin anew who has lost one."""
BITS_PER_PIXEL = 0.5
"""At most, on average over a quarter of a second."""
SOUND_BITS = 64_000
OPUS_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)
OPUS_CLOCK = 48_000
"""Opus counts in these samples, whatever its sound has."""


class Encoder:
    """Encodes one video for all who watch it. Its options are those that keep nothing back; ``rate`` is one of
    ``OPUS_RATES``."""

    def __init__(self, width: int, height: int, fps: float, rate: int) -> None:
        self._video = _video(width, height, fps)
        self._sound = av.CodecContext.create("libopus", "w")
        self._sound.sample_rate, self._sound.layout, self._sound.format = rate, "mono", "flt"
        self._sound.bit_rate = SOUND_BITS
        self._sound.options = {"application": "voip", "frame_duration": str(1000 // TICKS)}
        self._rate = rate
        self._heard = 0  # samples
        self._key_at = -1

    def picture(self, step: int, frame: Tensor, key: bool = False) -> av.Packet:
        """The packet of a frame uint8 [H, W, 3] that is due at a step; ``key``: one to begin with."""
        picture = av.VideoFrame.from_ndarray(frame.numpy(), format="rgb24").reformat(format="yuv420p")
        picture.pts, picture.time_base = step, Fraction(1, TICKS)
        if key or step >= self._key_at:
            picture.pict_type = PictureType.I
            self._key_at = step + round(KEY_SECONDS * TICKS)
        return _only(self._video.encode(picture), step, TICKS)

    def sound(self, step: int, samples: Tensor) -> av.Packet:
        """The packet of a step's sound."""
        frame = av.AudioFrame.from_ndarray(samples.clamp(-1, 1)[None].numpy(), format="flt", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = self._rate, self._heard, Fraction(1, self._rate)
        self._heard += len(samples)
        return _only(self._sound.encode(frame), step * OPUS_CLOCK // TICKS, OPUS_CLOCK)


def _video(width: int, height: int, fps: float) -> av.VideoCodecContext:
    codec = av.CodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, TICKS), Fraction(fps).limit_denominator(1001)
    most = max(1_000, round(width * height * fps * BITS_PER_PIXEL / 1000))  # kbit/s
    codec.options = {
        "preset": "superfast",
        "tune": "zerolatency",
        "crf": "20",
        "maxrate": f"{most}k",
        "bufsize": f"{most // 4}k",
        "g": "1000000",
        "sc_threshold": "0",
    }
    codec.profile = "Baseline"  # what all browsers accept
    codec.thread_count = 1  # more would take cores from what makes the video
    codec.color_primaries = codec.color_trc = BT709
    codec.colorspace, codec.color_range = BT601, LIMITED
    return codec


def _only(packets: list[av.Packet], pts: int, clock: int) -> av.Packet:
    (packet,) = packets
    packet.pts = packet.dts = pts
    packet.time_base = Fraction(1, clock)
    return packet
