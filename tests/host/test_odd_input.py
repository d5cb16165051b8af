"""Unusual input that works: any sound file, any picture, and very long speech in bounded memory."""

from __future__ import annotations

import pytest

from .media import check_talks, read_video, write_odd_media
from .workflows import Api, change, only, put, small

GIB = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def odd_media(ready) -> None:
    write_odd_media(ready.input_dir)


@pytest.mark.parametrize(
    ("sound", "seconds", "rate", "channels"),
    [
        ("short.wav", 0.1, 16_000, 1),
        ("silent.wav", 0.24, 16_000, 1),
        ("telephone.wav", 0.24, 8_000, 1),
        ("studio.wav", 0.24, 96_000, 2),
        ("voice.mp3", 0.24, 44_100, 2),
        ("voice.flac", 0.24, 48_000, 1),
    ],
)
def test_sound_of_every_kind_is_kept_as_it_is(ready, sound, seconds, rate, channels):
    workflow = small(seconds=0.24)
    change(workflow, "LoadAudio", audio=sound)
    video = read_video(ready.video(workflow))
    check_talks(video, (64, 64), {0.1: 3, 0.24: 6}[seconds], rate, channels)


def grey(workflow: Api) -> None:
    change(workflow, "LoadImage", image="grey.png")


def large(workflow: Api) -> None:
    """8000x6000, brought to at most 64x64."""
    change(workflow, "LoadImage", image="huge.jpg")
    change(workflow, "LiveAvatarReferenceImage", size="fit to area")


def transparent(workflow: Api) -> None:
    """Load Image drops transparency, this node puts it back."""
    change(workflow, "LoadImage", image="alpha.png")
    source = only(workflow, "LoadImage")
    inputs = {"image": [source, 0], "alpha": [source, 1]}
    put(workflow, "LiveAvatarReferenceImage", "image", "JoinImageWithAlpha", **inputs)


@pytest.mark.parametrize("change_picture", [grey, large, transparent])
def test_a_picture_of_every_kind_works(ready, change_picture):
    workflow = small(seconds=0.24)
    change_picture(workflow)
    check_talks(read_video(ready.video(workflow)), (64, 64), 6, 24_000, 1)


@pytest.mark.slow
def test_half_an_hour_of_speech_needs_little_memory(ready):
    """The speech is encoded whole, the video only for as long as max_seconds says."""
    ready.video(small(seconds=0.24))
    before = peak = ready.memory()

    def watch() -> None:
        nonlocal peak
        peak = max(peak, ready.memory())

    workflow = small(seconds=0.24)
    inputs = {"duration": 1800.0, "sample_rate": 16_000, "channels": 1}
    put(workflow, "LiveAvatarEncodeSpeech", "audio", "EmptyAudio", **inputs)
    entry = ready.wait(ready.submit(workflow), watch=watch)
    assert ready.errors(entry) == []
    check_talks(read_video(ready.saved_video(entry)), (64, 64), 6, 16_000, 1)
    assert peak - before < 1.5 * GIB
