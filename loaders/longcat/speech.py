"""Speech as LongCat hears it: wav2vec2's layers for version 1.0, means of Whisper's layers for 1.5."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .loudness import RATE, levelled

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

NOISE_FLOOR = -45.0  # dB
LOW_PASS_ORDER, LOW_PASS = 3, 3000.0  # Hz
VARIANCE_FLOOR = 1e-7
PIECE = 30 * RATE
"""Samples that Whisper hears at once."""
MEL_BINS = 128
PIECE_FRAMES = 1500
"""Whisper's frames for a piece, 50 a second."""
GROUPS = ((0, 8), (8, 16), (16, 24), (24, 32), (32, 33))
"""Hidden states of Whisper that are averaged into a group."""


def frame_count(samples: int, rate: int) -> int:
    """Features that there are of so many samples, with ``rate`` features a second."""
    return int(samples / RATE * rate)


@torch.inference_mode()
def wav2vec2_features(
    encoder: Wav2Vec2Model, samples: NDArray[np.float32], rate: int, noise: NDArray[np.float64]
) -> Tensor:
    """Features of a mono sound [S] at 16 kHz for version 1.0: float32 [features, 12 layers, channels] on the CPU.

    The whole sound is encoded at once, and memory grows with the square of its length.

    Args:
        rate: features a second, 32 for 16 video frames a second.
        noise: standard normal [S], which becomes the floor that the model was trained with.
    """
    return wav2vec2_layers(encoder, standardised(low_passed(samples, noise)), rate)


@torch.inference_mode()
def wav2vec2_layers(encoder: Wav2Vec2Model, samples: NDArray[np.float32], rate: int) -> Tensor:
    """All layers of wav2vec2 for a prepared sound [S], float32 [features, layers, channels] on the CPU."""
    device = next(encoder.parameters()).device
    heard = torch.from_numpy(samples)[None].to(device)
    frames = encoder.feature_extractor(heard)
    # At the model's rate before the transformer, not behind it.
    frames = F.interpolate(frames, size=frame_count(len(samples), rate), mode="linear", align_corners=True)
    projected, _ = encoder.feature_projection(frames.transpose(1, 2))
    layers: list[Tensor] = []

    def keep(layer: nn.Module, given: tuple, out: Tensor | tuple[Tensor, ...]) -> None:
        layers.append((out[0] if isinstance(out, tuple) else out)[0].float().cpu())

    # Hooks, because transformers 5 collects hidden states around the whole model only.
    hooks = [layer.register_forward_hook(keep) for layer in encoder.encoder.layers]
    try:
        encoder.encoder(projected)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(layers, 1)


def low_passed(samples: NDArray[np.float32], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sound [S] at the right loudness, above a floor of ``noise`` [S], and without what is higher than 3 kHz."""
    from scipy.signal import butter, lfilter

    floored = levelled(samples.astype(np.float64)) + 10 ** (NOISE_FLOOR / 20) * noise
    return lfilter(*butter(LOW_PASS_ORDER, LOW_PASS, fs=RATE), floored)


def standardised(samples: NDArray[np.float64]) -> NDArray[np.float32]:
    """The sound [S] with zero mean and unit variance."""
    return ((samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_FLOOR)).astype(np.float32)


@torch.inference_mode()
def whisper_features(
    encoder: WhisperEncoder,
    samples: NDArray[np.float32],
    rate: int,
    check_interrupt: Callable[[], None] = lambda: None,
) -> Tensor:
    """Features of a mono sound [S] at 16 kHz for version 1.5: float32 [features, 5 groups, channels] on the CPU.

    Pieces of 30 seconds are encoded apart from each other, one after the other.

    Args:
        rate: features a second, one for each video frame.
        check_interrupt: called before each piece; raises to stop.
    """
    device, dtype = encoder.conv1.weight.device, encoder.conv1.weight.dtype
    count, heard, groups = frame_count(len(samples), rate), levelled(samples.astype(np.float64)), []
    for first in range(0, len(samples), PIECE):
        check_interrupt()
        mel = log_mel(heard[first : first + PIECE]).to(device, dtype)
        states = hidden_states(encoder, mel)
        groups.append(torch.stack([torch.stack(states[a:b]).float().mean(0)[0] for a, b in GROUPS]).cpu())
    # Two of Whisper's frames for each feature, all the way to the last one.
    frames = torch.cat(groups, 1)[:, : 2 * count].transpose(1, 2)
    features = F.interpolate(frames, size=count, mode="linear", align_corners=True)
    return features.permute(2, 0, 1).contiguous()


def log_mel(samples: NDArray[np.float64]) -> Tensor:
    """Whisper's log-mel picture of at most 30 seconds, padded with silence, float32 [1, 128 bins, 3000]."""
    from transformers import WhisperFeatureExtractor

    extractor = WhisperFeatureExtractor(feature_size=MEL_BINS)
    return extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features


def hidden_states(encoder: WhisperEncoder, mel: Tensor) -> tuple[Tensor, ...]:
    """What the convolutions gave, then each layer's output [1, 1500, channels]; the last one after the final norm."""
    out = encoder(mel, output_hidden_states=True)
    return (*out.hidden_states[:-1], out.last_hidden_state)
