"""Features of speech that arrives while the video is made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...engines.liveavatar.condition import PRE_ROLL_FRAMES
from ...engines.liveavatar.config import BLOCK_FRAMES, FPS
from ...engines.liveavatar.speech_source import Features, nothing
from ...engines.liveavatar.speech_timing import FEATURE_RATE, TRACK_RATE, frame_indices
from ...media.sound import MonoSound
from ...media.speech import LiveSpeech
from ..wan.wav2vec2 import FRAME_RATE, SAMPLE_RATE
from ..wan.wav2vec2_windows import encode_window, encoder_shape, frame_count

CONTEXT_BLOCKS = 17
"""Number of blocks that the audio encoder hears, the current one included (8.2 s)."""
FUTURE_SECONDS = 1.0
"""Most seconds of sound behind the block that it hears."""


class LiveSource:
    """A `SpeechSource` of live speech: a block as soon as it is there, silence while nothing is.

    The encoder hears the seconds before the block and the speech that waits behind it. Loudness is normalised over
    all speech that has arrived.

    Args:
        speech: with an AUDIO_ENCODER, ours or the host's; the rate of its feed must be a multiple of 25, as those of
            AAC are.
        check_interrupt: called while waiting too; raises to stop.

    ValueError when the encoder is no wav2vec2 large.
    """

    speakers = 1

    def __init__(self, speech: LiveSpeech, check_interrupt: Callable[[], None] = nothing) -> None:
        self.speech, self.check_interrupt = speech, check_interrupt
        self.layers, self.dim = encoder_shape(speech.encoder)
        self._void = False  # the block that was given last

    def blocks(self, first: int = 0, after_encoding: Callable[[], None] = nothing) -> Features:
        """As in `SpeechSource`, once only. The feed is closed when the pass ends or is abandoned."""
        feed, seconds = self.speech.feed, self.speech.max_seconds
        feed.begin()
        try:
            last = int((seconds * FPS + PRE_ROLL_FRAMES) // BLOCK_FRAMES) - 1 if seconds else None
            size = BLOCK_FRAMES * feed.rate // FPS
            lead = torch.zeros(PRE_ROLL_FRAMES * feed.rate // FPS)
            heard = torch.zeros(CONTEXT_BLOCKS * size)
            block = 0
            while True:
                if last is not None and block >= last:
                    feed.finish()
                piece = self.speech.take(size if block else size - len(lead), self.check_interrupt)
                if piece is None:
                    return
                before = heard
                heard = torch.cat((heard, piece) if block else (heard, lead, piece))[-len(heard) :]
                features = self._features(block, heard)
                after_encoding()
                self._void = False
                yield features[None]
                if self._void:
                    heard = before
                else:
                    block += 1
        finally:
            feed.close()

    def take_back(self, wait: Callable[[], None]) -> bool:
        """As in `SpeechSource`."""
        if self.speech.feed.revocable:
            wait()
            self._void = self.speech.take_back()
        return self._void

    def _features(self, block: int, heard: Tensor) -> Tensor:
        """Features of the last block that was heard: [layers, dim, 12]."""
        feed = self.speech.feed
        future = feed.peek(round(FUTURE_SECONDS * feed.rate))
        sound = MonoSound(
            {"waveform": torch.cat((heard, future))[None, None], "sample_rate": feed.rate}, SAMPLE_RATE
        )
        states = encode_window(self.speech.encoder, sound.read(0, sound.samples), feed.statistics())
        # Frames of the encoder before the first one of this window.
        before = (block + 1 - CONTEXT_BLOCKS) * BLOCK_FRAMES * FRAME_RATE // FPS
        places = frame_indices(block * BLOCK_FRAMES, BLOCK_FRAMES) * (FEATURE_RATE / TRACK_RATE) - before
        places = places.clamp(max=frame_count(sound.samples) - 1)
        low = places.long()
        high = (low + 1).clamp(max=states.shape[1] - 1)
        weight = (places - low)[:, None]
        mixed = torch.lerp(states[:, low].float(), states[:, high].float(), weight).to(states.dtype)
        return mixed.transpose(1, 2)
