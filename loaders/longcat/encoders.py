"""LongCat's speech encoders as AUDIO_ENCODERs: chinese-wav2vec2-base for version 1.0, Whisper large v3 for 1.5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...host.memory import ManagedModule
from ...media.audio import resample
from ..files import check_keys, load_sharded, read_json
from ..sizes import check_layers, empty
from ..wan.wav2vec2 import AudioEncoder
from .loudness import RATE
from .speech import PIECE, hidden_states, log_mel

if TYPE_CHECKING:
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

WHISPER_LAYERS = 32
_PREFIXES = ("model.encoder.", "encoder.")


class WhisperAudioEncoder:
    """Whisper's encoder as a ComfyUI AUDIO_ENCODER; ``encode_audio`` is the whole protocol."""

    model_sample_rate = RATE

    def __init__(self, encoder: WhisperEncoder, device: torch.device | str = "cpu") -> None:
        self.managed = ManagedModule(encoder, device)

    @classmethod
    def from_folder(cls, folder: str | Path, device: torch.device | str = "cpu") -> WhisperAudioEncoder:
        """Load from a folder of the Hugging Face layout (``whisper-large-v3``); only its encoder is kept.

        FileNotFoundError or ValueError name the file. ``device`` counts outside ComfyUI only. It computes in float32.
        """
        from transformers import WhisperConfig
        from transformers.models.whisper.modeling_whisper import WhisperEncoder

        folder = Path(folder)
        path, values = folder / "config.json", read_json(folder / "config.json")
        if values.get("model_type") != "whisper":
            raise ValueError(
                f"Use whisper-large-v3: {folder} holds a {values.get('model_type')!r:.40} model."
            )
        state = _encoder_weights(load_sharded(folder, "model"))
        with empty(path, "Whisper encoder"):
            config = WhisperConfig(**values)
        check_layers(path, {"encoder_layers": config.encoder_layers}, state)
        if config.encoder_layers != WHISPER_LAYERS:
            raise ValueError(
                f"Use whisper-large-v3: the encoder in {folder} has {config.encoder_layers} layers, not "
                f"{WHISPER_LAYERS}."
            )
        with empty(path, "Whisper encoder"):
            model = WhisperEncoder(config)
        check_keys(state, model, f"the speech encoder in {folder}")
        model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
        return cls(model, device)

    def encode_audio(self, audio: Tensor, sample_rate: int) -> dict[str, Any]:
        """Encode a waveform [1, C, S] of at most 30 seconds, padded with silence to that: all hidden states
        [1, 1500, width], of which the last one is behind the final norm."""
        device = self.managed.load()
        mono = resample(audio[0], sample_rate, RATE).float().mean(0)[:PIECE]
        with torch.inference_mode():
            mel = log_mel(mono.cpu().numpy().astype(np.float64)).to(device)
            states = hidden_states(self.managed.module, mel)
        return {
            "encoded_audio": states[-1],
            "encoded_audio_all_layers": list(states),
            "audio_samples": len(mono),
        }


def load_wav2vec2(folder: str | Path, device: torch.device | str = "cpu") -> AudioEncoder:
    """Version 1.0's speech encoder from a folder of the Hugging Face layout (``chinese-wav2vec2-base``), in float32."""
    return AudioEncoder.from_folder(folder, device, torch.float32)


def is_whisper(encoder: Any) -> bool:
    """Whether an AUDIO_ENCODER is Whisper: ours, or the host's own."""
    return (
        isinstance(encoder, WhisperAudioEncoder)
        or "Whisper" in type(getattr(encoder, "model", None)).__name__
    )


def is_wav2vec2_base(encoder: Any) -> bool:
    """Whether an AUDIO_ENCODER is ours with a wav2vec2 of the base kind, whose layers are normalised behind
    themselves."""
    return isinstance(encoder, AudioEncoder) and not encoder.model.wav2vec2.config.do_stable_layer_norm


def is_longcats(encoder: Any) -> bool:
    """Whether a version of LongCat hears with this AUDIO_ENCODER, and LiveAvatar does not."""
    return is_whisper(encoder) or is_wav2vec2_base(encoder)


def _encoder_weights(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the encoder, without prefix."""
    for prefix in _PREFIXES:
        if found := {key[len(prefix) :]: state[key] for key in state if key.startswith(prefix)}:
            return found
    return state
