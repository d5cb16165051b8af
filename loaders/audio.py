"""wav2vec2 from a Hugging Face folder as a ComfyUI AUDIO_ENCODER, and its layers for audio of any length."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from ..media.audio import resample
from .files import check_file, check_keys, load_state_dict
from .managed import ManagedModule

SAMPLE_RATE = 16000
RECEPTIVE_FIELD = 400  # samples that one frame sees before the position embedding
HOP = 320  # samples from frame to frame
FRAME_RATE = SAMPLE_RATE // HOP
LAYERS = 25  # hidden layers of wav2vec2 large, which the model mixes

_OLD_NAMES = {
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}


class HiddenLayers(nn.Module):
    """wav2vec2 with the calling convention of ComfyUI's audio encoders.

    ``forward(waveform [B, C, S])`` gives (last layer [B, T, D], tuple of all layers): the mono mix is brought
    to zero mean and unit variance while ``do_normalize`` is set, and the last layer is always the one after
    the encoder's final layer norm.
    """

    def __init__(self, wav2vec2: Wav2Vec2Model, do_normalize: bool = True) -> None:
        super().__init__()
        self.wav2vec2 = wav2vec2
        self.do_normalize = do_normalize

    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        mono = waveform.float().mean(dim=1)
        if self.do_normalize:
            mono = normalize(mono)
        out = self.wav2vec2(mono.to(self.wav2vec2.dtype), output_hidden_states=True)
        # transformers 5 lists the last layer before the final norm, transformers 4 after it
        return out.last_hidden_state, (*out.hidden_states[:-1], out.last_hidden_state)


class AudioEncoder:
    """wav2vec2 as a ComfyUI AUDIO_ENCODER; ``encode_audio`` is the whole protocol."""

    model_sample_rate = SAMPLE_RATE

    def __init__(self, model: HiddenLayers, device: torch.device | str = "cpu") -> None:
        self.managed = ManagedModule(model, device)

    @property
    def model(self) -> HiddenLayers:
        """The module that turns waveforms into layers."""
        return self.managed.module

    @classmethod
    def from_folder(
        cls, folder: str | Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16
    ) -> AudioEncoder:
        """Load from a wav2vec2 folder of the Hugging Face layout (``wav2vec2-large-xlsr-53-english``).

        ``device`` counts outside ComfyUI only; inside, the host decides. LiveAvatar runs wav2vec2 in
        bfloat16. Raises FileNotFoundError or ValueError.
        """
        folder = Path(folder)
        config = _read_json(folder / "config.json")
        if config.get("model_type") != "wav2vec2":
            raise ValueError(
                f"{folder} holds a {config.get('model_type')} model; a wav2vec2 model is needed."
            )
        preprocessor = _read_json(folder / "preprocessor_config.json")
        with torch.device("meta"):
            wav2vec2 = Wav2Vec2Model(Wav2Vec2Config(**config))
        _load_weights(wav2vec2, folder)
        return cls(HiddenLayers(wav2vec2.to(dtype), preprocessor.get("do_normalize", True)), device)

    def encode_audio(self, audio: torch.Tensor, sample_rate: int) -> dict[str, Any]:
        """Encode a waveform [B, C, S] in one pass.

        Returns ``encoded_audio`` [B, T, D], ``encoded_audio_all_layers`` (25 of them for the large model) and
        ``audio_samples``, the length at 16 kHz. T = floor((samples - 400) / 320) + 1, about 50 per second.
        """
        device = self.managed.load()
        channels = resample(audio.flatten(0, 1), sample_rate, SAMPLE_RATE)
        audio = channels.unflatten(0, audio.shape[:2])
        with torch.no_grad():
            last, layers = self.model(_at_least_one_frame(audio).to(device))
        return {
            "encoded_audio": last,
            "encoded_audio_all_layers": list(layers),
            "audio_samples": audio.shape[-1],
        }


def normalize(waveform: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over the last axis, as the published feature extractor does it."""
    variance, mean = torch.var_mean(waveform, dim=-1, correction=0, keepdim=True)
    return (waveform - mean) / torch.sqrt(variance + 1e-7)


def _at_least_one_frame(waveform: torch.Tensor) -> torch.Tensor:
    """Silence appended to a waveform that is too short for one frame."""
    return nn.functional.pad(waveform, (0, max(0, RECEPTIVE_FIELD - waveform.shape[-1])))


def _read_json(path: Path) -> dict[str, Any]:
    check_file(path)
    return json.loads(path.read_text(encoding="utf-8"))


def _load_weights(model: Wav2Vec2Model, folder: Path) -> None:
    """Fill a model on the meta device from a folder's weights, without the CTC head."""
    names = ("model.safetensors", "pytorch_model.bin")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise FileNotFoundError(
            f"{folder} has neither {' nor '.join(names)}; download the whole wav2vec2 folder"
        )
    state = {}
    for key, tensor in load_state_dict(path).items():
        name = key.removeprefix("wav2vec2.")
        stem, _, leaf = name.rpartition(".")
        if not name.startswith("lm_head."):
            state[f"{stem}.{_OLD_NAMES[leaf]}" if leaf in _OLD_NAMES else name] = tensor
    # used in training only, and absent from some files
    state.setdefault("masked_spec_embed", torch.zeros(model.config.hidden_size))
    check_keys(state, model, f"the audio encoder {path}")
    model.load_state_dict(state, assign=True)


