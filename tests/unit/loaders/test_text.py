"""The text encoder of the Hugging Face layout, and as the host's CLIP."""

from __future__ import annotations

import pytest
import torch
from avatar.loaders.wan.text import ENCODER_FILE, TextEncoder, clean, umt5_encoder

from tests.unit.in_host import run_in_host
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
    ids = encoder.token_ids("speaks " * 2000)
    assert len(ids) == 512
    assert ids[-1] == encoder.tokenizer.eos_token_id


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


IN_HOST = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util  # before the host's nodes put their own folder in front
import folder_paths, nodes, torch
from pathlib import Path
from comfy import lora, ops
from comfy.text_encoders.t5 import T5
from comfy_extras.nodes_model_merging import CLIPSave
from safetensors.torch import load_file, save_file
sys.path.insert(0, {root!r})
import tools.pack
from avatar.loaders.wan.clip import host_clip
from avatar.loaders.wan.text import ENCODER_FILE, TextEncoder, text_rows, umt5_encoder

torch.set_num_threads(1)
folder, place = Path({folder!r}), Path({place!r})
encoder = TextEncoder.from_folder(folder)
clip, words = host_clip(encoder), "A person speaks"
rows = encoder.encode(words)

def encode(clip):
    [[cond, extra]] = nodes.CLIPTextEncode().encode(clip, words)[0]
    return cond

cond = encode(clip)
assert cond.shape == (1, 512, 32) and torch.equal(cond[0, : len(rows)], rows) and not cond[0, len(rows) :].any()
[[_, extra]] = clip.encode_from_tokens_scheduled(clip.tokenize(words), add_dict=dict(start_percent=0.5))
assert extra["start_percent"] == 0.5 and "pooled_output" in extra
assert len(clip.tokenize(words, return_word_ids=True)["umt5xxl"][0][0]) == 3
print("prompt")

# a LoRA that has something for the transformer and for the text encoder, and one for the transformer alone
layer = "encoder.block.0.layer.0.SelfAttention.q"
a, b = torch.randn(4, 32), torch.randn(16, 4)
save_file({{f"text_encoders.umt5xxl.transformer.{{layer}}.lora_A.weight": a,
           f"text_encoders.umt5xxl.transformer.{{layer}}.lora_B.weight": b}}, place / "both.safetensors")
save_file({{"diffusion_model.blocks.0.ffn.0.lora_A.weight": a}}, place / "other.safetensors")
folder_paths.add_model_folder_path("loras", str(place))

def with_lora(name, strength):
    return nodes.LoraLoader().load_lora(None, clip, name, 0.0, strength)[1]

patched = with_lora("both.safetensors", 1.0)
state = torch.load(folder / ENCODER_FILE, weights_only=True)
key = "blocks.0.attn.q.weight"
state[key] = (state[key].float() + b @ a).to(state[key].dtype)
expected = text_rows(umt5_encoder(state), encoder.token_ids(words), torch.device("cpu"))
torch.testing.assert_close(encode(patched)[0, : len(rows)], expected, rtol=0.1, atol=0.1)
assert (encode(patched) - cond).abs().max() > 0.5
assert torch.equal(encode(clip), cond), "the CLIP that the LoRA was put on"
assert torch.equal(encode(with_lora("other.safetensors", 1.0)), cond)
assert torch.equal(encode(with_lora("both.safetensors", 0.0)), cond)
print("LoRA")

(last,) = nodes.CLIPSetLastLayer().set_last_layer(clip, -1)
(earlier,) = nodes.CLIPSetLastLayer().set_last_layer(clip, -2)
assert torch.equal(encode(last), cond)
state = torch.load(folder / ENCODER_FILE, weights_only=True)
first = {{name: value for name, value in state.items() if not name.startswith("blocks.1.")}}
one_layer = text_rows(umt5_encoder(first), encoder.token_ids(words), torch.device("cpu"))
assert torch.equal(encode(earlier)[0, : len(rows)], one_layer) and not torch.equal(one_layer, rows)
assert torch.equal(encode(clip), cond)
print("layers")

saver = CLIPSave()
saver.output_dir = str(place)
try:
    saver.save(clip, "mine")
except ValueError as error:
    assert "Copy models_t5_umt5" in str(error)
else:
    raise AssertionError("saved without a tokenizer")
encoder.pieces = place / "spiece.model"
encoder.pieces.write_bytes(b"pieces")
saver.save(host_clip(encoder), "mine")
files = list(place.glob("mine*.safetensors"))
saved = [load_file(path) for path in files]
weights = next(state for state in saved if "shared.weight" in state)
config = dict(num_layers=2, d_model=32, d_kv=8, num_heads=2, d_ff=48, dense_act_fn="gelu_pytorch_tanh",
              is_gated_act=True, model_type="umt5", vocab_size=len(weights["shared.weight"]))
theirs = T5(config, torch.bfloat16, "meta", ops.disable_weight_init).state_dict()
assert weights.keys() - {{"spiece_model"}} == theirs.keys()
assert all(weights[name].shape == value.shape for name, value in theirs.items())
assert any(bytes(state["spiece_model"].tolist()) == b"pieces" for state in saved if "spiece_model" in state)
print("fine")
"""


def test_the_hosts_nodes_take_it_as_their_own_clip(folder, tmp_path):
    run_in_host(IN_HOST, folder=str(folder), place=str(tmp_path))
