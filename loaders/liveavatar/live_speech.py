"""Features of speech that arrives while the video is made."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor

from ...engines.liveavatar.condition import PRE_ROLL_FRAMES
from ...engines.liveavatar.config import BLOCK_FRAMES, FPS
from ...engines.liveavatar.speech_source import Features, nothing
from ...engines.liveavatar.speech_timing import FEATURE_RATE, TRACK_RATE, frame_indices
from ...media.sound import MonoSound
from ...media.speech_feed import SpeechFeed
from ..wan.wav2vec2 import FRAME_RATE, RECEPTIVE_FIELD, SAMPLE_RATE
from ..wan.wav2vec2_windows import encode_window, frame_count, hidden_states

CONTEXT_BLOCKS = 17
"""Number of blocks that the audio encoder hears, the current one included (8.2 s)."""
FUTURE_SECONDS = 1.0
"""Most seconds of sound behind the block that it hears."""
POLL_SECONDS = 0.05


class LiveSpeech:
    """A `SpeechSource` of the sound in a feed: a block as soon as it is there, silence while nothing is.

    The encoder hears the seconds before the block and the speech that waits behind it. Loudness is normalised over
    all speech that has arrived.

    Args:
        encoder: an AUDIO_ENCODER, ours or the host's.
        feed: source of the sound; its rate must be a multiple of 25, as those of AAC are.
        max_seconds: the video's length at most; 0: until the feed ends.
        check_interrupt: called while waiting too; raises to stop.
        poll: called while waiting and before each block, to fetch sound into the feed.
    """

    speakers = 1

    def __init__(
        self,
        encoder: Any,
        feed: SpeechFeed,
        max_seconds: float = 0.0,
        check_interrupt: Callable[[], None] = nothing,
        poll: Callable[[], None] = nothing,
    ) -> None:
        self.encoder, self.feed = encoder, feed
        self.max_blocks = int((max_seconds * FPS + PRE_ROLL_FRAMES) // BLOCK_FRAMES) if max_seconds else None
        self.check_interrupt, self.poll = check_interrupt, poll
        self.layers, _, self.dim = hidden_states(encoder, torch.zeros(RECEPTIVE_FIELD)).shape
        self._begun = False

    def blocks(self, first: int = 0, after_encoding: Callable[[], None] = nothing) -> Features:
        """As in `SpeechSource`, once only. The feed is closed when the pass ends or is abandoned."""
        if self._begun or first:
            raise RuntimeError("Live speech is over once it was heard; run the workflow again to begin anew.")
        self._begun = True
        try:
            size = BLOCK_FRAMES * self.feed.rate // FPS
            lead = torch.zeros(PRE_ROLL_FRAMES * self.feed.rate // FPS)
            heard = torch.zeros(CONTEXT_BLOCKS * size)
            for block in count():
                if self.max_blocks is not None and block + 1 >= self.max_blocks:
                    self.feed.finish()
                piece = self._take(size if block else size - len(lead))
                if piece is None:
                    return
                heard = torch.cat((heard, piece) if block else (heard, lead, piece))[-len(heard) :]
                features = self._features(block, heard)
                after_encoding()
                yield features[None]
        finally:
            self.feed.close()

    def _take(self, size: int) -> Tensor | None:
        while True:
            self.check_interrupt()
            self.poll()
            piece = self.feed.take(size)
            if not isinstance(piece, float):
                return piece
            self.feed.wait(min(piece, POLL_SECONDS))

    def _features(self, block: int, heard: Tensor) -> Tensor:
        """Features of the last block that was heard: [layers, dim, 12]."""
        future = self.feed.peek(round(FUTURE_SECONDS * self.feed.rate))
        sound = MonoSound(
            {"waveform": torch.cat((heard, future))[None, None], "sample_rate": self.feed.rate}, SAMPLE_RATE
        )
        states = encode_window(self.encoder, sound.read(0, sound.samples), self.feed.statistics())
        # Frames of the encoder before the first one of this window.
        before = (block + 1 - CONTEXT_BLOCKS) * BLOCK_FRAMES * FRAME_RATE // FPS
        places = frame_indices(block * BLOCK_FRAMES, BLOCK_FRAMES) * (FEATURE_RATE / TRACK_RATE) - before
        places = places.clamp(max=frame_count(sound.samples) - 1)
        low = places.long()
        high = (low + 1).clamp(max=states.shape[1] - 1)
        weight = (places - low)[:, None]
        mixed = torch.lerp(states[:, low].float(), states[:, high].float(), weight).to(states.dtype)
        return mixed.transpose(1, 2)
