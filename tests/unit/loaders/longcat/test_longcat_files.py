"""LongCat's transformer and LoRAs from files."""

from __future__ import annotations

import json

import pytest
import torch
from avatar.engines.longcat.adapter import Adapted
from avatar.engines.longcat.int8 import Int8Linear
from avatar.loaders.longcat.lora import apply_longcat_lora, read_longcat_lora
from avatar.loaders.longcat.transformer import load_transformer
from safetensors.torch import load_file, save_file

from tools.tiny_longcat import TINY, lora_weights, make, transformer


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return make(tmp_path_factory.mktemp("longcat"))


def base(checkpoint, name="base_model"):
    return checkpoint / "LongCat-Video-Avatar-1.5" / name


def dmd(checkpoint):
    return checkpoint / "LongCat-Video-Avatar-1.5" / "lora" / "dmd_lora.safetensors"


def test_both_versions_are_told_apart_by_their_config(checkpoint):
    older = load_transformer(checkpoint / "LongCat-Video-Avatar" / "avatar_single")
    newer = load_transformer(base(checkpoint))
    assert (older.config.version.name, newer.config.version.name) == ("1.0", "1.5")
    assert (older.config.audio_prenorm, newer.config.audio_prenorm) == (True, False)
    assert newer.dtype == torch.bfloat16


def test_the_norm_of_speech_is_told_by_the_weights_and_not_by_the_config(checkpoint, tmp_path):
    folder = checkpoint / "LongCat-Video-Avatar" / "avatar_single"
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"audio_prenorm": False}))
    assert load_transformer(tmp_path).config.audio_prenorm


def test_weights_in_eight_bits_stay_so_and_are_half_a_step_off_at_most(checkpoint):
    packed = load_transformer(base(checkpoint, "base_model_int8"), torch.float32)
    exact = load_transformer(base(checkpoint), torch.float32)
    layer, wanted = packed.blocks[0].attn.qkv, exact.blocks[0].attn.qkv.weight
    assert isinstance(layer, Int8Linear)
    assert not isinstance(packed.final_layer.linear, Int8Linear)
    off = (layer.weight_int8 * layer.weight_scale[:, None] - wanted).abs()
    # Half a step, and what bfloat16 rounds off the other file.
    assert (off <= 0.5 * layer.weight_scale[:, None] + 2**-8 * wanted.abs()).all()


def test_a_lora_beside_eight_bits_adds_what_it_adds_to_weights(checkpoint):
    lora = read_longcat_lora(dmd(checkpoint))
    plain, merged = (load_transformer(base(checkpoint), torch.float32) for _ in range(2))
    packed = load_transformer(base(checkpoint, "base_model_int8"), torch.float32)
    x = torch.randn(3, TINY["1.5"].hidden_size)
    before = packed.blocks[0].attn.qkv(x)
    for model in (merged, packed):
        apply_longcat_lora(model, lora, 0.7)
    assert isinstance(packed.blocks[0].attn.qkv, Adapted)
    added = merged.blocks[0].attn.qkv(x) - plain.blocks[0].attn.qkv(x)
    assert added.abs().max() > 0.01
    torch.testing.assert_close(packed.blocks[0].attn.qkv(x) - before, added, rtol=1e-4, atol=1e-5)


def test_two_loras_add_up_also_in_eight_bits(checkpoint):
    folder = base(checkpoint, "base_model_int8")
    once = load_transformer(folder, torch.float32, loras=[(dmd(checkpoint), 1.0)])
    twice = load_transformer(folder, torch.float32, loras=[(dmd(checkpoint), 0.4), (dmd(checkpoint), 0.6)])
    x = torch.randn(3, TINY["1.5"].hidden_size)
    torch.testing.assert_close(twice.blocks[1].ffn.w1(x), once.blocks[1].ffn.w1(x), rtol=1e-4, atol=1e-5)


def test_a_lora_of_another_width_is_refused_and_changes_nothing(checkpoint):
    model = load_transformer(base(checkpoint), torch.float32)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    lora = read_longcat_lora(dmd(checkpoint))
    down, up = lora.pairs["blocks.0.ffn.w1"]
    lora.pairs["blocks.0.ffn.w1"] = down[:, :-1], up
    with pytest.raises(ValueError, match="belongs to another model"):
        apply_longcat_lora(model, lora)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda state, key: state.pop(f"{key}.alpha_scale"), "lacks its scale"),
        (lambda state, key: state.pop(f"{key}.lora_up.blocks.1.weight"), "lacks a part|do not fit"),
        (lambda state, key: state.update({f"{key}.diff": torch.zeros(1)}), "no part of a LoRA"),
        (lambda state, key: state[f"{key}.lora_down.weight"].fill_(torch.nan), "NaN or infinite"),
    ],
)
def test_a_damaged_lora_is_refused_in_a_sentence(tmp_path, spoil, sentence):
    state = lora_weights(transformer(TINY["1.5"]))
    spoil(state, "lora.blocks.0.attn.qkv".replace(".", "___lorahyphen___"))
    save_file(state, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match=sentence):
        read_longcat_lora(tmp_path / "lora.safetensors")


def test_float16_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(ValueError, match="too large for float16"):
        load_transformer(tmp_path, torch.float16)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"_class_name": "WanModel_S2V"}, "Choose a LongCat-Video-Avatar checkpoint"),
        ({"audio_block": 7}, "1.0 or 1.5"),
        ({"enable_bsa": True}, "enable_bsa"),
        ({"depth": 10**9}, "must be from 1"),
        ({"depth": 999}, "are enough for"),
        ({"hidden_size": 128}, "of another shape"),
    ],
)
def test_a_config_of_another_model_is_refused_in_a_sentence(checkpoint, tmp_path, changed, sentence):
    for file in base(checkpoint).iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | changed))
    with pytest.raises(ValueError, match=sentence):
        load_transformer(tmp_path)


def test_the_tiny_files_have_the_published_names(checkpoint):
    names = {name for file in base(checkpoint).glob("*.safetensors") for name in load_file(file)}
    assert {
        "blocks.0.audio_adaLN_modulation.1.weight",
        "audio_proj.proj1_vf.bias",
        "final_layer.linear.bias",
    } <= names
    assert names == set(transformer(TINY["1.5"]).state_dict())
