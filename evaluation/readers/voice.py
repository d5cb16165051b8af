"""Voices and words, by transformers' models from folders."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...media.sound import MonoSound

LONGEST = 30
"""Seconds of a sound from which a voice is known; speech is written down in parts of this length."""


class Speaker:
    """A WavLM for speaker verification from a folder, such as microsoft/wavlm-base-plus-sv."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """FileNotFoundError without the folder, ValueError when it holds no such model."""
        from transformers import WavLMForXVector

        self._model = _read(WavLMForXVector, folder, "microsoft/wavlm-base-plus-sv").to(device)
        self._device = device

    @torch.inference_mode()
    def embed(self, sound: MonoSound) -> Tensor:
        """The voice of the first half minute as a unit vector ``[D]``; the sound has 16 kHz."""
        samples = sound.read(0, min(sound.samples, LONGEST * sound.rate))
        samples = (samples - samples.mean()) / (samples.std() + 1e-7)
        found = self._model(input_values=samples[None].to(self._device)).embeddings[0]
        return F.normalize(found.float().cpu(), dim=0)


class Writer:
    """Writes down what is said, by a Whisper from a folder, such as openai/whisper-small."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """FileNotFoundError without the folder, ValueError when it holds no such model."""
        from transformers import AutoProcessor, WhisperForConditionalGeneration

        self._model = _read(WhisperForConditionalGeneration, folder, "openai/whisper-small").to(device)
        self._device = device
        self._processor = AutoProcessor.from_pretrained(str(folder), local_files_only=True)

    @torch.inference_mode()
    def write(self, sound: MonoSound) -> str:
        """The words of a sound at 16 kHz, in its own language."""
        said = []
        for start in range(0, sound.samples, LONGEST * sound.rate):
            samples = sound.read(start, min(sound.samples, start + LONGEST * sound.rate))
            given = self._processor(samples.numpy(), sampling_rate=sound.rate, return_tensors="pt")
            tokens = self._model.generate(given.input_features.to(self._device), task="transcribe")
            said.append(self._processor.batch_decode(tokens, skip_special_tokens=True)[0].strip())
        return " ".join(filter(None, said))


def _read(kind: type, folder: Path, example: str) -> torch.nn.Module:
    if not (Path(folder) / "config.json").is_file():
        raise FileNotFoundError(f"Download {example}: there is no model in {folder}.")
    try:
        return kind.from_pretrained(str(folder), local_files_only=True).eval()
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ValueError(
            f"Download {folder} again: {kind.__name__} cannot be read from it ({error})."
        ) from error
