"""The audio encoder of the Hugging Face layout, and hidden layers for audio of any length."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from avatar.loaders.wan.wav2vec2 import AudioEncoder
from avatar.loaders.wan.wav2vec2_windows import frame_count, hidden_state_windows, hidden_states, loudness
from safetensors.torch import load_file
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Model

from tools.tiny_checkpoint import AUDIO_DIM, write_audio_encoder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wav2vec2")
    write_audio_encoder(folder)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return AudioEncoder.from_folder(folder, dtype=torch.float32)


def in_windows(encoder, audio, window_seconds, overlap_seconds, first=0):
    """The hidden states of audio [S] from a frame's window on, [25, t, C], and where they begin."""

    def read(start, stop):
        return audio[start:stop]

    statistics = loudness(read, len(audio), lambda: None)
    pieces = list(
        hidden_state_windows(
            encoder,
            read,
            len(audio),
            statistics,
            first,
            window_seconds=window_seconds,
            overlap_seconds=overlap_seconds,
        )
    )
    for (start, piece), (following, _) in itertools.pairwise(pieces):
        assert start + piece.shape[1] == following
    return torch.cat([piece for _, piece in pieces], dim=1), pieces[0][0]


class FrameEcho:
    """An encoder whose every layer is the mean of a frame's own samples: windows cannot change it."""

    def encode_audio(self, audio, sample_rate):
        assert sample_rate == 16000
        frames = audio[0].unfold(-1, 400, 320).mean(-1)[..., None]
        return {"encoded_audio_all_layers": [frames * (layer + 1) for layer in range(25)]}


def test_layers_equal_the_librarys_own_pipeline(folder, encoder):
    audio = torch.randn(16000 + 123)
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(folder)
    values = extractor(audio.numpy(), sampling_rate=16000, return_tensors="pt").input_values
    model = Wav2Vec2Model.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(values, output_hidden_states=True)
    out = encoder.encode_audio(audio[None, None], 16000)
    layers = out["encoded_audio_all_layers"]
    assert len(layers) == 25
    for layer, like in zip(layers[:-1], expected.hidden_states[:-1], strict=True):
        torch.testing.assert_close(layer, like, rtol=0, atol=1e-4)
    torch.testing.assert_close(layers[-1], expected.last_hidden_state, rtol=0, atol=1e-4)
    assert torch.equal(out["encoded_audio"], layers[-1])


def test_the_last_layer_is_normalised(encoder):
    last = encoder.encode_audio(torch.randn(1, 1, 16000), 16000)["encoded_audio_all_layers"][-1]
    norm = encoder.model.wav2vec2.encoder.layer_norm
    plain = (last - norm.bias) / norm.weight
    torch.testing.assert_close(plain.std(-1, correction=0), torch.ones(plain.shape[:2]), rtol=0, atol=1e-2)


def test_stereo_at_another_rate_is_mixed_and_resampled(encoder):
    audio = torch.randn(1, 1, 44100)
    out = encoder.encode_audio(audio.expand(1, 2, -1), 44100)
    assert out["audio_samples"] == 16000
    assert out["encoded_audio"].shape == (1, 49, AUDIO_DIM)
    mono = encoder.encode_audio(audio, 44100)
    torch.testing.assert_close(out["encoded_audio"], mono["encoded_audio"], rtol=0, atol=1e-5)


def test_loudness_does_not_matter(encoder):
    audio = torch.randn(8000)
    torch.testing.assert_close(
        hidden_states(encoder, audio), hidden_states(encoder, audio * 0.1 + 0.3), rtol=0, atol=1e-2
    )


@pytest.mark.parametrize("name", ["pytorch_model.bin", "new names"])
def test_other_weight_files_give_the_same_layers(folder, encoder, tmp_path, name):
    state = load_file(folder / "model.safetensors")
    if name == "new names":
        new = {
            "weight_g": "parametrizations.weight.original0",
            "weight_v": "parametrizations.weight.original1",
        }
        state = {
            k.replace(k.rsplit(".")[-1], new.get(k.rsplit(".")[-1], k.rsplit(".")[-1])): v
            for k, v in state.items()
        }
    torch.save(state, tmp_path / "pytorch_model.bin")
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    audio = torch.randn(4000)
    other = AudioEncoder.from_folder(tmp_path, dtype=torch.float32)
    assert torch.equal(hidden_states(other, audio), hidden_states(encoder, audio))


