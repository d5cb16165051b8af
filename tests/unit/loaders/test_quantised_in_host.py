"""Quantised files inside a real ComfyUI (a process of its own): the engine computes with what they hold.

Layer by layer and as a whole, for ComfyUI's own float8 formats, and for GGUF through city96's ComfyUI-GGUF.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.in_host import run_in_host
from tools.tiny_checkpoint import make

ROOT = Path(__file__).resolve().parents[3]

COMMON = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import importlib
from pathlib import Path
import comfy.model_management, comfy.sd, folder_paths, nodes, torch
sys.path.insert(0, {root!r})
import tools.pack
from safetensors.torch import load_file
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.fp8_blocks import quantise_transformer
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.loaders.liveavatar.fp8_copy import _as_it_acts, _quantised
from avatar.loaders.lora import apply_to_host, merge_lora, read_lora
from avatar.loaders.identity import fingerprint
from avatar.loaders.liveavatar.host_model import HostModel
from avatar.loaders.liveavatar.host_source import reads_in_place
from avatar.loaders.liveavatar.transformer import load_transformer


torch.set_num_threads(1)
folder, cpu = Path({folder!r}), torch.device("cpu")
state = load_file(folder / "host/diffusion_models/tiny_s2v.safetensors")
lora = read_lora(folder / "tiny-lora/liveavatar.safetensors")

def values(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

def flow(model):
    # of the second block, at the second step
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

def engine(weights, merged):
    model = load_transformer(folder / "tiny-wide", torch.float32)
    model.load_state_dict(weights)
    if merged:
        merge_lora(model, lora)
    return model

def relative(found, expected):
    return ((found - expected).norm() / expected.norm().clamp(min=1e-6)).item()

def check(what, found, expected, tolerance):
    error = relative(found, expected)
    assert error < tolerance, f"{{what}}: {{error}}"
    print(what, error)

def check_layers(what, model, expected, tolerance):
    # layer by layer, as the float8 copy reads them
    source, worst = HostModel.of(model).adopt(), 0
    for name, layer in expected.named_modules():
        if isinstance(layer, torch.nn.Linear):
            found = _as_it_acts(source.get_submodule(name), layer, cpu, source.dtype)
            for key, tensor in layer.named_parameters():
                worst = max(worst, relative(found[key], tensor))
    assert worst < tolerance, f"{{what}}: {{worst}}"
    print(what, "layers", worst)

def tensors(model):
    found = {{}}
    for name, module in model.named_modules():
        own = {{**module._parameters, **module._buffers}}
        for key, tensor in own.items():
            if tensor is not None and key != "scale":
                scale = own["scale"].float() if "scale" in own and key == "weight" else 1
                found[f"{{name}}.{{key}}"] = tensor.float() * scale
    return found

def check_model(what, plain, held, near, exact=1e-3, rounded=1e-3):
    # near: of the full weights; exact: of the file's values; rounded: where the host has put a LoRA on them
    expected, merged = flow(engine(held, False)), flow(engine(held, True))
    assert relative(merged, expected) > max(0.04, rounded), "a LoRA that is ignored would not be seen"
    if near:
        check(f"{{what}}: the file against the full weights", expected, full, near)
    comfy.model_management.load_models_gpu([plain])
    adopted = HostModel.of(plain).adopt()
    theirs = {{id(p) for p in plain.model.diffusion_model.parameters()}}
    assert {{id(p) for p in adopted.parameters()}} <= theirs, "not the host's own parameters"
    check(what, flow(adopted), expected, exact)
    check_layers(what, plain, engine(held, False), exact)

    patched = apply_to_host(plain, lora)
    comfy.model_management.load_models_gpu([patched])
    check(f"{{what}} with LoRA", flow(HostModel.of(patched).adopt()), merged, rounded)
    check_layers(f"{{what}} with LoRA", patched, engine(held, True), rounded)

def check_life(what, plain, held, exact=1e-3, rounded=1e-3):
    # a LoRA that is taken off again, layers that are not loaded (as on a small GPU), the float8 copy
    comfy.model_management.load_models_gpu([plain])
    check(f"{{what}} without it again", flow(HostModel.of(plain).adopt()), flow(engine(held, False)), exact)
    plain.detach()

    merged = engine(held, True)
    patched = apply_to_host(plain, lora)
    patched.patch_model(cpu, lowvram_model_memory=patched.model_size() // 2)
    assert patched.model.model_lowvram
    check(f"{{what}} partly loaded, with LoRA", flow(HostModel.of(patched).adopt()), flow(merged), rounded)
    assert len({{fingerprint(HostModel.of(model).identity()) for model in (plain, patched)}}) == 2

    found = tensors(_quantised(HostModel.of(patched), 0, lambda *step: None)[0])
    quantise_transformer(merged.bfloat16())
    copied = tensors(merged)
    assert found.keys() == copied.keys()
    for name, tensor in copied.items():
        assert relative(found[name], tensor) < 0.06, f"{{what}}: {{name}} of the float8 copy"
    patched.detach()

with torch.inference_mode():  # as the host runs its nodes
    full = flow(engine(state, False))
"""

