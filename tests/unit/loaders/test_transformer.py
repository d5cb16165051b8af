"""The S2V transformer from a checkpoint folder, and over the layers of a host's MODEL."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from avatar.engines.liveavatar.config import FLOAT32_PARTS
from avatar.loaders.files import load_sharded
from avatar.loaders.liveavatar.host_model import HostModel
from avatar.loaders.liveavatar.transformer import load_transformer, read_config
from avatar.loaders.lora import read_lora

from tests.unit.in_host import run_in_host
from tools.tiny_checkpoint import make

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("checkpoint"), host_layout=True)


@pytest.fixture
def copy(checkpoint, tmp_path) -> Path:
    """A copy of the transformer's own files that a test may damage."""
    for path in (checkpoint / "tiny").glob("*.*"):
        if path.name.startswith(("config", "diffusion")):
            shutil.copy(path, tmp_path / path.name)
    return tmp_path


def edit_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def digest(folder: Path) -> str:
    return hashlib.sha256(b"".join(p.read_bytes() for p in sorted(folder.glob("*.safetensors")))).hexdigest()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_sensitive_layers_stay_in_single_precision(checkpoint, dtype):
    model = load_transformer(checkpoint / "tiny", dtype)
    exact = {name for name, p in model.named_parameters() if p.dtype == torch.float32}
    if dtype != torch.float32:
        assert exact == {name for name, _ in model.named_parameters() if name.startswith(FLOAT32_PARTS)}
        assert {"time_projection.1.weight", "head.head.bias", "casual_audio_encoder.weights"} <= exact
        assert "head.modulation" not in exact
    assert {p.dtype for p in model.parameters()} == {torch.float32, dtype}
    assert model.dtype == dtype
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_the_weights_are_the_files(checkpoint):
    state = load_transformer(checkpoint / "tiny", torch.float32).state_dict()
    stored = load_sharded(checkpoint / "tiny")
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in stored.items())


@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
def test_a_lora_is_merged_at_its_training_scale_and_the_files_stay_as_they_were(checkpoint, strength):
    folder, file = checkpoint / "tiny", checkpoint / "tiny-lora" / "liveavatar.safetensors"
    before = digest(folder)
    merged = load_transformer(folder, torch.float32, lora=file, strength=strength).state_dict()
    pairs = read_lora(file).pairs
    for name, stored in load_sharded(folder).items():
        a, b = pairs.get(name.removesuffix(".weight"), (None, None))
        if a is None or name.endswith(".bias"):
            assert torch.equal(merged[name], stored.float())
        else:
            expected = (stored.float() + 0.5 * strength * b.float() @ a.float()).to(stored.dtype)
            assert torch.equal(merged[name], expected.float()), name
    assert digest(folder) == before


def test_a_text_to_video_checkpoint_is_refused(copy):
    edit_config(copy, model_type="t2v")
    with pytest.raises(ValueError, match="needs the speech-to-video one"):
        load_transformer(copy)


def test_another_architecture_is_refused_by_its_key(copy):
    edit_config(copy, enable_motioner=True)
    with pytest.raises(ValueError, match="enable_motioner=True"):
        load_transformer(copy)


def test_weights_of_another_size_are_refused(copy):
    edit_config(copy, ffn_dim=512)
    with pytest.raises(ValueError, match=r"does not fit the model.*of another shape.*another size"):
        load_transformer(copy)


def test_a_config_with_fewer_layers_names_the_weights_that_are_left_over(copy):
    edit_config(copy, num_layers=4)
    with pytest.raises(ValueError, match=r"unexpected \(blocks\.4\."):
        load_transformer(copy)