def test_the_default_dtype_is_bfloat16(folder):
    assert hidden_states(AudioEncoder.from_folder(folder), torch.randn(4000)).dtype == torch.bfloat16


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 719, 720, 16000])
def test_the_number_of_frames_follows_the_formula(encoder, samples):
    frames = max(0, (samples - 400) // 320) + 1
    assert frame_count(samples) == frames
    assert hidden_states(encoder, torch.randn(samples)).shape == (25, frames, AUDIO_DIM)


@pytest.mark.parametrize("seconds", [2.9, 4.0, 4.02, 7.3, 21.0])
def test_windows_are_aligned_to_the_frames_of_the_whole(seconds):
    audio = torch.randn(int(seconds * 16000) + 7)
    whole = hidden_states(FrameEcho(), audio)
    pieces, _ = in_windows(FrameEcho(), audio, 3, 1)
    torch.testing.assert_close(pieces, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize("first", [0, 1, 99, 120, 130, 149, 150, 500, 1048, 5000])
def test_windows_from_any_frame_on_are_those_of_a_full_pass(first):
    """With an encoder that hears its whole window, so that every window counts."""

    class Average:
        def encode_audio(self, audio, sample_rate):
            frames = audio[0].unfold(-1, 400, 320).mean(-1)[..., None] + audio.mean()
            return {"encoded_audio_all_layers": [frames] * 25}

    audio = torch.randn(16000 * 21 - 5)
    whole, _ = in_windows(Average(), audio, 3, 1)
    rest, start = in_windows(Average(), audio, 3, 1, first)
    assert start <= first and torch.equal(rest, whole[:, start:])


def test_loudness_is_that_of_the_whole(monkeypatch):
    monkeypatch.setattr("avatar.loaders.wan.wav2vec2_windows.WINDOW_SECONDS", 0.1)
    audio = torch.randn(10_007) * 0.2 + 0.1
    variance, mean = torch.var_mean(audio.double(), correction=0)
    found = loudness(lambda a, b: audio[a:b], len(audio), lambda: None)
    assert found == pytest.approx((mean.item(), variance.item()), rel=1e-9)


def test_neighbouring_windows_fade_into_each_other():
    class WindowNumber:
        calls = 0

        def encode_audio(self, audio, sample_rate):
            self.calls += 1
            frames = (audio.shape[-1] - 400) // 320 + 1
            return {"encoded_audio_all_layers": [torch.full((1, frames, 1), float(self.calls))] * 25}

    states, _ = in_windows(WindowNumber(), torch.zeros(16000 * 10), 4, 2)
    steps = states[0, 1:, 0] - states[0, :-1, 0]
    assert states[0, 0, 0] == 1 and states[0, -1, 0] == round(states.max().item())
    assert steps.min() >= 0
    assert steps.max() < 0.05


def test_windows_of_a_real_network_stay_close_to_one_pass(encoder):
    audio = torch.randn(16000 * 24)
    whole = hidden_states(encoder, audio)
    pieces, _ = in_windows(encoder, audio, 12, 6)
    # the position convolution reaches 64 frames, less than the quarter of an overlap that is dropped
    torch.testing.assert_close(pieces[0], whole[0], rtol=0, atol=1e-3)
    deviation = (pieces - whole).pow(2).mean((1, 2)).sqrt() / whole.std((1, 2))
    assert deviation.max() < 0.15  # an untrained network attends evenly to everything, the worst case


def test_a_quiet_window_is_not_made_loud(encoder):
    audio = torch.randn(16000 * 12)
    audio[: 16000 * 6] *= 1e-4
    heard = []

    class Listener:
        model = encoder.model

        def encode_audio(self, samples, sample_rate):
            heard.append(samples.std().item())
            return encoder.encode_audio(samples, sample_rate)

    in_windows(Listener(), audio, 4, 1)
    assert heard[0] < 1e-3
    assert heard[-1] > 1
    assert encoder.model.do_normalize


def test_interruption_is_checked_before_every_window():
    class Stop(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    sound = torch.zeros(16000 * 200)
    windows = hidden_state_windows(FrameEcho(), lambda a, b: sound[a:b], len(sound), (0.0, 1.0), 0, check)
    with pytest.raises(Stop):
        list(windows)
    assert len(calls) == 3


def test_an_encoder_of_another_kind_is_refused():
    class Base(FrameEcho):
        def encode_audio(self, audio, sample_rate):
            return {
                "encoded_audio_all_layers": super().encode_audio(audio, sample_rate)[
                    "encoded_audio_all_layers"
                ][:13]
            }

    with pytest.raises(ValueError, match=r"gives 13 layers.*load wav2vec2-large"):
        hidden_states(Base(), torch.zeros(16000))


def test_too_much_overlap_is_refused():
    with pytest.raises(ValueError, match="cannot overlap"):
        in_windows(FrameEcho(), torch.zeros(16000 * 10), 2, 1.5)


def test_a_folder_of_another_model_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    with pytest.raises(ValueError, match="whisper"):
        AudioEncoder.from_folder(tmp_path)


def test_a_folder_without_weights_is_named(folder, tmp_path):
    for file in ("config.json", "preprocessor_config.json"):
        (tmp_path / file).write_bytes((folder / file).read_bytes())
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        AudioEncoder.from_folder(tmp_path)