def hidden_states(
    encoder: Any,
    waveform: torch.Tensor,
    window_seconds: float = 60.0,
    overlap_seconds: float = 8.0,
    check_interrupt: Callable[[], None] | None = None,
) -> torch.Tensor:
    """All 25 hidden layers of a mono 16 kHz waveform [S], as [25, T, C] on the CPU in the encoder's dtype.

    ``encoder`` is ours or ComfyUI's AUDIO_ENCODER. T = floor((S - 400) / 320) + 1, at least 1. Audio longer
    than one window is encoded in overlapping windows. An hour in bfloat16 is 9 GB here: for long audio take
    ``hidden_state_windows`` instead, which holds one window at a time.
    """
    frames = frame_count(waveform.shape[-1])
    result, done = None, 0
    for part in hidden_state_windows(encoder, waveform, window_seconds, overlap_seconds, check_interrupt):
        if result is None:
            result = part.new_empty(part.shape[0], frames, part.shape[2])
        result[:, done : done + part.shape[1]] = part
        done += part.shape[1]
    return result


def hidden_state_windows(
    encoder: Any,
    waveform: torch.Tensor,
    window_seconds: float = 60.0,
    overlap_seconds: float = 8.0,
    check_interrupt: Callable[[], None] | None = None,
) -> Iterator[torch.Tensor]:
    """The frames of ``hidden_states`` in order, in pieces [25, t, C] of about a window each.

    Audio of up to one window goes through the encoder whole. Longer audio is cut into evenly spread windows
    that begin on frame borders and share at least ``overlap_seconds``; loudness is normalised over the whole
    file, as in one pass. The outer quarters of an overlap, which lack context on one side, are dropped, and
    the inner half is a linear cross-fade. ``check_interrupt`` is called before each window and may raise.
    ValueError for another kind of encoder than wav2vec2 large.
    """
    if waveform.ndim != 1:
        raise ValueError(f"hidden_state_windows needs one mono waveform [S], not {tuple(waveform.shape)}")
    waveform = _at_least_one_frame(waveform.float())
    spans = _windows(
        frame_count(waveform.shape[0]),
        round(window_seconds * FRAME_RATE),
        round(overlap_seconds * FRAME_RATE),
    )
    if len(spans) == 1:
        if check_interrupt is not None:
            check_interrupt()
        yield _encode(encoder, waveform, spans[0][1])
        return
    if _normalizes(encoder):
        waveform = normalize(waveform)
    ready, fading = 0, None
    for number, (start, stop) in enumerate(spans):
        if check_interrupt is not None:
            check_interrupt()
        samples = waveform[start * HOP : (stop - 1) * HOP + RECEPTIVE_FIELD]
        states = _encode(encoder, samples, stop - start, normalized=True)
        if fading is not None:
            part = states[:, ready - start :][:, : fading.shape[1]]
            weight = (torch.arange(part.shape[1]) + 0.5).div(part.shape[1])[None, :, None]
            part.copy_(torch.lerp(fading.float(), part.float(), weight))
        if number + 1 == len(spans):
            yield states[:, ready - start :]
            return
        middle = (spans[number + 1][0] + stop) // 2
        quarter = (stop - spans[number + 1][0]) // 4
        yield states[:, ready - start : middle - quarter - start]
        fading = states[:, middle - quarter - start : middle + quarter - start]
        ready = middle - quarter


def frame_count(samples: int) -> int:
    """Frames that wav2vec2 makes of this many samples at 16 kHz; too short audio is padded to one frame."""
    return (max(samples, RECEPTIVE_FIELD) - RECEPTIVE_FIELD) // HOP + 1


def _windows(frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of ``window`` frames, evenly spread, neighbours sharing at least ``overlap`` frames."""
    if frames <= window:
        return [(0, frames)]
    if not 0 <= overlap <= window // 2:
        raise ValueError(
            f"windows of {window} frames cannot overlap by {overlap}; at most half a window is possible"
        )
    count = -(-(frames - overlap) // (window - overlap))
    starts = ((frames - window) * i // (count - 1) for i in range(count))
    return [(start, start + window) for start in starts]


def _normalizes(encoder: Any) -> bool:
    """Whether an encoder, ours or the host's, brings every waveform to unit variance by itself."""
    return bool(getattr(getattr(encoder, "model", None), "do_normalize", False))


def _encode(encoder: Any, samples: torch.Tensor, frames: int, normalized: bool = False) -> torch.Tensor:
    """One pass, stacked [25, frames, C] on the CPU; ``normalized`` keeps the encoder from doing it again."""
    switched_off = normalized and _normalizes(encoder)
    if switched_off:
        encoder.model.do_normalize = False
    try:
        with torch.no_grad():
            layers = encoder.encode_audio(samples[None, None], SAMPLE_RATE)["encoded_audio_all_layers"]
    finally:
        if switched_off:
            encoder.model.do_normalize = True
    if len(layers) != LAYERS or layers[0].shape[1] != frames:
        raise ValueError(
            f"This audio encoder gives {len(layers)} layers of {layers[0].shape[1]} frames, but "
            f"LiveAvatar needs {LAYERS} of {frames}; load wav2vec2-large-xlsr-53-english."
        )
    return torch.stack([layer[0].cpu() for layer in layers])
