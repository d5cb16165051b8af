"""Whisper in this process: by transformers, or by faster-whisper."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...conversation.roles import EARS_RATE, Heard
from ...conversation.worker import Worker
from .files import EARS, find

WINDOW_SECONDS = 30
"""Whisper hears so much at once."""


def ears_here(
    label: str, language: str, device: str, download: bool, progress: Callable[[int, int], None]
) -> Any:
    """Ears of a model of `EARS`, as `conversation.roles.Ears`; ``language`` is a code, or empty to find it out.

    Raises as `files.find` does.
    """
    model, folder = find(EARS, label, download, progress)
    kind = FasterWhisper if model.package else Whisper
    return kind(folder, language, device)


class Whisper:
    """Whisper by transformers, which ComfyUI has."""

    def __init__(self, folder: Path, language: str, device: str) -> None:
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        self._language, self._device = language, torch.device(device)
        kind = torch.float16 if self._device.type == "cuda" else torch.float32
        self._processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
        model = WhisperForConditionalGeneration.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=kind
        )
        self._model = model.to(self._device).eval()
        self._worker = Worker("ears")

    async def probe(self) -> None:
        """Nothing can be missing."""

    async def transcribe(self, sound: Tensor) -> Heard:
        """The words of float32 samples [S] at 16 kHz."""
        return await self._worker.call(lambda stop: self._heard(sound, stop))

    @torch.inference_mode()
    def _heard(self, sound: Tensor, stop: threading.Event) -> Heard:
        language, texts = self._language, []
        for window in sound.split(WINDOW_SECONDS * EARS_RATE):
            if stop.is_set():
                break
            features = self._processor(window.numpy(), sampling_rate=EARS_RATE, return_tensors="pt")
            features = features.input_features.to(self._device, self._model.dtype)
            if not language:
                found = self._model.detect_language(features)
                language = self._processor.tokenizer.decode(found[0]).strip("<|>")
            tokens = self._model.generate(
                features,
                language=language,
                task="transcribe",
                stopping_criteria=stopping(stop),
            )
            texts.append(self._processor.batch_decode(tokens, skip_special_tokens=True)[0].strip())
        return Heard(" ".join(texts).strip(), language)


class FasterWhisper:
    """Whisper by faster-whisper, where it is installed."""

    def __init__(self, folder: Path, language: str, device: str) -> None:
        from faster_whisper import WhisperModel

        kind = torch.device(device)
        self._language = language or None
        self._model = WhisperModel(
            str(folder),
            device="cuda" if kind.type == "cuda" else "cpu",
            device_index=kind.index or 0,
            compute_type="float16" if kind.type == "cuda" else "int8",
        )
        self._worker = Worker("ears")

    async def probe(self) -> None:
        """Nothing can be missing."""

    async def transcribe(self, sound: Tensor) -> Heard:
        """The words of float32 samples [S] at 16 kHz."""
        return await self._worker.call(lambda stop: self._heard(sound, stop))

    def _heard(self, sound: Tensor, stop: threading.Event) -> Heard:
        segments, about = self._model.transcribe(
            sound.numpy(), language=self._language, beam_size=1, condition_on_previous_text=False
        )
        texts = []
        for segment in segments:
            if stop.is_set():
                break
            texts.append(segment.text.strip())
        return Heard(" ".join(texts), about.language)


def stopping(stop: threading.Event) -> Any:
    """Stopping criteria of transformers for work whose result nobody wants any more."""
    from transformers import StoppingCriteria, StoppingCriteriaList

    class Stopped(StoppingCriteria):
        def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
            return torch.full((input_ids.shape[0],), stop.is_set(), device=input_ids.device)

    return StoppingCriteriaList([Stopped()])
