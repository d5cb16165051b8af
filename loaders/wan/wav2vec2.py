"""wav2vec2 from a Hugging Face folder as a ComfyUI AUDIO_ENCODER."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import nn

from ...host.memory import ManagedModule
from ...media.audio import resample
from ..files import check_keys, load_state_dict, read_json
from ..sizes import check_layers, empty

if TYPE_CHECKING:
    from transformers import Wav2Vec2Model

SAMPLE_RATE = 16000
RECEPTIVE_FIELD = 400  # samples that one frame sees before the position embedding
HOP = 320  # samples from frame to frame
FRAME_RATE = SAMPLE_RATE // HOP
EPSILON = 1e-7  # added to the variance of a sound

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

        ``device`` counts outside ComfyUI only; inside, the host decides. LiveAvatar runs wav2vec2 in bfloat16.

        Raises:
            FileNotFoundError: a file of the folder is missing.
            ValueError: the folder holds another model, or a file is damaged.
        """
        folder = Path(folder)
        config = read_json(folder / "config.json")
        if config.get("model_type") != "wav2vec2":
            raise ValueError(
                f"{folder} holds a {config.get('model_type')} model; a wav2vec2 model is needed."
            )
        preprocessor = read_json(folder / "preprocessor_config.json")
        wav2vec2 = _load_model(config, folder)
        return cls(HiddenLayers(wav2vec2.to(dtype), preprocessor.get("do_normalize", True)), device)

    def encode_audio(self, audio: torch.Tensor, sample_rate: int) -> dict[str, Any]:
        """Encode a waveform [B, C, S] in one pass.

        Returns ``encoded_audio`` [B, T, D], ``encoded_audio_all_layers`` (25 of them for the large model) and
        ``audio_samples``, the length at 16 kHz. T = floor((samples - 400) / 320) + 1, about 50 per second.
        """
        device = self.managed.load()
        channels = resample(rearrange(audio, "b c samples -> (b c) samples"), sample_rate, SAMPLE_RATE)
        audio = rearrange(channels, "(b c) samples -> b c samples", b=len(audio))
        with torch.no_grad():
            last, layers = self.model(at_least_one_frame(audio).to(device))
        return {
            "encoded_audio": last,
            "encoded_audio_all_layers": list(layers),
            "audio_samples": audio.shape[-1],
        }


def normalize(waveform: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance over the last axis, as the published feature extractor does it."""
    variance, mean = torch.var_mean(waveform, dim=-1, correction=0, keepdim=True)
    return (waveform - mean) / torch.sqrt(variance + EPSILON)


def at_least_one_frame(waveform: torch.Tensor) -> torch.Tensor:
    """Silence appended to a waveform that is too short for one frame."""
    return nn.functional.pad(waveform, (0, max(0, RECEPTIVE_FIELD - waveform.shape[-1])))


def _load_model(values: dict[str, Any], folder: Path) -> Wav2Vec2Model:
    """The model of a config and of the folder's weights, without the CTC head."""
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
    model = _empty_model(values, state, folder / "config.json")
    # used in training only, and absent from some files
    trained_only = "masked_spec_embed"
    state.setdefault(trained_only, torch.empty(model.config.hidden_size, device="meta"))
    check_keys(state, model, f"the audio encoder {path}")
    if state[trained_only].is_meta:
        state[trained_only] = torch.zeros(model.config.hidden_size)
    model.load_state_dict(state, assign=True)
    return model


def _empty_model(values: dict[str, Any], state: dict[str, torch.Tensor], path: Path) -> Wav2Vec2Model:
    """The model of a config on the meta device; ValueError, naming its file, when the sizes cannot be the weights'."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    with empty(path, "wav2vec2 model"):
        config = Wav2Vec2Config(**values)
        counts = {"num_hidden_layers": config.num_hidden_layers, "conv_dim": len(config.conv_dim)}
        adapters = {"num_adapter_layers": config.num_adapter_layers} if config.add_adapter else {}
        hop = math.prod(config.conv_stride)
    check_layers(path, counts | adapters, state)
    if hop != HOP:
        raise ValueError(f"Download {path} again: it takes {hop:,} samples for a frame instead of {HOP}.")
    with empty(path, "wav2vec2 model"):
        return Wav2Vec2Model(config)
