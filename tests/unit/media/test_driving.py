"""Driving videos as they come: files of any frame rate, image batches, streams."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from avatar.media.driving import open_driving, sound_of_frames
from avatar.media.frames import AvatarStream

from tools.environment import ROOT


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


def test_sound_that_nobody_wants_is_not_decoded(tmp_path):
    def check() -> None:
        raise AssertionError("sound is decoded")

    path = write(tmp_path / "a.mp4", range(0, 80, 4), sound=True)
    video = open_driving(Video(str(path)), fps=99, check_interrupt=check, sound=False)
    assert video.audio is None and brightness(video) == list(range(20))


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


def test_a_live_stream_is_refused():
    stream = AvatarStream(lambda: iter(()), frames=None, width=64, height=64)
    with pytest.raises(ValueError, match="A live stream cannot be read as a video"):
        open_driving(stream, fps=25)


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(ValueError, match="no frames"):
        open_driving(torch.zeros(0, 64, 64, 3), fps=25)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="cannot be read"):
        open_driving(Video(str(broken)), fps=25)


def test_a_file_that_ends_early_is_one_sentence(tmp_path):
    path = write(tmp_path / "a.mp4", range(0, 80, 4))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read") as error:
        open_driving(Video(str(path)), fps=25)
    assert len(str(error.value).splitlines()) == 1


def film(path, picture_at=0.0, sound_at=0.0, layout="mono", rate=8000):
    """A second of picture and sound, each beginning at its own time: black and silent in the first half, then white
    and loud; by its suffix."""
    with av.open(str(path), "w") as out:
        picture = out.add_stream("libx264", rate=25, options={"crf": "1", "bf": "0"})
        picture.width = picture.height = 64
        picture.pix_fmt = "yuv420p"
        picture.time_base = picture.codec_context.time_base = Fraction(1, 100)
        sound = out.add_stream("pcm_s16le" if path.suffix == ".mkv" else "aac", rate=rate, layout=layout)
        for i in range(25):
            shade = np.full((64, 64, 3), 255 * (i > 12), np.uint8)
            frame = av.VideoFrame.from_ndarray(shade, format="rgb24")
            frame.pts, frame.time_base = round(picture_at * 100) + 4 * i, Fraction(1, 100)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        time = np.arange(rate) / rate
        voice = (np.sin(2 * np.pi * 440 * time) * (time >= 0.5) * 20_000).astype("<i2")
        for start in range(0, rate, 1000):
            channels = av.AudioLayout(layout).nb_channels
            packed = np.repeat(voice[start : start + 1000], channels)[None]
            wave = av.AudioFrame.from_ndarray(packed, format="s16", layout=layout)
            wave.sample_rate, wave.time_base = rate, Fraction(1, rate)
            wave.pts = round(sound_at * rate) + start
            for part in av.AudioResampler(sound.codec_context.format, layout, rate).resample(wave):
                out.mux(sound.encode(part))
        out.mux(sound.encode(None))
    return path


def apart(video):
    """Seconds from where the picture becomes white to where the sound becomes loud."""
    white = next(i for i, frame in enumerate(torch.cat(list(video.blocks()))) if frame.float().mean() > 128)
    heard = video.audio["waveform"][0].abs().mean(0) > 0.05
    return heard.nonzero()[0].item() / video.audio["sample_rate"] - white / video.fps


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize(
    ("picture_at", "sound_at"), [(0, 0), (0, 0.4), (0.4, 0), (0.4, 0.8), (2.0, 1.7), (0.2, 0.2)]
)
def test_sound_and_picture_of_a_file_keep_their_distance(tmp_path, suffix, picture_at, sound_at):
    path = film(tmp_path / f"a{suffix}", picture_at, sound_at)
    expected = (sound_at + 0.5) - (picture_at + 0.52)
    assert apart(open_driving(Video(str(path)), fps=25)) == pytest.approx(expected, abs=0.03)


def test_a_file_in_memory_keeps_its_sound_where_it_is_too(tmp_path):
    data = io.BytesIO(film(tmp_path / "a.mp4", 0, 0.4).read_bytes())
    assert apart(open_driving(Video(data), fps=25)) == pytest.approx(0.38, abs=0.03)


def test_sound_that_ends_before_the_picture_begins_is_none(tmp_path):
    path = film(tmp_path / "a.mkv", picture_at=3, sound_at=0)
    assert open_driving(Video(str(path)), fps=25).audio is None


@pytest.mark.parametrize("layout", ["7.1", "hexadecagonal"])
def test_sound_of_many_channels_is_brought_along(tmp_path, layout):
    path = film(tmp_path / "a.mkv", 0, 0.4, layout)
    video = open_driving(Video(str(path)), fps=25)
    assert video.audio["waveform"].shape[1] == av.AudioLayout(layout).nb_channels
    assert apart(video) == pytest.approx(0.38, abs=0.03)


def test_sound_lies_in_the_folder_that_is_named_and_can_be_interrupted(tmp_path):
    def check():
        raise InterruptedError

    path = film(tmp_path / "a.mp4")
    with pytest.raises(InterruptedError):
        open_driving(Video(str(path)), 25, folder=str(tmp_path), check_interrupt=check)
    with pytest.raises(FileNotFoundError):
        open_driving(Video(str(path)), 25, folder=str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("start", "seconds", "frames"), [(0, 0, 25), (0.4, 0, 15), (0, 0.8, 20), (0.2, 0.6, 15)]
)
def test_a_part_of_a_file_is_read_with_its_sound(tmp_path, start, seconds, frames):
    video = Video(str(film(tmp_path / "a.mp4", 0, 0.1)))
    video.get_active_trim_window = lambda: (start, seconds)
    part = open_driving(video, fps=25)
    assert sum(len(block) for block in part.blocks()) == frames
    assert apart(part) == pytest.approx(0.08, abs=0.03)


def turn(path, degrees):
    """Have an mp4 shown turned clockwise, as telephones do with what they film lying down."""
    matrices = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}
    a, b, c, d = (value * 0x10000 for value in matrices[degrees])
    data = bytearray(path.read_bytes())
    # the first 20 numbers of a track's header come before its matrix
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 0x40000000)
    path.write_bytes(data)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_film_of_a_telephone_is_turned_upright(tmp_path, degrees):
    path = tmp_path / "a.mp4"
    upright = np.zeros((96, 64, 3), np.uint8)
    upright[:32, :32] = 255  # top left
    lying = np.rot90(upright, degrees // 90)
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.height, stream.width = lying.shape[:2]
        stream.pix_fmt = "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(lying), format="rgb24")))
        container.mux(stream.encode(None))
    turn(path, degrees)
    (block,) = open_driving(Video(str(path)), fps=25).blocks()
    assert block.shape == (1, 96, 64, 3)
    assert np.abs(block[0].numpy().astype(int) - upright).mean() < 5


def speech(seconds=2.0, rate=8000):
    """Sound in which every sample says when it is."""
    time = torch.arange(round(seconds * rate)) / rate
    return {"waveform": torch.stack([1 + time, -1 - time])[None], "sample_rate": rate}


def test_all_frames_keep_the_sound_as_it_is():
    audio = speech()
    assert sound_of_frames(audio, range(10), 25) is audio


def test_skipped_frames_take_their_sound_with_them():
    frames = [*range(5, 15), *range(20, 30)]
    sound = sound_of_frames(speech(), frames, 25)
    assert sound["sample_rate"] == 8000
    wave = sound["waveform"][0]
    assert wave.shape == (2, round(len(frames) / 25 * 8000))
    seconds = torch.arange(wave.shape[1]) / 8000
    # 5 frames are missing before the first part, 10 before the second
    expected = 1 + seconds + torch.where(seconds < 10 / 25, 5 / 25, 10 / 25)
    middle = [i for i in range(wave.shape[1]) if 40 < i % 3200 < 3160]  # away from the cuts
    assert torch.allclose(wave[0, middle], expected[middle], atol=1e-5)
    assert wave[0, 3199].abs() < 0.1 and wave[0, 3200].abs() < 0.1  # no click


def test_sound_that_ends_before_the_first_frame_is_none():
    assert sound_of_frames(speech(0.2), [50, 51], 25) is None


def test_a_video_that_is_left_early_does_not_hold_up_a_process_whose_libraries_log(tmp_path):
    """As torchvision has FFmpeg's messages logged: with PyAV 14 the threads of a decoder waited for Python's lock."""
    film(tmp_path / "film.mp4")
    program = (
        "import sys, tools.pack, av\n"
        "av.logging.set_level(av.logging.ERROR)\n"
        "from types import SimpleNamespace\n"
        "from avatar.media.driving import open_driving\n"
        "video = SimpleNamespace(get_stream_source=lambda: sys.argv[1])\n"
        "for _ in range(50):\n"
        "    blocks = open_driving(video, 25, 1).blocks()\n"
        "    assert len(next(blocks)) == 1\n"
        "    blocks.close()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "film.mp4")]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
