"""Files that claim sizes beyond what is in them: refused at once, before anything is built or memory is taken."""

from __future__ import annotations

import json
import shutil
import struct
import time
import zipfile
from pathlib import Path

import pytest
import torch
from avatar.loaders.files import check_file, load_sharded, load_state_dict
from avatar.loaders.liveavatar.transformer import load_transformer
from avatar.loaders.personalive.files import find_files
from avatar.loaders.personalive.networks import load_personalive
from avatar.loaders.wan.fast_decoder import load_tiny_decoder
from avatar.loaders.wan.text import ENCODER_FILE, TOKENIZER_FOLDER, TextEncoder, umt5_encoder
from avatar.loaders.wan.vae import load_vae
from avatar.loaders.wan.wav2vec2 import AudioEncoder
from safetensors.torch import save_file

from tools.tiny_checkpoint import make, text_encoder_shapes, weights, write_audio_encoder, write_tokenizer
from tools.tiny_personalive import write_tiny_personalive

SECONDS = 10
NESTED = b"[" * 200_000
TERABYTES = 1 << 40


@pytest.fixture(autouse=True)
def at_once():
    """Every refusal here comes before minutes are spent."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SECONDS


def edited(path: Path, **values) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("checkpoint")) / "tiny"


@pytest.fixture
def transformer(checkpoint, tmp_path) -> Path:
    for path in checkpoint.glob("*.*"):
        if path.name.startswith(("config", "diffusion")):
            shutil.copy(path, tmp_path / path.name)
    return tmp_path


@pytest.mark.parametrize(
    "values",
    [
        {"num_layers": 100_000},
        {"num_layers": 1e9},
        {"num_layers": -1},
        {"num_layers": True},
        {"num_layers": "40"},
        {"num_layers": [40]},
        {"dim": [128]},
        {"num_heads": 0},
        {"num_heads": 3},
        {"dim": 10**30},
        {"dim": float("nan")},
        {"text_len": 16_000_000},
        {"eps": 0},
        {"audio_inject_layers": 7},
        {"audio_inject_layers": list(range(100_000))},
        {"audio_inject_layers": [0, 0]},
        {"audio_inject_layers": [[0]]},
    ],
    ids=str,
)
def test_a_transformers_config_with_impossible_sizes_is_refused(transformer, values):
    path = edited(transformer / "config.json", **values)
    with pytest.raises(ValueError, match=rf"{path} (again: |is damaged)"):
        load_transformer(transformer)


@pytest.mark.parametrize(
    "content", [NESTED, b'{"a":' * 200_000, b"[1]", b"7", b'{"dim": ' + b"9" * 9000 + b"}"]
)
def test_a_config_that_is_no_object_is_refused(transformer, content):
    (transformer / "config.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        load_transformer(transformer)


def test_a_deeply_nested_index_of_shards_is_refused(transformer):
    (transformer / "diffusion_pytorch_model.safetensors.index.json").write_bytes(NESTED)
    with pytest.raises(ValueError, match=r"index\.json is damaged"):
        load_sharded(transformer)


@pytest.mark.parametrize(
    "header",
    [
        b'{"w":' + NESTED,
        b'{"w":' * 200_000,
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": ["0", "4"]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e400]}}',
        b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": 4}}',
        b'{"w": 1}',
    ],
)
def test_a_safetensors_header_that_cannot_be_one_is_refused(tmp_path, header):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    for read in (check_file, load_state_dict):
        with pytest.raises(ValueError, match=r"w\.safetensors is damaged"):
            read(path)


def test_a_tensor_that_is_larger_than_its_file_is_refused(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"w": torch.zeros(1).expand(TERABYTES)}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"w\.pth is damaged \(w: larger"):
        load_state_dict(path)


def test_a_compressed_weight_file_is_refused(tmp_path):
    torch.save({"w": torch.zeros(1_000_000)}, tmp_path / "plain.pth")
    packed = tmp_path / "packed.pth"
    with (
        zipfile.ZipFile(tmp_path / "plain.pth") as plain,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file,
    ):
        for name in plain.namelist():
            file.writestr(name, plain.read(name))
    with pytest.raises(ValueError, match=r"packed\.pth is compressed"):
        load_state_dict(packed)


def text_encoder(layers: int = 1) -> dict[str, torch.Tensor]:
    shapes = text_encoder_shapes(50, dim=16, dim_attn=8, ffn_dim=16, heads=2, layers=layers)
    return weights(shapes, torch.float32)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({f"blocks.{i}.norm1.weight": torch.zeros(1) for i in range(5000)}, "number of layers is 5,000"),
        ({"blocks.0.pos_embedding.embedding.weight": torch.zeros(32, 0)}, "number of heads is 0"),
        ({"blocks.0.pos_embedding.embedding.weight": torch.zeros(32)}, "another shape"),
        ({"blocks.0.attn.q.weight": torch.tensor(1.0)}, "another shape"),
        ({"token_embedding.weight": torch.zeros(2, 3, 4)}, "another shape"),
    ],
    ids=["layers", "heads", "no heads", "a number", "dimensions"],
)
def test_a_text_encoder_with_impossible_sizes_is_refused(changed, sentence):
    with pytest.raises(ValueError, match=sentence):
        umt5_encoder({**text_encoder(), **changed})


@pytest.mark.parametrize(
    "content", [NESTED, b'{"added_tokens_decoder": 5, "model": 5}'], ids=["nested", "other"]
)
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_cannot_be_read_is_refused(tmp_path, name, content):
    write_tokenizer(tmp_path / TOKENIZER_FOLDER)
    torch.save(text_encoder(), tmp_path / ENCODER_FILE)
    (tmp_path / TOKENIZER_FOLDER / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"download it again|Download .*umt5-xxl again"):
        TextEncoder.from_folder(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"num_hidden_layers": 100_000},
        {"num_hidden_layers": -3},
        {"num_hidden_layers": "2"},
        {"hidden_size": TERABYTES},
        {"add_adapter": True, "num_adapter_layers": 100_000},
        {"conv_dim": [8] * 100_000, "conv_stride": [1] * 100_000, "conv_kernel": [1] * 100_000},
        {"conv_dim": 5},
        {"conv_stride": [5, 2, 2, 2, 2, 2, 1_000_000]},
        {"num_attention_heads": 0},
    ],
    ids=str,
)
def test_an_audio_encoders_config_with_impossible_sizes_is_refused(tmp_path, values):
    write_audio_encoder(tmp_path)
    edited(tmp_path / "config.json", **values)
    with pytest.raises(ValueError, match=r"config\.json again|does not fit the model"):
        AudioEncoder.from_folder(tmp_path)


@pytest.fixture(scope="module")
def personalive(tmp_path_factory) -> Path:
    return write_tiny_personalive(tmp_path_factory.mktemp("personalive"))


UNET, CLIP, VAE, TINY = (
    f"{folder}/config.json"
    for folder in (
        "sd-image-variations-diffusers/unet",
        "sd-image-variations-diffusers/image_encoder",
        "sd-vae-ft-mse",
        "taesd",
    )
)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (UNET, {"layers_per_block": 100_000}),
        (UNET, {"layers_per_block": 0}),
        (UNET, {"block_out_channels": [32] * 100_000}),
        (UNET, {"block_out_channels": 32}),
        (UNET, {"block_out_channels": [TERABYTES] * 4}),
        (UNET, {"position_length": 10_000_000}),
        (UNET, {"norm_num_groups": 0}),
        (CLIP, {"num_hidden_layers": 100_000}),
        (CLIP, {"hidden_size": TERABYTES}),
        (CLIP, {"intermediate_size": TERABYTES}),
        (VAE, {"layers_per_block": 100_000}),
        (VAE, {"layers_per_block": "1"}),
        (VAE, {"block_out_channels": [16] * 100_000}),
        (VAE, {"block_out_channels": [1 << 23] * 4}),
        (TINY, {"num_decoder_blocks": [100_000] * 4}),
        (TINY, {"num_encoder_blocks": 7}),
        (TINY, {"encoder_block_out_channels": [1 << 23] * 4}),
    ],
    ids=str,
)
def test_a_config_of_personalive_with_impossible_sizes_is_refused(personalive, tmp_path, config, values):
    folder = Path(shutil.copytree(personalive, tmp_path / "copy"))
    edited(folder / config, **values)
    with pytest.raises(ValueError, match=r"config\.json again|does not fit the model"):
        load_personalive(find_files(str(folder), Path("unused"), tiny_vae=True), torch.float32)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("motion_encoder", "model.att_1.pos_embed.proj.weight"),
        ("motion_extractor", "detector.stages.1.0.norm.weight"),
        ("pose_guider", "conv_out_modify.weight"),
    ],
)
@pytest.mark.parametrize(
    "value", [torch.zeros(1 << 22), torch.tensor(1.0), torch.zeros(0)], ids=["huge", "0-d", "none"]
)
def test_one_weight_of_another_size_does_not_decide_how_much_memory_is_taken(
    personalive, tmp_path, name, key, value
):
    folder = Path(shutil.copytree(personalive, tmp_path / "copy"))
    path = folder / "personalive" / f"{name}.pth"
    torch.save({**torch.load(path, weights_only=True), key: value}, path)
    with pytest.raises(ValueError, match=rf"{name}\.pth"):
        load_personalive(find_files(str(folder), Path("unused")), torch.float32)


@pytest.mark.parametrize("load", [load_tiny_decoder, load_vae])
@pytest.mark.parametrize("value", [torch.tensor(1.0), torch.zeros(0, 1, 1, 1, 1)], ids=["0-d", "none"])
def test_a_decoders_first_weight_without_channels_is_refused(tmp_path, load, value):
    names = ("decoder.1.weight", "encoder.conv1.weight", "decoder.head.0.gamma", "conv2.weight")
    save_file({name: value.clone() for name in names}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        load(tmp_path / "w.safetensors")
