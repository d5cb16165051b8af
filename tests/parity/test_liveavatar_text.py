"""The text encoder against the reference's, through the loader's key conversion."""

from __future__ import annotations

from avatar.loaders.wan.text import TextEncoder, umt5_encoder

from tests.parity.reference import assert_close, tensors


def test_text_rows_equal_the_reference():
    fixture = tensors("liveavatar", "t5.safetensors")
    weights = {key.removeprefix("w."): value for key, value in fixture.items() if key.startswith("w.")}
    encoder = TextEncoder(umt5_encoder(weights), tokenizer=None)
    ids = fixture["ids"][fixture["mask"].bool()].tolist()
    assert_close(encoder.encode_ids(ids), fixture["context"], 1e-5)