def test_a_missing_shard_is_named(copy):
    (copy / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks 1 of 2 weight shards: .*00002-of-00002"):
        load_transformer(copy)


def test_a_missing_or_damaged_config_is_named(copy):
    (copy / "config.json").write_text('{"model_type": ')
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        read_config(copy)
    (copy / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        load_transformer(copy)


def test_a_model_that_cannot_listen_is_refused():
    other = SimpleNamespace(model=SimpleNamespace(diffusion_model=torch.nn.Linear(2, 2)))
    for model in (other, None):
        with pytest.raises(ValueError, match=r"cannot listen to speech; load Wan2\.2-S2V"):
            HostModel.of(model)


HOST_PROGRAM = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
from pathlib import Path
import comfy.model_management, comfy.sd, folder_paths, nodes, torch
sys.path.insert(0, {root!r})
import tools.pack
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.loaders.lora import apply_to_host, merge_lora, read_lora
from avatar.loaders.liveavatar.host_model import HostModel
from avatar.loaders.liveavatar.host_source import reads_in_place
from avatar.loaders.liveavatar.transformer import load_host_model, load_transformer

torch.set_num_threads(1)
folder = Path({folder!r})
single = str(folder / "host/diffusion_models/tiny_s2v.safetensors")
lora = folder / "tiny-lora/liveavatar.safetensors"

def values(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

def flow(model):
    # of the second block, at the second step, with a pose
    config, dtype = model.config, model.dtype
    sampler = BlockSampler(
        model,
        SamplingConfig(steps=2),
        context=values(0, 5, config.text_dim),
        reference=values(1, 1, 16, 1, 8, 8).to(dtype),
        motion=values(2, 1, 16, 19, 8, 8).to(dtype),
    )
    features = values(3, 1, 25, config.audio_dim, 12)
    sampler.next_block(features)
    inputs = sampler.prepare_block(features, values(4, 1, 16, 3, 8, 8).to(dtype))
    return sampler.predict(inputs, values(5, 1, 16, 3, 8, 8).to(dtype), 1).float()

def adopted(patcher):
    comfy.model_management.load_models_gpu([patcher])
    return HostModel.of(patcher).adopt()

def check(what, found, expected, tolerance):
    error = (found - expected).abs().max().item()
    assert torch.isfinite(found).all() and error <= tolerance, f"{{what}}: {{error}}"
    print(what, error)

with torch.inference_mode():  # as the host runs its nodes
    plain = flow(load_transformer(folder / "tiny-wide", torch.float32))
    engine = load_transformer(folder / "tiny-wide", torch.float32)
    merge_lora(engine, read_lora(lora))
    merged = flow(engine)
    assert (merged - plain).abs().max() > 0.01

    host = comfy.sd.load_diffusion_model(single, model_options={{"dtype": torch.float32}})
    engine = adopted(host)
    theirs = {{id(p) for p in host.model.diffusion_model.parameters()}}
    assert {{id(p) for p in engine.parameters()}} == theirs, "not the host's own parameters"
    check("adopted", flow(engine), plain, 1e-6)
    cpu = torch.device("cpu")
    assert reads_in_place(engine, cpu) and not reads_in_place(engine, torch.device("meta"))

    folder_paths.add_model_folder_path("loras", str(folder / "host/loras"))
    loader = nodes.LoraLoaderModelOnly()
    (patched,) = loader.load_lora_model_only(host, "tiny_lora_converted.safetensors", 1.0)
    check("the host's LoRA", flow(adopted(patched)), merged, 1e-5)
    engine = adopted(apply_to_host(host, read_lora(lora)))
    check("our LoRA", flow(engine), merged, 1e-5)
    assert reads_in_place(engine, cpu), "it was added to the weights"
    check("without it again", flow(adopted(host)), plain, 1e-6)

    # as on a small GPU: most layers are cast, and get their LoRA, each time they are used
    host.detach()
    patched = apply_to_host(host, read_lora(lora))
    patched.patch_model(torch.device("cpu"), lowvram_model_memory=patched.model_size() // 2)
    assert 0 < patched.lowvram_patch_counter() < len(patched.patches)
    engine = HostModel.of(patched).adopt()
    check("partly off-loaded", flow(engine), merged, 1e-5)
    assert not reads_in_place(engine, cpu), "it is added in every call"
    patched.detach()

    narrow = flow(load_transformer(folder / "tiny", torch.float32))
    for name, expected in (("tiny", narrow), ("tiny-wide", plain)):
        check("as a MODEL: " + name, flow(adopted(load_host_model(folder / name, torch.float32))), expected, 1e-6)

    stored = comfy.sd.load_diffusion_model(single, model_options={{"dtype": torch.float8_e4m3fn}})
    small = adopted(stored)
    assert small.blocks[0].ffn[0].weight.dtype == torch.float8_e4m3fn
    check("fp8", flow(small), plain, 0.5 * plain.std().item())
    small = adopted(apply_to_host(stored, read_lora(lora)))
    check("fp8 with LoRA", flow(small), merged, 0.5 * merged.std().item())
    ours = adopted(load_host_model(folder / "tiny-wide", torch.float8_e4m3fn))
    check("fp8 as a MODEL", flow(ours), flow(adopted(stored)), 1e-6)
print("fine")
"""


def test_a_hosts_model_becomes_the_engines_transformer(checkpoint):
    run_in_host(HOST_PROGRAM, folder=str(checkpoint))


COMPUTE_PROGRAM = (
    HOST_PROGRAM.partition("def check(")[0]
    + """
from comfy_extras.nodes_model_advanced import ModelComputeDtype

formats = {{"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}}
with torch.inference_mode():
    for stored in (*formats.values(), torch.float8_e4m3fn):
        host = load_host_model(folder / "tiny-wide", stored)
        own, plain = HostModel.of(host).dtype, flow(adopted(host))
        for name in ("default", *formats):
            (chosen,) = ModelComputeDtype().patch(host, name)
            expected = formats.get(name, own)
            assert HostModel.of(chosen).dtype == expected, (stored, name, "before it is loaded")
            engine = adopted(chosen)
            assert HostModel.of(chosen).dtype == engine.dtype == expected, (stored, name)
            assert HostModel.of(host).dtype == own, "the MODEL that it was made from"
            error = (flow(engine) - plain).abs().max() / plain.abs().max()
            assert error < 0.03 and (error == 0) == (expected == own), (stored, name, error)
print("fine")
"""
)


def test_a_model_computes_in_the_format_that_the_hosts_model_compute_dtype_names(checkpoint):
    run_in_host(COMPUTE_PROGRAM, folder=str(checkpoint))


FLOAT16_PROGRAM = (
    HOST_PROGRAM.partition("with torch.inference_mode")[0]
    + """
from comfy import model_management
from comfy.cli_args import args
from comfy_extras.nodes_model_advanced import ModelComputeDtype
from avatar.engines.parts.planning.performance import Performance
from avatar.loaders.liveavatar.host_source import HostSource

# As on a GPU that computes in both formats.
model_management.should_use_fp16 = model_management.should_use_bf16 = lambda *how, **more: True
single = str(folder / "host/diffusion_models/large.safetensors")

def known(model, dtype, why):
    found = HostModel.of(model)
    assert (found.dtype, found.float16) == (dtype, why), (found.dtype, found.float16)
    return found

def placed(model):
    return HostSource.of(model).place(Performance(), 0, [], print)

with torch.inference_mode():
    # Values inside of a block are larger than any in float16, as they may be in a model trained in bfloat16.
    state = comfy.utils.load_torch_file(str(folder / "host/diffusion_models/tiny_s2v.safetensors"))
    for name in ("ffn.0.weight", "ffn.0.bias"):
        state["blocks.0." + name] *= 1e5
    state["blocks.0.ffn.2.weight"] *= 1e-5
    comfy.utils.save_torch_file({{name: value.bfloat16() for name, value in state.items()}}, single)
    exact = flow(adopted(comfy.sd.load_diffusion_model(single, model_options={{"dtype": torch.float32}})))

    host = comfy.sd.load_diffusion_model(single)
    assert host.model.get_dtype() == torch.float16, "what the host prefers"
    assert known(host, torch.bfloat16, "").host_dtype == torch.float16
    made = placed(host)
    assert made.transformer.dtype == torch.bfloat16 and made.note == "" and made.steady
    check("bf16 over float16 weights", flow(made.transformer), exact, 0.03 * exact.abs().max())
    (chosen,) = ModelComputeDtype().patch(host, "fp16")
    known(chosen, torch.float16, "as asked for")
    assert not torch.isfinite(flow(adopted(chosen))).all(), "float16 would have done"
    note = "Computing in fp16, as asked for: the model was trained in bf16."
    assert placed(chosen).note == note, placed(chosen).note

    patched = apply_to_host(host, read_lora(lora))
    error = (flow(adopted(patched)) - flow(adopted(host))).abs().max()
    assert error > 0.01, "the LoRA counts"
    known(load_host_model(folder / "tiny-wide", torch.float16), torch.float16, "as asked for")
    for stored in (torch.float32, torch.bfloat16):
        known(load_host_model(folder / "tiny-wide", stored), stored, "")

    args.fp16_unet = True
    known(host, torch.float16, "as asked for")
    args.fp16_unet = False
    model_management.should_use_bf16 = lambda *how, **more: False
    known(host, torch.float16, "as this device computes in no bf16")
    model_management.should_use_bf16 = lambda *how, **more: True
    theirs = host.model.diffusion_model.blocks[1].ffn[0]
    foreign = torch.nn.Linear(theirs.in_features, theirs.out_features, dtype=torch.float16)
    host.model.diffusion_model.blocks[1].ffn[0] = foreign
    known(host, torch.float16, "as this loader's layers cast no weights; ComfyUI's --bf16-unet may help")
print("fine")
"""
)


def test_a_model_that_the_host_keeps_in_float16_computes_in_the_format_that_it_was_trained_in(checkpoint):
    run_in_host(FLOAT16_PROGRAM, folder=str(checkpoint))


def test_speech_keeps_the_format_of_the_hidden_states_where_a_loader_keeps_its_layers_in_float32(checkpoint):
    model = load_transformer(checkpoint / "tiny", torch.bfloat16)
    model.audio_injector.injector_adain_layers.float()
    config = model.config
    spoken = model.encode_speech(torch.randn(1, config.audio_layers, config.audio_dim, 12))
    found = [tokens for tokens in spoken if tokens is not None]
    assert found
    assert {part.dtype for tokens in found for part in (tokens.shift, tokens.scale, tokens.k)} == {
        torch.bfloat16
    }
