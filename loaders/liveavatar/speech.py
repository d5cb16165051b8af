"""Speech for an avatar: from AUDIO to feature tracks that are in step with the video."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ...engines.liveavatar.condition import PRE_ROLL_FRAMES
from ...engines.liveavatar.config import BLOCK_FRAMES, FPS
from ...engines.liveavatar.pipeline import block_count
from ...engines.liveavatar.speech_source import Features, SpeechSource, Tracks, nothing
from ...engines.liveavatar.speech_timing import (
    FEATURE_RATE,
    TRACK_RATE,
    feature_track,
    frame_indices,
    track_blocks,
    track_parts,
)
from ...media.audio import duration, mix, usable
from ...media.sound import MonoSound
from ...media.speech_feed import SpeechFeed
from ..wan.wav2vec2 import FRAME_RATE, RECEPTIVE_FIELD, SAMPLE_RATE
from ..wan.wav2vec2_windows import (
    WINDOW_SECONDS,
    frame_count,
    hidden_state_windows,
    hidden_states,
    loudness,
)

TAIL_SECONDS = 0.2
"""Seconds of silence behind the last block, since wav2vec2's last frame ends a little before the sound does."""


@dataclass(frozen=True)
class Speech:
    """The encoded speech of one or several speakers: the type of AVATAR_SPEECH edges.

    Attributes:
        source: features of all speakers, block by block; they begin with the pre-roll.
        audio: ComfyUI AUDIO of all speakers together, at the source's own rate; the feed of live speech.
        frames: video frames at 25 per second that the sound lasts; None for live speech.
        masks: the pixels of each speaker, [speakers, frames or 1, H, W]; None with a single speaker.
    """

    source: SpeechSource
    audio: dict[str, Any] | SpeechFeed
    frames: int | None
    masks: Tensor | None = None


@dataclass(frozen=True)
class WindowedSpeech:
    """Long speech that is encoded while the video is sampled, a window of about a minute at a time.

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


def encode_speech(
    encoder: Any, audios: Sequence[dict[str, Any]], check_interrupt: Callable[[], None] = nothing
) -> Speech:
    """Encode each speaker's sound; the sounds start together and the shorter ones end in silence.

    Up to a minute is encoded at once. Longer speech is looked through, and encoded while it is sampled.

    Args:
        encoder: an AUDIO_ENCODER, ours or the host's.
        audios: ComfyUI AUDIO per speaker, at any rate, mono or more.
        check_interrupt: called now and then while audio is read or encoded; raises to stop.

    Raises:
        ValueError: audio is empty or broken, or the encoder is no wav2vec2 large.
    """
    audios = [usable(audio) for audio in audios]
    frames = max(video_frames(duration(audio)) for audio in audios)
    lead = PRE_ROLL_FRAMES / FPS
    total = block_count(frames) * BLOCK_FRAMES / FPS + TAIL_SECONDS
    sounds = [
        MonoSound(audio, SAMPLE_RATE, lead, max(0.0, total - lead - duration(audio))) for audio in audios
    ]
    check_interrupt()
    if max(frame_count(sound.samples) for sound in sounds) <= WINDOW_SECONDS * FRAME_RATE:
        states = (hidden_states(encoder, sound.read(0, sound.samples)) for sound in sounds)
        source: SpeechSource = Tracks([feature_track(hidden) for hidden in states])
    else:
        layers, _, dim = hidden_states(encoder, torch.zeros(RECEPTIVE_FIELD)).shape
        statistics = [loudness(sound.read, sound.samples, check_interrupt) for sound in sounds]
        source = WindowedSpeech(encoder, sounds, statistics, layers, dim, check_interrupt)
    return Speech(source, mix(audios) if len(audios) > 1 else audios[0], frames)


def assign_masks(speech: Speech, masks: Sequence[Tensor]) -> Speech:
    """Say which pixels belong to which speaker.

    ``masks`` holds a ComfyUI MASK [H, W] or [frames, H, W] per speaker, at 25 frames per second; anything above
    0 marks the speaker. ValueError when their number or sizes do not fit, or one marks nothing.
    """
    if speech.source.speakers == 1:
        raise ValueError(
            "Only one person speaks, who needs no mask; connect a second sound to LiveAvatar Encode Speech or "
            "leave out LiveAvatar Speaker Masks."
        )
    if len(masks) != speech.source.speakers:
        raise ValueError(
            f"There are {speech.source.speakers} speakers but {len(masks)} masks; connect one mask per speaker."
        )
    if any(mask.ndim < 2 or mask.numel() == 0 for mask in masks):
        raise ValueError("A speaker's mask has no pixels; paint one over the picture.")
    stacked = [mask.reshape(-1, *mask.shape[-2:]).float().cpu() for mask in masks]
    sizes = {tuple(mask.shape[-2:]) for mask in stacked}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise ValueError(
            f"The speakers' masks have different sizes ({found}); draw them on the same picture."
        )
    longest = max(len(mask) for mask in stacked)
    # The last frame of a shorter mask video, or of a single mask, is held.
    held = [mask[torch.arange(longest).clamp(max=len(mask) - 1)] for mask in stacked]
    marked = torch.stack(held)
    for speaker in range(len(marked)):
        # Where masks overlap, the later speaker is heard.
        if not ((marked[speaker] > 0) & ~(marked[speaker + 1 :] > 0).any(0)).any():
            raise ValueError(
                f"The mask of speaker {speaker + 1} is empty, or entirely covered by another speaker's; paint the "
                "area of that speaker's face and body."
            )
    return replace(speech, masks=marked)
