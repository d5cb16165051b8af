"""Speech for an avatar: from AUDIO to feature tracks that are in step with the video."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..liveavatar.audio_features import join_track
from ..liveavatar.condition import PRE_ROLL_FRAMES
from ..liveavatar.config import BLOCK_FRAMES, FPS
from ..liveavatar.pipeline import block_count
from ..media.audio import check_audio, duration, mix, pad, to_mono
from .audio import SAMPLE_RATE, frame_count, hidden_state_windows

TAIL_SECONDS = 0.2
"""Silence behind the last block: wav2vec2's last frame ends a little before the sound does."""


@dataclass(frozen=True)
class Speech:
    """What one or several speakers say: the type of AVATAR_SPEECH edges.

    Attributes:
        tracks: per speaker, features at 30 per second [layers, length, dim]; they begin with the pre-roll.
        audio: ComfyUI AUDIO of all speakers together, at the source's own rate.
        frames: video frames at 25 per second that the sound lasts.
        masks: which pixels are whose [speakers, frames or 1, H, W]; None with a single speaker.
    """

    tracks: list[Tensor]
    audio: dict[str, Any]
    frames: int
    masks: Tensor | None = None


def video_frames(seconds: float) -> int:
    """Frames of a video that shows all of ``seconds`` of sound; the last one may be shown in part."""
    return max(1, math.ceil(seconds * FPS - 1e-6))


def encode_speech(
    encoder: Any, audios: Sequence[dict[str, Any]], check_interrupt: Callable[[], None] = lambda: None
) -> Speech:
    """Encode what each speaker says; the sounds start together and the shorter ones end in silence.

    Args:
        encoder: an AUDIO_ENCODER, ours or the host's.
        audios: ComfyUI AUDIO per speaker, at any rate, mono or more.
        check_interrupt: called between windows of long audio; raises to stop.

    ValueError for empty or broken audio.
    """
    for audio in audios:
        check_audio(audio)
    frames = max(video_frames(duration(audio)) for audio in audios)
    lead = PRE_ROLL_FRAMES / FPS
    total = block_count(frames) * BLOCK_FRAMES / FPS + TAIL_SECONDS
    tracks = []
    for audio in audios:
        padded = pad(audio, lead, max(0.0, total - lead - duration(audio)))
        waveform = to_mono(padded, SAMPLE_RATE)
        windows = hidden_state_windows(encoder, waveform, check_interrupt=check_interrupt)
        tracks.append(join_track(windows, frame_count(len(waveform))))
    return Speech(tracks, mix(audios) if len(audios) > 1 else dict(audios[0]), frames)


def assign_masks(speech: Speech, masks: Sequence[Tensor]) -> Speech:
    """Say which pixels belong to which speaker.

    ``masks`` holds a ComfyUI MASK [H, W] or [frames, H, W] per speaker, at 25 frames per second; anything above
    0 marks the speaker. ValueError when their number or sizes do not fit, or one marks nothing.
    """
    if len(speech.tracks) == 1:
        raise ValueError(
            "Only one person speaks, who needs no mask; connect a second sound to LiveAvatar Encode Speech or "
            "leave out LiveAvatar Speaker Masks."
        )
    if len(masks) != len(speech.tracks):
        raise ValueError(
            f"There are {len(speech.tracks)} speakers but {len(masks)} masks; connect one mask per speaker."
        )
    stacked = [mask.reshape(-1, *mask.shape[-2:]).float().cpu() for mask in masks]
    sizes = {tuple(mask.shape[-2:]) for mask in stacked}
    if len(sizes) > 1:
        found = ", ".join(f"{width}x{height}" for height, width in sorted(sizes))
        raise ValueError(
            f"The speakers' masks have different sizes ({found}); draw them on the same picture."
        )
    longest = max(len(mask) for mask in stacked)
    # A shorter mask video, or a single mask, holds its last frame.
    held = [mask[torch.arange(longest).clamp(max=len(mask) - 1)] for mask in stacked]
    marked = torch.stack(held)
    for speaker in range(len(marked)):
        # Where masks overlap, the later speaker is heard.
        if not ((marked[speaker] > 0) & ~(marked[speaker + 1 :] > 0).any(0)).any():
            raise ValueError(
                f"The mask of speaker {speaker + 1} is empty, or entirely covered by another speaker's; paint the "
                "area of that speaker's face and body."
            )
    return Speech(speech.tracks, speech.audio, speech.frames, marked)
