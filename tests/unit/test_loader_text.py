"""The text encoder of the Hugging Face layout and the host's protocol on top of it."""

from __future__ import annotations

import pytest
import torch
from avatar.loaders.text import ENCODER_FILE, TextEncoder, clean, umt5_encoder

from tools.tiny_checkpoint import text_encoder_shapes, weights, write_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    vocabulary = write_tokenizer(folder / "google" / "umt5-xxl")
    shapes = text_encoder_shapes(vocabulary, dim=32, dim_attn=16, ffn_dim=48, heads=2, layers=2)
    torch.save(weights(shapes, torch.bfloat16), folder / ENCODER_FILE)
    return folder


@pytest.fixture(scope="module")
def encoder(folder):
    return TextEncoder.from_folder(folder)


def test_rows_are_cut_to_the_tokens_and_keep_the_files_dtype(encoder):
    ids = encoder.tokenizer("A person speaks").input_ids
    rows = encoder.encode("A person speaks")
    assert rows.shape == (len(ids), 32)
    assert rows.dtype == torch.bfloat16
    assert rows.isfinite().all()


def test_long_text_is_cut_to_512_tokens_with_the_end_mark_kept(encoder):
    tokens = encoder.tokenize("speaks " * 2000)["umt5xxl"][0]
    assert len(tokens) == 512
    assert tokens[-1] == (encoder.tokenizer.eos_token_id, 1.0)


def test_conditioning_is_the_rows_followed_by_zeros(encoder):
    rows = encoder.encode("A person speaks")
    [[cond, extra]] = encoder.encode_from_tokens_scheduled(encoder.tokenize("A person speaks"))
    assert cond.shape == (1, 512, 32)
    assert torch.equal(cond[0, : len(rows)], rows)
    assert not cond[0, len(rows) :].any()
    assert "pooled_output" in extra


def test_added_conditioning_keys_are_kept(encoder):
    tokens = encoder.tokenize("A person")
    [[_, extra]] = encoder.encode_from_tokens_scheduled(tokens, add_dict={"start_percent": 0.5})
    assert extra["start_percent"] == 0.5


def test_a_clone_shares_the_weights(encoder):
    twin = encoder.clone()
    assert twin is not encoder
    assert twin.managed is encoder.managed
    assert torch.equal(twin.encode("A person"), encoder.encode("A person"))


def test_the_words_matter(encoder):
    first, second = encoder.encode("The woman smiles"), encoder.encode("The speaker smiles")
    assert first.shape == second.shape
    assert not torch.equal(first, second)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("  a \n b\t c ", "a b c"), ("&amp;lt;b&amp;gt;", "<b>"), ("caf\u00e9", "caf\u00e9"), ("", "")],
)
def test_cleaning_resolves_entities_and_white_space(text, expected):
    assert clean(text) == expected


def test_the_embedding_is_held_once():
    shapes = text_encoder_shapes(50, dim=16, dim_attn=8, ffn_dim=16, heads=2, layers=1)
    state = weights(shapes, torch.float32)
    model = umt5_encoder(state)
    assert sum(p.numel() for p in model.parameters()) == sum(t.numel() for t in state.values())
    assert model.shared.weight.data_ptr() == state["token_embedding.weight"].data_ptr()


def test_a_missing_layer_weight_is_named():
    shapes = text_encoder_shapes(50, dim=16, dim_attn=8, ffn_dim=16, heads=2, layers=2)
    state = weights(shapes, torch.float32)
    del state["blocks.1.attn.k.weight"]
    with pytest.raises(ValueError, match=r"encoder\.block\.1\.layer\.0\.SelfAttention\.k\.weight"):
        umt5_encoder(state)


def test_another_models_weights_are_named():
    with pytest.raises(ValueError, match=r"unknown weight decoder\.x"):
        umt5_encoder({"decoder.x": torch.zeros(1)})


def test_a_missing_tokenizer_is_named(folder, tmp_path):
    (tmp_path / ENCODER_FILE).write_bytes((folder / ENCODER_FILE).read_bytes())
    with pytest.raises(FileNotFoundError, match="umt5-xxl"):
        TextEncoder.from_folder(tmp_path)
