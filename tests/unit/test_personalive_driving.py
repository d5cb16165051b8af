"""Driving videos as they come: files of any frame rate, image batches, streams."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from avatar.loaders.driving import open_driving
from avatar.media.frames import AvatarStream


class Video:
    """What the host's VIDEO offers for lazy reading."""

    def __init__(self, source):
        self.source = source

    def get_stream_source(self):
        return self.source


def write(path, times, rate=25, sound=False):
    """A small mp4 whose frame i has brightness 5 * i and is shown at times[i] (in 1/100 s)."""
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "1", "bf": "0"})
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 100)
        if sound:
            voice = container.add_stream("aac", rate=16000, layout="mono")
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 5 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound:
            wave = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
            wave.sample_rate = 16000
            container.mux(voice.encode(wave))
            container.mux(voice.encode(None))
    return path


def brightness(video):
    frames = torch.cat(list(video.blocks()))
    assert frames.dtype == torch.uint8 and frames.shape[1:] == (64, 64, 3)
    return [round(frame.float().mean().item() / 5) for frame in frames]


def test_a_file_is_read_in_order_with_its_rate_and_sound(tmp_path):
    path = write(tmp_path / "a.mp4", range(0, 80, 4), sound=True)
    video = open_driving(Video(str(path)), fps=99)
    assert video.fps == pytest.approx(25, rel=0.01)
    assert brightness(video) == list(range(20))
    assert brightness(video) == list(range(20))  # a second pass starts again
    assert video.audio["sample_rate"] == 16000


def test_a_variable_rate_keeps_its_speed(tmp_path):
    # 10 frames in the first 0.4 s, then one every 0.4 s
    times = [*range(0, 40, 4), 40, 80, 120, 160]
    video = open_driving(Video(str(write(tmp_path / "a.mp4", times))), fps=25)
    seen = brightness(video)
    shown = {value: seen.count(value) for value in set(seen)}
    per_second = video.fps
    assert seen == sorted(seen)
    assert shown[11] == pytest.approx(0.4 * per_second, abs=1)
    assert len(seen) / per_second == pytest.approx(1.6, abs=2 / per_second)


def test_a_file_in_memory(tmp_path):
    data = io.BytesIO(write(tmp_path / "a.mp4", range(0, 40, 4)).read_bytes())
    assert len(brightness(open_driving(Video(data), fps=25))) == 10


def test_only_as_many_frames_as_wanted(tmp_path):
    path = write(tmp_path / "a.mp4", range(0, 80, 4))
    assert brightness(open_driving(Video(str(path)), fps=25, max_frames=11)) == list(range(11))


def test_images_and_streams():
    images = torch.rand(11, 64, 64, 4)
    video = open_driving(images, fps=30)
    assert (video.fps, video.audio) == (30, None)
    assert torch.cat(list(video.blocks())).shape == (11, 64, 64, 3)
    blocks = torch.zeros(9, 64, 64, 3, dtype=torch.uint8).split(3)
    stream = AvatarStream(lambda: iter(blocks), frames=9, width=64, height=64, fps=20, audio={"x": 1})
    video = open_driving(stream, fps=30)
    assert (video.fps, video.audio) == (20, {"x": 1})
    assert len(torch.cat(list(video.blocks()))) == 9


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        open_driving(torch.zeros(0, 64, 64, 3), fps=25)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="cannot be read"):
        open_driving(Video(str(broken)), fps=25)
