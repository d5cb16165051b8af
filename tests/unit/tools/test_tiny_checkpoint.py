"""The tiny checkpoint has the published layout and loads with the ordinary libraries."""

from __future__ import annotations

import json
import math

import pytest
import torch
from avatar.loaders.lora import read_lora
from avatar.loaders.wan.text import TextEncoder
from avatar.loaders.wan.wav2vec2 import AudioEncoder
from avatar.loaders.wan.wav2vec2_windows import hidden_states
from safetensors.torch import load_file
from transformers import AutoTokenizer, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from tools import checkpoint_shapes as shapes
from tools.tiny_checkpoint import TEXT_DIM, make


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make(tmp_path_factory.mktemp("checkpoint"), host_layout=True)


def shapes_of(state):
    return {key: tuple(tensor.shape) for key, tensor in state.items()}


def transformer(root):
    index = json.loads((root / "tiny/diffusion_pytorch_model.safetensors.index.json").read_text())
    files = {name: load_file(root / "tiny" / name) for name in set(index["weight_map"].values())}
    assert sorted(index["weight_map"]) == sorted(key for state in files.values() for key in state)
    return {key: files[name][key] for key, name in index["weight_map"].items()}


@pytest.mark.parametrize(
    ("table", "tensors", "parameters"),
    [
        (shapes.transformer_shapes(5120, 13824, 40, 12, 4096, 1024), 1260, 16_295_755_609),
        (shapes.vae_shapes(96), 194, 126_892_531),
        (shapes.text_encoder_shapes(256384, 4096, 4096, 10240, 64, 24), 242, 5_680_910_336),
    ],
)
def test_the_shape_tables_have_the_published_size(table, tensors, parameters):
    assert len(table) == tensors
    assert sum(math.prod(shape) for shape in table.values()) == parameters


def test_the_lora_table_has_the_published_number_of_pairs():
    table = shapes.lora_shapes(shapes.transformer_shapes(5120, 13824, 40, 12, 4096, 1024), 128)
    assert len(table) == 896


def test_all_files_of_the_published_layout_are_there(root):
    base = (
        "config.json",
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00002-of-00002.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "Wan2.1_VAE.pth",
        "models_t5_umt5-xxl-enc-bf16.pth",
        "google/umt5-xxl/tokenizer.json",
        "google/umt5-xxl/tokenizer_config.json",
        "google/umt5-xxl/special_tokens_map.json",
        "wav2vec2-large-xlsr-53-english/config.json",
        "wav2vec2-large-xlsr-53-english/preprocessor_config.json",
        "wav2vec2-large-xlsr-53-english/vocab.json",
        "wav2vec2-large-xlsr-53-english/model.safetensors",
    )
    assert {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()} == {
        *(f"tiny/{name}" for name in base),
        *(f"tiny-wide/{name}" for name in base),
        "tiny-lora/liveavatar.safetensors",
        "host/diffusion_models/tiny_s2v.safetensors",
        "host/vae/tiny_wan_vae.safetensors",
        "host/loras/tiny_lora_converted.safetensors",
    }


def test_the_transformer_has_the_keys_and_dtype_of_its_config(root):
    config = json.loads((root / "tiny/config.json").read_text())
    state = transformer(root)
    assert shapes_of(state) == shapes.transformer_shapes(
        config["dim"],
        config["ffn_dim"],
        config["num_layers"],
        len(config["audio_inject_layers"]),
        config["text_dim"],
        config["audio_dim"],
    )
    assert {tensor.dtype for tensor in state.values()} == {torch.bfloat16}
    assert config["dim"] == 128 * config["num_heads"]


def test_the_vae_loads_without_running_code_and_has_its_keys(root):
    state = torch.load(root / "tiny/Wan2.1_VAE.pth", weights_only=True)
    assert shapes_of(state) == shapes.vae_shapes(8)
    host = load_file(root / "host/vae/tiny_wan_vae.safetensors")
    assert all(torch.equal(host[key], tensor) for key, tensor in state.items())


def test_every_lora_pair_fits_a_matrix_of_the_transformer(root):
    state = transformer(root)
    lora = read_lora(root / "tiny-lora/liveavatar.safetensors")
    assert len(lora.pairs) == 5 * 10 + 12 * 4
    for module, (a, b) in lora.pairs.items():
        assert state[f"{module}.weight"].shape == (b.shape[0], a.shape[1])


def test_the_converted_lora_is_the_same_with_explicit_alpha(root):
    original = read_lora(root / "tiny-lora/liveavatar.safetensors")
    converted = read_lora(root / "host/loras/tiny_lora_converted.safetensors")
    assert converted.alphas == original.alphas
    assert original.pairs.keys() == converted.pairs.keys()


def test_the_host_transformer_has_the_widths_that_the_host_fixes(root):
    state = load_file(root / "host/diffusion_models/tiny_s2v.safetensors")
    assert state["text_embedding.0.weight"].shape == (128, 4096)
    assert state["casual_audio_encoder.encoder.conv1_local.conv.weight"].shape == (128, 1024, 3)
    assert sum(key.startswith("audio_injector.injector.") for key in state) == 12 * 10


def test_text_goes_through_tokenizer_and_encoder(root):
    tokenizer = AutoTokenizer.from_pretrained(root / "tiny/google/umt5-xxl")
    ids = tokenizer("A person speaks").input_ids
    assert ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer.pad_token_id == 0
    assert tokenizer.decode(ids, skip_special_tokens=True) == "A person speaks"
    rows = TextEncoder.from_folder(root / "tiny").encode("A person speaks")
    assert rows.shape == (len(ids), TEXT_DIM)
    assert 0.3 < rows.float().std() < 3


def test_the_audio_encoder_loads_with_transformers(root):
    folder = root / "tiny/wav2vec2-large-xlsr-53-english"
    model, report = Wav2Vec2ForCTC.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.config.num_hidden_layers == 24
    assert Wav2Vec2FeatureExtractor.from_pretrained(folder).do_normalize


def test_audio_features_are_finite_and_vary(root):
    encoder = AudioEncoder.from_folder(root / "tiny/wav2vec2-large-xlsr-53-english")
    states = hidden_states(encoder, torch.randn(16000)).float()
    assert states.isfinite().all()
    assert states.std(1).mean() > 0.1


def test_two_runs_write_the_same_weights(root, tmp_path):
    again = make(tmp_path)
    for name in (
        "tiny/diffusion_pytorch_model-00001-of-00002.safetensors",
        "tiny-lora/liveavatar.safetensors",
    ):
        assert (again / name).read_bytes() == (root / name).read_bytes()
    tokenizer = "tiny/google/umt5-xxl/tokenizer.json"
    assert (again / tokenizer).read_bytes() == (root / tokenizer).read_bytes()
