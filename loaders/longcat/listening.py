"""What LongCat hears in a speech, as the engine reads it: encoded when it is needed, a piece at a time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...engines.longcat.config import LongCatConfig
from ...engines.longcat.speech import SpeechFeatures
from ...media.audio import duration
from ...media.sound import MonoSound
from ...media.speech import Speech
from .encoders import is_wav2vec2_base, is_whisper
from .loudness import RATE, gain
from .speech import (
    GROUPS,
    PIECE,
    PIECE_FRAMES,
    frame_count,
    low_passed,
    standardised,
    wav2vec2_layers,
)

WANTED = {
    "1.0": "chinese-wav2vec2-base (from LongCat Load Model)",
    "1.5": "whisper-large-v3 (from LongCat Load Model or ComfyUI's own loader)",
}
NAME = "longcat"
"""How what is heard is remembered, before its length; its version is that of the speech's encoder."""
NOISE_SEED = 0
"""Of the noise floor, so that the same sound gives the same features."""
WHOLE_SECONDS = 60
"""Longer speech is heard in windows by version 1.0, whose encoder takes memory with the square of the length."""
WINDOW_SECONDS, AROUND_SECONDS = 40, 10
KEPT = 4
"""Pieces of a speaker that are remembered: two minutes with Whisper."""


class _Pieces:
    """Encoded pieces of all speakers, of which the last ones used are kept."""

    def __init__(self, encode: Callable[[int, int], Tensor], speakers: int) -> None:
        self._encode, self._most = encode, KEPT * speakers
        self._kept: OrderedDict[tuple[int, int], Tensor] = OrderedDict()

    def __call__(self, speaker: int, piece: int) -> Tensor:
        key = speaker, piece
        if key not in self._kept:
            self._kept[key] = self._encode(speaker, piece)
        self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return self._kept[key]


class WhisperSource:
    """`SpeechFeatures` of version 1.5, by pieces of 30 seconds that are encoded apart from each other.

    Equal to `whisper_features` of the whole sound.
    """

    def __init__(
        self, encoder: Any, sounds: list[MonoSound], rate: int, check_interrupt: Callable[[], None]
    ) -> None:
        self._encoder, self._sounds, self._check_interrupt = encoder, sounds, check_interrupt
        self._gains = [gain(_samples(sound).astype(np.float64)) for sound in sounds]
        self._pieces = _Pieces(self._encoded, len(sounds))
        self.speakers, self.count = len(sounds), frame_count(sounds[0].samples, rate)

    def read(self, first: int, last: int) -> Tensor:
        """See `SpeechFeatures`."""
        # Two of Whisper's frames for each feature, all the way from the first to the last one.
        step = (2 * self.count - 1) / max(1, self.count - 1)
        places = torch.arange(first, last, dtype=torch.float64) * (step if self.count > 1 else 0)
        before = places.floor().long().clamp(max=2 * self.count - 1)
        after = (before + 1).clamp(max=2 * self.count - 1)
        weight = (places - before).float()[:, None, None]
        return torch.stack(
            [
                torch.lerp(self._frames(speaker, before), self._frames(speaker, after), weight)
                for speaker in range(self.speakers)
            ]
        )

    def _frames(self, speaker: int, places: Tensor) -> Tensor:
        """Whisper's frames at ``places`` in the whole sound, [places, groups, channels]."""
        pieces = places // PIECE_FRAMES
        found = [
            self._pieces(speaker, int(piece))[places[pieces == piece] - piece * PIECE_FRAMES]
            for piece in pieces.unique()
        ]
        return torch.cat(found)

    def _encoded(self, speaker: int, piece: int) -> Tensor:
        """The groups of a piece's frames, float32 [1500, groups, channels] on the CPU."""
        self._check_interrupt()
        sound = self._sounds[speaker]
        first = piece * PIECE
        samples = sound.read(first, min(first + PIECE, sound.samples)) * self._gains[speaker]
        states = self._encoder.encode_audio(samples[None, None].float(), RATE)["encoded_audio_all_layers"]
        return torch.stack([torch.stack(states[a:b]).float().mean(0)[0] for a, b in GROUPS], 1).cpu()


