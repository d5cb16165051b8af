"""Picture and sound in step: from the speech that the model hears to the finished file, over ten minutes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from avatar.engines.liveavatar.pipeline import generate
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.loaders.liveavatar.speech import video_frames
from avatar.media.audio import trim
from avatar.media.frames import AvatarStream
from avatar.media.recording import record
from avatar.media.writer import VideoWriter

from tests.unit.engines.liveavatar.test_pipeline import QUICK, scene, vae
from tests.unit.tiny_s2v import model, track

W, H, FPS = 32, 32, 25
LONG, SHORT = 600.333, 20.333  # seconds of sound: the last frame shows a part of it
FIRST, BLOCK = 9, 12  # frames of the first block and of all others
CLICKS = [0, 1, 234, 490, 508, 7499, 14_990, 15_008]
"""Video frames at whose start the sound clicks and the picture is white."""


def blocks(frames: int) -> Iterator[torch.Tensor]:
    """Black frames and white ones, in blocks as the sampler gives them: the last one goes beyond the end."""
    start, length = 0, FIRST
    while start < frames:
        block = torch.zeros(length, H, W, 3, dtype=torch.uint8)
        for click in CLICKS:
            if start <= click < start + length:
                block[click - start] = 255
        yield block
        start, length = start + length, BLOCK


def clicking(rate: int, channels: int, seconds: float) -> dict:
    waveform = torch.zeros(1, channels, round(seconds * rate))
    for click in CLICKS:
        start = round(click / FPS * rate)
        waveform[..., start : start + rate // 1000] = 0.9
    return {"waveform": waveform, "sample_rate": rate}


def stream(audio: dict, frames: int) -> AvatarStream:
    return AvatarStream(lambda: blocks(frames), frames=frames, width=W, height=H, fps=FPS, audio=audio)


def write(path: Path, video: AvatarStream) -> Path:
    with VideoWriter(path, width=W, height=H, fps=FPS, audio=video.audio) as writer:
        for _ in record(video, writer):
            pass
    return path


def seen_and_heard(path: Path) -> tuple[list[float], list[float], dict]:
    """Times of white frames and of clicks in a file, by its own time stamps, and what its tracks are."""
    flashes, sounds = [], []
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        about = {
            "rate": audio.rate,
            "channels": audio.channels,
            "frames": video.frames,
            "video start": video.start_time * video.time_base,
            "audio start": audio.start_time * audio.time_base,
            "video seconds": float(video.duration * video.time_base),
            "audio seconds": float(audio.duration * audio.time_base),
        }
        for frame in container.decode(video, audio):
            if isinstance(frame, av.VideoFrame):
                if frame.to_ndarray(format="gray").mean() > 128:
                    flashes.append(frame.time)
            else:
                loud = np.abs(frame.to_ndarray()[0]) > 0.3
                sounds += [frame.time + index / audio.rate for index in np.flatnonzero(loud)]
    clicks = [time for time, before in zip(sounds, [-1.0, *sounds], strict=False) if time - before > 0.02]
    return flashes, clicks, about


@pytest.mark.parametrize(
    ("seconds", "rate", "channels"),
    [(LONG, 44_100, 2), (SHORT, 48_000, 1), (SHORT, 22_050, 1), (SHORT, 16_000, 2)],
)
def test_to_the_end_of_ten_minutes_a_click_is_heard_with_its_frame(tmp_path, seconds, rate, channels):
    audio = clicking(rate, channels, seconds)
    frames = video_frames(seconds)
    expected = [click / FPS for click in CLICKS if click < frames]
    flashes, clicks, about = seen_and_heard(write(tmp_path / "v.mp4", stream(audio, frames)))
    assert flashes == pytest.approx(expected, abs=1e-4)
    # A click is at its own sample: what may be lost is the encoder's blur around it.
    assert clicks == pytest.approx(expected, abs=0.003)
    assert (about["rate"], about["channels"], about["frames"]) == (rate, channels, frames)
    assert about["video start"] == about["audio start"] == 0
    assert about["video seconds"] == pytest.approx(frames / FPS, abs=1e-3)
    assert about["audio seconds"] == pytest.approx(frames / FPS, abs=1 / rate)


@pytest.mark.parametrize(
    ("seconds", "frames"), [(0.001, 1), (0.04, 1), (0.0401, 2), (0.48, 12), (0.5, 13), (600.333, 15_009)]
)
def test_a_video_has_a_frame_for_every_begun_25th_of_a_second_of_sound(seconds, frames):
    assert video_frames(seconds) == frames


@pytest.mark.parametrize("seconds", [0.04, 0.36, 0.4, 1.0, 1.33])
def test_a_video_ends_with_its_sound_wherever_the_last_block_does(tmp_path, seconds):
    rate = 44_100
    whole = {"waveform": torch.rand(1, 2, round(seconds * rate)) - 0.5, "sample_rate": rate}
    frames = video_frames(seconds)
    path = write(tmp_path / "v.mp4", stream(whole, frames))
    _, _, about = seen_and_heard(path)
    assert about["frames"] == frames
    assert 0 <= about["video seconds"] - seconds < 1 / FPS + 1e-6
    assert about["audio seconds"] == pytest.approx(about["video seconds"], abs=1e-3)


def test_a_shortened_video_keeps_the_sound_of_its_frames(tmp_path):
    audio = trim(clicking(48_000, 2, SHORT), seconds=50 / FPS)
    flashes, clicks, about = seen_and_heard(write(tmp_path / "v.mp4", stream(audio, 50)))
    assert about["frames"] == 50 and about["audio seconds"] == pytest.approx(2, abs=1e-4)
    assert (len(flashes), len(clicks)) == (2, 2)


@pytest.mark.parametrize("frame", [9, 21])
def test_the_first_frame_that_a_sound_can_change_is_the_one_shown_with_it(frame):
    # The track begins 0.12 s, 3 frames, before the sound: frame 9 of the video is the 12th that the model makes.
    heard = track(2)
    changed = heard.clone()
    changed[:, round((frame + 3) * 30 / 25) :] += 1
    one, other = (
        torch.cat(list(generate(model(), vae(), scene(speech=Tracks([features])), QUICK, 33)))
        for features in (heard, changed)
    )
    differs = (one != other).flatten(1).any(1)
    assert not differs[:frame].any() and differs[frame:].all()
