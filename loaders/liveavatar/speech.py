"""What LiveAvatar hears in a speech: wav2vec2's features, in step with the video."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...engines.liveavatar.condition import PRE_ROLL_FRAMES
from ...engines.liveavatar.config import BLOCK_FRAMES, FPS
from ...engines.liveavatar.pipeline import block_count
from ...engines.liveavatar.speech_source import Features, Recorded, SpeechSource, Tracks, nothing
from ...engines.liveavatar.speech_timing import (
    FEATURE_RATE,
    TRACK_RATE,
    feature_track,
    frame_indices,
    track_blocks,
    track_parts,
)
from ...media.audio import duration
from ...media.sound import MonoSound
from ...media.speech import LiveSpeech, Speech
from ..wan.wav2vec2 import FRAME_RATE, SAMPLE_RATE
from ..wan.wav2vec2_windows import (
    WINDOW_SECONDS,
    encoder_shape,
    frame_count,
    hidden_state_windows,
    hidden_states,
    loudness,
)
from .live_speech import LiveSource

ENGINE = "liveavatar"
TAIL_SECONDS = 0.2
"""Seconds of silence behind the last block, since wav2vec2's last frame ends a little before the sound does."""


@dataclass(frozen=True)
class WindowedSource(Recorded):
    """A `SpeechSource` of long speech, which is encoded while the video is sampled, about a minute at a time.

    Attributes:
        encoder: an AUDIO_ENCODER, ours or the host's.
        sounds: per speaker, the sound at 16 kHz with the pre-roll.
        statistics: mean and variance of each; see `wav2vec2_windows.loudness`.
        layers, dim: number and width of the encoder's hidden states.
        check_interrupt: called before each window; raises to stop.
    """

    encoder: Any
    sounds: list[MonoSound]
    statistics: list[tuple[float, float]]
    layers: int
    dim: int
    check_interrupt: Callable[[], None]

    @property
    def speakers(self) -> int:
        return len(self.sounds)

    def blocks(self, first: int = 0, after_encoding: Callable[[], None] = nothing) -> Features:
        """As in `SpeechSource`; about one window per speaker is held."""
        speakers = [self._blocks_of(speaker, first, after_encoding) for speaker in range(self.speakers)]
        for features in zip(*speakers, strict=True):
            yield torch.stack(features)

    def _blocks_of(self, speaker: int, first: int, after_encoding: Callable[[], None]) -> Iterator[Tensor]:
        sound, statistics = self.sounds[speaker], self.statistics[speaker]
        # No later than the hidden state in front of the block's first feature.
        hidden = int(frame_indices(first * BLOCK_FRAMES, 1)) * FEATURE_RATE // TRACK_RATE - 1

        def windows() -> Iterator[tuple[int, Tensor]]:
            for window in hidden_state_windows(
                self.encoder, sound.read, sound.samples, statistics, hidden, self.check_interrupt
            ):
                after_encoding()
                yield window

        return track_blocks(track_parts(windows(), frame_count(sound.samples)), first)


def video_frames(seconds: float) -> int:
    """Frames of a video that shows all of ``seconds`` of sound; the last one may be shown in part."""
    return max(1, math.ceil(seconds * FPS - 1e-6))


def check_encoder(speech: Speech | LiveSpeech) -> None:
    """ValueError when LiveAvatar cannot hear with a speech's encoder, which is tried on the shortest sound."""
    encoder_shape(_encoder(speech))


def listen(
    speech: Speech | LiveSpeech,
    check_interrupt: Callable[[], None] = nothing,
    say: Callable[[str], None] = lambda text: None,
) -> SpeechSource:
    """The features of a speech, block by block, behind the pre-roll.

    Up to a minute is encoded at once. Longer speech is looked through, and encoded while it is sampled. Both are
    remembered with the speech. Live speech is encoded as it arrives.

    Args:
        check_interrupt: called now and then while sound is read or encoded, here and by the result; raises to stop.
        say: is told when it takes a while.

    Raises:
        ValueError: the workflow offers no encoder, or none that is a wav2vec2 large.
    """
    encoder = _encoder(speech)
    if isinstance(speech, LiveSpeech):
        return LiveSource(speech, check_interrupt)
    lead = PRE_ROLL_FRAMES / FPS
    total = block_count(video_frames(speech.seconds)) * BLOCK_FRAMES / FPS + TAIL_SECONDS
    sounds = [
        MonoSound(audio, SAMPLE_RATE, lead, max(0.0, total - lead - duration(audio)))
        for audio in speech.sounds
    ]

    def whole() -> Tracks:
        say(f"Listening to {speech.seconds:.0f} s of speech")
        return Tracks([feature_track(_encoded(encoder, sound, check_interrupt)) for sound in sounds])

    def looked_through() -> tuple[list[tuple[float, float]], int, int]:
        say(f"Looking through {speech.seconds / 60:.0f} minutes of speech")
        layers, dim = encoder_shape(encoder)
        return [loudness(sound.read, sound.samples, check_interrupt) for sound in sounds], layers, dim

    if max(frame_count(sound.samples) for sound in sounds) <= WINDOW_SECONDS * FRAME_RATE:
        return speech.remember(ENGINE, whole)
    return WindowedSource(encoder, sounds, *speech.remember(ENGINE, looked_through), check_interrupt)


def _encoder(speech: Speech | LiveSpeech) -> Any:
    if speech.encoder is None:
        raise ValueError(
            "Connect wav2vec2-large-xlsr-53-english as the audio encoder: LiveAvatar hears the speech with it."
        )
    return speech.encoder


def _encoded(encoder: Any, sound: MonoSound, check_interrupt: Callable[[], None]) -> Tensor:
    check_interrupt()
    return hidden_states(encoder, sound.read(0, sound.samples))
