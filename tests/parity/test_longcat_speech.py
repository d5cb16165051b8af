"""LongCat's two ways from a waveform to features against the recorded reference."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from avatar.loaders.longcat.loudness import levelled
from avatar.loaders.longcat.speech import (
    hidden_states,
    log_mel,
    low_passed,
    standardised,
    wav2vec2_features,
    whisper_features,
)
from transformers import Wav2Vec2Config, Wav2Vec2Model, WhisperConfig
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from tests.parity.longcat_fixtures import FAMILY, close, file_of, manifest, speech, tensor
from tests.parity.reference import tensors


@functools.lru_cache
def wav2vec2() -> Wav2Vec2Model:
    model = Wav2Vec2Model(Wav2Vec2Config(**manifest()["configs"]["wav2vec2"]))
    state = tensors(FAMILY, file_of("weights_wav2vec2"))
    model.load_state_dict(state | {"masked_spec_embed": torch.zeros(model.config.hidden_size)})
    return model.eval()


@functools.lru_cache
def whisper() -> WhisperEncoder:
    model = WhisperEncoder(WhisperConfig(**manifest()["configs"]["whisper"]))
    state = tensors(FAMILY, file_of("weights_whisper"))
    model.load_state_dict({key.removeprefix("encoder."): value for key, value in state.items()})
    return model.eval()


def sound(name):
    settings = manifest()["extra"][name]
    return speech(settings["seconds"], settings["seed"]), settings


def test_loudness_filter_and_spread_of_a_sound():
    file, (samples, _) = file_of("02"), sound("wav2vec2")
    head = tensor(file, "waveform_head")
    assert torch.equal(torch.from_numpy(samples[: len(head)]), head)
    noise, step = tensor(file, "noise").double().numpy(), len(samples) // len(tensor(file, "loudness"))
    close(torch.from_numpy(levelled(samples.astype(np.float64))[::step]), file, "loudness")
    filtered = low_passed(samples, noise)
    close(torch.from_numpy(filtered[::step]), file, "filtered")
    close(torch.from_numpy(standardised(filtered)[::step]), file, "normalized")


def test_silence_keeps_its_loudness():
    assert manifest()["extra"]["loudness_of_silence_unchanged"]
    assert not levelled(np.zeros(16000)).any()


def test_wav2vec2_at_32_features_a_second():
    file, (samples, settings) = file_of("02"), sound("wav2vec2")
    noise = tensor(file, "noise").double().numpy()
    features = wav2vec2_features(wav2vec2(), samples, settings["fps"], noise)
    assert len(features) == settings["frames"]
    close(features, file, "embedding")


@pytest.mark.parametrize("name", ["short", "long"])
def test_whisper_at_25_features_a_second(name):
    file, (samples, settings) = file_of("03"), sound(f"whisper_{name}")
    features = whisper_features(whisper(), samples, settings["fps"])
    assert len(features) == settings["frames"]
    close(features, file, f"{name}_embedding")


def test_whisper_inside():
    file, (samples, _) = file_of("03"), sound("whisper_short")
    mel = log_mel(levelled(samples.astype(np.float64)))
    expected = tensor(file, "short_mel")
    close(mel[:, :, ::3][:, :, : expected.shape[2]], file, "short_mel")
    with torch.inference_mode():
        states = hidden_states(whisper(), mel)
    expected = tensor(file, "short_hidden")
    chosen = torch.stack([states[number] for number in (0, 1, 31, 32)], 2)
    close(chosen[:, ::5][:, : expected.shape[1]], file, "short_hidden")
