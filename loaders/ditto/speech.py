"""What Ditto hears in a speech: features of 25 frames per second, as soon as the sound for them is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import torch
from torch import Tensor

from ...engines.ditto.config import FPS, SAMPLE_RATE, SAMPLES_PER_FRAME
from ...engines.ditto.speech_windows import Encode, SpeechStream, frame_count
from ...media.sound import MonoSound
from ...media.speech import LiveSpeech, Speech

ENGINE = "ditto"
MOST_REMEMBERED = 15_000
"""Frames of speech up to which its features are kept for a further video (ten minutes, 61 MB)."""


def nothing(*_: object) -> None:
    """What is called where nobody waits for an interrupt, or for a mood."""


def video_frames(speech: Speech) -> int:
    """Frames of a video that shows all of a speech."""
    return max(1, frame_count(MonoSound(speech.audio, SAMPLE_RATE).samples))


def listen(
    speech: Speech | LiveSpeech,
    encode: Encode,
    check_interrupt: Callable[[], None] = nothing,
    in_mood: Callable[[int, str], None] = nothing,
) -> Iterator[Tensor]:
    """Features ``[n, 1024]`` of a speech, a few frames at a time; all who speak are heard as one.

    Finished speech is read as it is needed, and its features are kept with it for another seed or portrait, unless it
    is longer than `MOST_REMEMBERED`. Live speech can be heard once; its feed is closed when the pass ends or is
    abandoned.

    Args:
        encode: the speech network, see `hubert.SpeechGraph`.
        check_interrupt: called before each window, and while live speech is waited for; raises to stop.
        in_mood: is told the mood of each frame of live speech, before its features are there.
    """
    if isinstance(speech, LiveSpeech):
        yield from _features(_live_pieces(speech, check_interrupt, in_mood), encode, check_interrupt)
        return
    by, features = speech.heard.get(ENGINE, (None, None))
    if by is encode:
        yield features
    else:
        yield from _heard_first(speech, encode, check_interrupt)


def _heard_first(speech: Speech, encode: Encode, check_interrupt: Callable[[], None]) -> Iterator[Tensor]:
    """Features of finished speech, which are remembered with the network once it was heard to its end."""
    sound = MonoSound(speech.audio, SAMPLE_RATE)
    remember = video_frames(speech) <= MOST_REMEMBERED
    kept: list[Tensor] = []
    pieces = (
        sound.read(start, min(start + SAMPLE_RATE, sound.samples))
        for start in range(0, sound.samples, SAMPLE_RATE)
    )
    for features in _features(pieces, encode, check_interrupt):
        if remember:
            kept.append(features)
        yield features
    if kept:
        speech.heard[ENGINE] = encode, torch.cat(kept).cpu()


def _features(
    pieces: Iterator[Tensor], encode: Encode, check_interrupt: Callable[[], None]
) -> Iterator[Tensor]:
    def checked(sound: Tensor) -> Tensor:
        check_interrupt()
        return encode(sound)

    stream = SpeechStream(checked)
    for piece in pieces:
        yield from stream.push(piece)
    yield from stream.finish()


def _live_pieces(
    speech: LiveSpeech, check_interrupt: Callable[[], None], in_mood: Callable[[int, str], None]
) -> Iterator[Tensor]:
    """A frame of sound at 16 kHz after another, each converted with the frame before it and what waits behind it."""
    feed = speech.feed
    size = feed.rate // FPS
    most = round(speech.max_seconds * FPS)
    before = torch.zeros(size)
    feed.begin()
    try:
        for frame in count():
            if most and frame >= most - 1:  # the frame in which the mouth closes is the last one
                feed.finish()
            piece = speech.take(size, check_interrupt)
            if piece is None:
                return
            in_mood(frame, feed.mood)
            around = torch.cat([before, piece, feed.peek(size)])[None, None]
            sound = MonoSound({"waveform": around, "sample_rate": feed.rate}, SAMPLE_RATE)
            yield sound.read(SAMPLES_PER_FRAME, 2 * SAMPLES_PER_FRAME)
            before = piece
    finally:
        feed.close()