OWN_FORMATS = """
from functools import partial

from tools.tiny_fp8 import write_fp8_with_metadata, write_scaled_fp8
import comfy.ops

# Newer hosts make bfloat16 of these files' weights before they compute with them.
exact = 1e-5 if not hasattr(comfy.ops, "cast_modules_with_vbar") else 5e-3

writers = {{
    "scaled": partial(write_scaled_fp8, rounds_biases=hasattr(comfy.ops, "scaled_fp8_ops")),
    "metadata": write_fp8_with_metadata,
}}

with torch.inference_mode():
    for name, write in writers.items():
        file = folder / f"{{name}}.safetensors"
        held = write(file, state)
        model = comfy.sd.load_diffusion_model(str(file))
        check_model(name, model, held, 0.1, exact, 0.06)
        check_life(name, model, held, exact, 0.06)
print("fine")
"""

GGUF = """
from tools.tiny_gguf import K_SCALES, write_gguf

pack = Path({pack!r})
sys.path.append(str(pack.parent))
Loader = importlib.import_module(pack.name).NODE_CLASS_MAPPINGS["UnetLoaderGGUF"]
folder_paths.add_model_folder_path("diffusion_models", str(folder / "gguf"))

with torch.inference_mode():
    # K types hold drawn values, which are near nothing
    near = {{"Q8_0": 0.015, "Q5_1": 0.08, "Q4_0": 0.2, "BF16": 1e-6, **dict.fromkeys(K_SCALES)}}
    for kind in near:
        held = write_gguf(folder / f"gguf/{{kind}}.gguf", state, kind)
        (model,) = Loader().load_unet(f"{{kind}}.gguf")
        check_model(kind, model, held, near[kind])
        if kind == "Q8_0":
            check_life(kind, model, held)
            merged = flow(engine(held, True))

    # what the host computes with on a GPU
    for dtype, tolerance in ((torch.bfloat16, 0.02), (torch.float16, 0.003)):
        comfy.model_management.unet_dtype = lambda dtype=dtype, **_: dtype
        comfy.model_management.unet_manual_cast = lambda *_, **__: None
        (model,) = Loader().load_unet("Q8_0.gguf")
        model = apply_to_host(model, lora)
        comfy.model_management.load_models_gpu([model])
        adopted = HostModel.of(model).adopt()
        assert adopted.dtype == dtype and not reads_in_place(adopted, cpu)
        check(f"Q8_0 in {{dtype}}, with LoRA", flow(adopted), merged, tolerance)
        copy, _ = _quantised(HostModel.of(model), 0, lambda *step: None)
        for name, layer in copy.named_modules():
            if isinstance(layer, torch.nn.Linear):
                assert layer.bias is None or layer.bias.dtype == layer.weight.dtype, name
print("fine")
"""


@pytest.mark.parametrize("program", [OWN_FORMATS, GGUF], ids=["ComfyUI's float8", "GGUF"])
def test_a_quantised_file_acts_as_the_weights_that_it_holds(tmp_path, program):
    pack = os.environ.get("GGUF_PATH")
    if program is GGUF and not pack:
        pytest.skip("GGUF_PATH names no ComfyUI-GGUF")
    folder = make(tmp_path, host_layout=True)
    run_in_host(COMMON + program, folder=str(folder), pack=str(Path(pack or "").expanduser().resolve()))