class Wav2Vec2Source:
    """`SpeechFeatures` of version 1.0: the whole sound at once up to a minute, longer sound in windows.

    A window of 40 seconds is heard with 10 more on either side. The sound itself is kept, 64 KB a second.
    """

    def __init__(
        self, encoder: Any, sounds: list[MonoSound], rate: int, check_interrupt: Callable[[], None]
    ) -> None:
        self._encoder, self._rate, self._check_interrupt = encoder, rate, check_interrupt
        self._samples = [_prepared(_samples(sound)) for sound in sounds]
        self.speakers, self.count = len(sounds), frame_count(sounds[0].samples, rate)
        whole = sounds[0].samples <= WHOLE_SECONDS * RATE
        self._window = self.count if whole else WINDOW_SECONDS * rate
        self._pieces = _Pieces(self._encoded, len(sounds))

    def read(self, first: int, last: int) -> Tensor:
        """See `SpeechFeatures`."""
        return torch.stack([self._of(speaker, first, last) for speaker in range(self.speakers)])

    def _of(self, speaker: int, first: int, last: int) -> Tensor:
        found = []
        for piece in range(first // self._window, -(-last // self._window)):
            start = piece * self._window
            features = self._pieces(speaker, piece)
            found.append(features[max(0, first - start) : last - start])
        return torch.cat(found)

    def _encoded(self, speaker: int, piece: int) -> Tensor:
        self._check_interrupt()
        start, end = piece * self._window, min(self.count, (piece + 1) * self._window)
        whole = self._samples[speaker]
        if self._window >= self.count:
            return wav2vec2_layers(self._network(), whole, self._rate)
        before = min(start, AROUND_SECONDS * self._rate)
        first = (start - before) * RATE // self._rate
        samples = whole[first : (end + AROUND_SECONDS * self._rate) * RATE // self._rate]
        return wav2vec2_layers(self._network(), samples, self._rate)[before : before + end - start]

    def _network(self) -> torch.nn.Module:
        self._encoder.managed.load()
        return self._encoder.model.wav2vec2


def check_encoder(encoder: Any, config: LongCatConfig) -> None:
    """ValueError unless a version of the model hears with this AUDIO_ENCODER."""
    name = config.version.name
    fits = is_whisper(encoder) if name == "1.5" else is_wav2vec2_base(encoder)
    if fits and name == "1.0":
        network = encoder.model.wav2vec2.config
        fits = (network.num_hidden_layers, network.hidden_size) == (config.audio_block, config.audio_channel)
    if not fits:
        raise ValueError(
            f"Connect {WANTED[name]} to Encode Speech as its audio encoder: LongCat {name} hears with it."
        )


def listen(
    speech: Speech,
    config: LongCatConfig,
    seconds: float,
    check_interrupt: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda text: None,
) -> SpeechFeatures:
    """The features of a speech, which ends in silence up to ``seconds``; its encoder has passed `check_encoder`.

    It is measured at once and remembered with the speech, so another seed or portrait does not listen again. What was
    heard for another length is forgotten, since each keeps its pieces.

    Raises:
        ValueError: the encoder is of another size than the version hears with.
    """
    version, channels = config.version, config.audio_channel

    def heard() -> SpeechFeatures:
        say(f"Listening to {speech.seconds:.0f} s of speech")
        sounds = [
            MonoSound(sound, RATE, after=max(0.0, seconds - duration(sound))) for sound in speech.sounds
        ]
        # Rounding may leave one a sample longer than the other.
        shortest = min(sound.samples for sound in sounds)
        for sound in sounds:
            sound.samples = shortest
        source = WhisperSource if version.name == "1.5" else Wav2Vec2Source
        return source(speech.encoder, sounds, version.fps * version.stride, check_interrupt)

    name = f"{NAME} {seconds:.3f}"
    for other in [known for known in speech.heard if known.startswith(NAME) and known != name]:
        del speech.heard[other]
    found = speech.remember(name, heard)
    if (width := found.read(0, 1).shape[-1]) != channels:
        raise ValueError(
            f"Connect {WANTED[version.name]} to Encode Speech: the speech was encoded {width} wide, the model expects "
            f"{channels}."
        )
    return found


def _samples(sound: MonoSound) -> NDArray[np.float32]:
    return sound.read(0, sound.samples).numpy()


def _prepared(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sound as version 1.0 was trained to hear it."""
    noise = np.random.default_rng(NOISE_SEED).standard_normal(len(samples))
    return standardised(low_passed(samples, noise))
