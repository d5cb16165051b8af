"""One avatar: its models, and the videos that it makes one after another. It knows nothing of a pool."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from avatar.engines.liveavatar.config import BLOCK_FRAMES, FPS, SamplingConfig
from avatar.engines.parts.planning.plan import Wish
from avatar.jobs.job import Job
from avatar.media.audio import decode_clip
from avatar.media.file_lock import abandoned
from avatar.media.fragments import FragmentEncoder
from avatar.media.frame_rate import at_frame_rate
from avatar.media.frames import AvatarStream
from avatar.media.mapped_sound import map_audio
from avatar.media.portrait import read_portrait
from avatar.media.recording import Snapshots, begin, record
from avatar.media.speech import LiveSpeech, Speech
from avatar.media.speech_feed import SpeechFeed
from avatar.sessions.folder import PROMPT, FolderAvatar

from .settings import Settings

CRF = 18
NAME = "video"
LOCKED_SECONDS = 60.0
"""A file that somebody else still writes is waited for as long: he was told to stop."""
SILENCE_RATE = 16_000
Check = Callable[[], None]


class Engine:
    """The models of a pool's avatar, ready to begin."""

    def __init__(self, settings: Settings) -> None:
        self.settings, self.device = settings, torch.device(settings.device)
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        self.avatar = FolderAvatar(settings.checkpoint, settings.lora, self.device, dtype)

    def warm(self) -> None:
        """Make one block that nobody sees, so that weights are in place and kernels there."""
        silence = torch.zeros(1, 1, SILENCE_RATE * BLOCK_FRAMES // FPS)
        speech = Speech.of([{"waveform": silence, "sample_rate": SILENCE_RATE}], self.avatar.speech_encoder)
        picture = torch.full((1, *self.settings.size[::-1], 3), 0.5)
        stream = self._open(picture, speech, Job("", seed=0), 0.0, lambda: None)
        with closing(stream.blocks()) as blocks:
            next(blocks)

    def file(self, folder: Path, job: Job, check: Check) -> Iterator[dict[str, Any]]:
        """Make a job's video in its folder, or go on with it there; yields after each block what has changed.

        Raises what ``check`` raises; the part that was made stays, with all that is needed to go on.
        """
        speech = Speech.of([map_audio(folder / job.audio, check_interrupt=check)], self.avatar.speech_encoder)
        stream = self._open(read_portrait(folder / job.image), speech, job, job.seconds or 0.0, check)
        stream = at_frame_rate(stream, job.fps or stream.fps)
        _wait_for_writers(folder, check)
        writer = begin(
            folder,
            NAME,
            1,
            f"{stream.resumable.fingerprint()}-{CRF}",
            width=stream.width,
            height=stream.height,
            fps=stream.fps,
            audio=stream.audio,
            crf=CRF,
            about=stream.resumable.about,
        )
        with writer:
            begun = {"frames": writer.frames_written, "size": writer.size}
            yield {"file": writer.path.name, "total_frames": stream.frames, "fps": float(stream.fps), **begun}
            snapshots = Snapshots(writer.path, self.settings.snapshot_gb * 10**9)
            with closing(record(stream, writer, snapshots)) as blocks:
                for _ in blocks:
                    check()
                    yield {"frames": writer.frames_written, "size": writer.size}
        yield {"state": "finished"}

    def live(
        self, job: Job, picture: bytes, feed: SpeechFeed, check: Check
    ) -> Iterator[dict[str, Any] | bytes]:
        """A video of speech that arrives: what it is, then an mp4 in fragments."""
        seconds = min(job.seconds or self.settings.live_seconds, self.settings.live_seconds)
        speech = LiveSpeech(feed, seconds, encoder=self.avatar.speech_encoder)
        stream = self._open(read_portrait(io.BytesIO(picture)), speech, job, 0.0, check)
        encoder = FragmentEncoder(
            width=stream.width, height=stream.height, fps=stream.fps, audio=feed, crf=CRF
        )
        told = False
        with closing(stream.blocks()) as blocks:
            for block in blocks:
                fragment = encoder.encode(block)
                if not told:
                    told = True
                    size = {"width": stream.width, "height": stream.height, "fps": float(stream.fps)}
                    yield {"type": "begun", "mime_type": encoder.mime_type, **size}
                yield fragment

    def works(self) -> bool:
        """Whether the device still computes: after a fault in one of its kernels a GPU is lost to its process."""
        try:
            return torch.ones(1, device=self.device).add(1).item() == 2
        except RuntimeError:
            return False

    def _open(
        self, picture: torch.Tensor, speech: Speech | LiveSpeech, job: Job, seconds: float, check: Check
    ) -> AvatarStream:
        chosen = self.settings
        return self.avatar.open(
            picture,
            speech,
            chosen.size,
            SamplingConfig(steps=job.steps or chosen.steps, seed=job.seed, guidance=job.guidance or 1.0),
            Wish(chosen.performance),
            job.prompt or PROMPT,
            seconds,
            check_interrupt=check,
        )


def samples_of(data: bytes, limit_seconds: float) -> tuple[np.ndarray, int]:
    """A sound file in memory as float32 [S] and its rate; ValueError for anything else."""
    samples, rate = decode_clip(data, limit_seconds)
    return samples.numpy(), rate


def _wait_for_writers(folder: Path, check: Check) -> None:
    """Wait until nobody writes the folder's videos: an avatar that was cut off notices it a little later."""
    end = time.monotonic() + LOCKED_SECONDS
    for video in folder.glob(f"{NAME}_*_.mp4"):
        while True:
            check()
            with abandoned(video) as alone:
                if alone:
                    break
            if time.monotonic() > end:
                logging.warning(
                    "LiveAvatar: %s is still being written after %.0f s: a new video is begun beside it",
                    video,
                    LOCKED_SECONDS,
                )
                break
            time.sleep(0.2)
