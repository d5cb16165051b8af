"""LongCat transformers in one file: published names, Wan's names with split matrices, float8."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from avatar.loaders.gguf_file import load_gguf
from avatar.loaders.longcat import single_file
from avatar.loaders.longcat.transformer import describe, load_transformer
from safetensors.torch import save_file
from torch import Tensor

from tools.tiny_gguf import write_gguf
from tools.tiny_longcat import TINY, transformer

NAMES = [
    ("x_embedder.proj.", "patch_embedding."),
    ("t_embedder.mlp.", "time_embedding.mlp."),
    ("y_embedder.y_proj.", "text_embedding."),
    ("audio_proj.", "multitalk_audio_proj."),
    ("final_layer.adaLN_modulation.1.", "head.modulation.1."),
    ("final_layer.linear.", "head.head."),
    (".audio_adaLN_modulation.1.", ".audio_modulation.1."),
    (".adaLN_modulation.1.", ".modulation.1."),
    (".pre_crs_attn_norm.", ".norm3."),
    (".pre_video_crs_attn_norm.", ".norm_x."),
    (".pre_audio_crs_attn_norm.", ".norm_audio."),
    (".attn.q_norm.", ".self_attn.norm_q."),
    (".attn.k_norm.", ".self_attn.norm_k."),
    (".attn.proj.", ".self_attn.o."),
]
CROSS = [
    (".cross_attn.q_norm.", ".cross_attn.norm_q."),
    (".cross_attn.k_norm.", ".cross_attn.norm_k."),
    (".cross_attn.q_linear.", ".cross_attn.q."),
    (".cross_attn.proj.", ".cross_attn.o."),
]


def as_wan(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state under Wan's names, the fused matrices split."""
    renamed = {}
    for key, tensor in state.items():
        split = {".attn.qkv.": (".self_attn.", "qkv"), ".cross_attn.kv_linear.": (".cross_attn.", "kv")}
        fused = next((part for part in split if part in key and "audio_cross" not in key), None)
        if fused:
            place, letters = split[fused]
            for letter, piece in zip(letters, tensor.chunk(len(letters)), strict=True):
                renamed[key.replace(fused, f"{place}{letter}.")] = piece.clone()
            continue
        for ours, theirs in NAMES + ([] if "audio_cross" in key else CROSS):
            if ours in key and (ours[0] == "." or key.startswith(ours)):
                key = key.replace(ours, theirs)
                break
        renamed[key] = tensor
    return renamed


@pytest.mark.parametrize("version", ["1.0", "1.5"])
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
@pytest.mark.parametrize("names", [dict, as_wan])
def test_a_single_file_gives_the_model_of_the_published_folder(tmp_path, version, prefix, names):
    model = transformer(TINY[version])
    state = {f"{prefix}{key}": value for key, value in names(model.state_dict()).items()}
    if names is as_wan:
        assert any(key.endswith("blocks.1.self_attn.v.bias") for key in state)
    save_file(state, tmp_path / "LongCat.safetensors")
    loaded = load_transformer(tmp_path / "LongCat.safetensors", torch.float32)
    assert loaded.config == model.config
    found, wanted = loaded.state_dict(), model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.fixture
def float8(tmp_path) -> Path:
    """A file in float8, with Wan's names."""
    state = as_wan(transformer(TINY["1.5"]).state_dict())
    packed = {"scaled_fp8": torch.zeros(2)}
    for key, tensor in state.items():
        if "self_attn" in key and key.endswith(".weight") and tensor.ndim == 2:
            scale = tensor.abs().max() / 448
            packed |= {key: (tensor / scale).to(torch.float8_e4m3fn)}
            packed[key.replace(".weight", ".scale_weight")] = scale
        else:
            packed[key] = tensor
    save_file(packed, tmp_path / "LongCat_fp8.safetensors")
    return tmp_path / "LongCat_fp8.safetensors"


def test_float8_with_scales_becomes_the_computing_format(float8):
    loaded = load_transformer(float8, torch.bfloat16)
    weight, wanted = loaded.blocks[0].attn.proj.weight, transformer(TINY["1.5"]).blocks[0].attn.proj.weight
    assert weight.dtype == torch.bfloat16
    assert (weight.float() - wanted).abs().max() <= 2**-4 * wanted.abs().max() + 1e-6


def test_a_file_is_described_without_its_values(float8, monkeypatch):
    loaded = load_transformer(float8, torch.bfloat16)
    seen, rename = [], single_file.published_names
    monkeypatch.setattr(
        single_file, "published_names", lambda state: seen.extend(state.values()) or rename(state)
    )
    described = describe(float8, torch.bfloat16)
    assert seen and all(tensor.is_meta for tensor in seen)
    assert described.config == loaded.config
    sizes = [{name: (p.shape, p.dtype) for name, p in m.named_parameters()} for m in (described, loaded)]
    assert sizes[0] == sizes[1]


def test_other_files_are_refused_in_a_sentence(tmp_path):
    save_file({"blocks.0.self_attn.q.weight": torch.zeros(4, 4)}, tmp_path / "wan.safetensors")
    with pytest.raises(ValueError, match=r"Choose a LongCat-Video-Avatar file: wan.safetensors"):
        load_transformer(tmp_path / "wan.safetensors")
    state = as_wan(transformer(TINY["1.5"]).state_dict())
    del state["blocks.1.self_attn.k.weight"]
    save_file(state, tmp_path / "part.safetensors")
    with pytest.raises(ValueError, match=r"weights missing \(blocks.1.attn.qkv.weight"):
        load_transformer(tmp_path / "part.safetensors")


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "BF16"])
def test_gguf(tmp_path, kind):
    state = as_wan(transformer(TINY["1.5"]).state_dict())
    held = write_gguf(tmp_path / "longcat.gguf", state, kind)
    expected = single_file.published_names(held)
    described = describe(tmp_path / "longcat.gguf", torch.float32)
    loaded = load_transformer(tmp_path / "longcat.gguf", torch.float32)
    assert described.config == loaded.config == TINY["1.5"]
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, expected[name])
        assert described.get_parameter(name).shape == parameter.shape


def test_gguf_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / "longcat.gguf"
    with pytest.raises(FileNotFoundError, match=r"longcat.gguf"):
        load_gguf(path, torch.float32)
    path.write_bytes(b"GGUF")
    with pytest.raises(ValueError, match=r"Download longcat.gguf again"):
        load_transformer(path)
    write_gguf(path, {"head.head.weight": torch.randn(64, 64)}, "F16")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    with pytest.raises(ValueError, match=r"Download longcat.gguf again"):
        load_transformer(path)
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"Choose a LongCat-Video-Avatar file"):
        load_transformer(path)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ImportError, match="pip install gguf"):
        load_transformer(path)
