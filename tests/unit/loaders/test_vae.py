"""Wan 2.1's VAE from files and from the host's VAE object."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.wan.vae import convert_wan_vae_keys, load_vae, vae_from_host
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file

from tests.unit.in_host import run_in_host

ROOT = Path(__file__).resolve().parents[3]


def original_name(name: str) -> str:
    """diffusers' name -> the original checkpoint's, written down independently of the loader's table."""
    parts = name.split(".")
    side, leaf = parts[0], parts[-1]
    if side in ("quant_conv", "post_quant_conv"):
        return f"{'conv1' if side == 'quant_conv' else 'conv2'}.{leaf}"
    inner = {"norm1": "residual.0", "conv1": "residual.2", "norm2": "residual.3", "conv2": "residual.6"}
    inner["conv_shortcut"] = "shortcut"
    match parts[1:-1]:
        case ["conv_in"]:
            place = "conv1"
        case ["norm_out"]:
            place = "head.0"
        case ["conv_out"]:
            place = "head.2"
        case ["mid_block", "attentions", "0", part]:
            place = f"middle.1.{part}"
        case ["mid_block", "resnets", index, part]:
            place = f"middle.{2 * int(index)}.{inner[part]}"
        case ["down_blocks", index, *rest]:
            place = ".".join(["downsamples", index, *(inner.get(part, part) for part in rest)])
        case ["up_blocks", stage, "resnets", index, part]:
            place = f"upsamples.{4 * int(stage) + int(index)}.{inner[part]}"
        case ["up_blocks", stage, "upsamplers", "0", *rest]:
            place = ".".join(["upsamples", str(4 * int(stage) + 3), *rest])
    return f"{side}.{place}.{leaf}"


def make_model(width: int = 4) -> AutoencoderKLWan:
    torch.manual_seed(width)
    return AutoencoderKLWan(base_dim=width).eval()


def original_state(model: AutoencoderKLWan) -> dict[str, torch.Tensor]:
    return {original_name(name): tensor for name, tensor in model.state_dict().items()}


def assert_same_model(loaded: AutoencoderKLWan, model: AutoencoderKLWan) -> None:
    latents = torch.randn(1, 16, 2, 1, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(WanVAE(loaded).decode(latents), WanVAE(model).decode(latents))
    assert loaded.state_dict().keys() == model.state_dict().keys()


def test_original_names_have_the_documented_form():
    state = original_state(make_model())
    assert len(state) == 194
    assert state["conv1.weight"].shape == (32, 32, 1, 1, 1)
    assert state["decoder.upsamples.3.time_conv.weight"].shape == (32, 16, 3, 1, 1)
    assert state["encoder.downsamples.3.shortcut.weight"].shape == (8, 4, 1, 1, 1)


def test_every_original_name_is_converted():
    model = make_model()
    converted = convert_wan_vae_keys(original_state(model))
    assert converted.keys() == model.state_dict().keys()
    assert all(torch.equal(converted[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("name", ["vae.pth", "vae.safetensors"])
def test_loads_original_files_of_any_width(tmp_path, width, name):
    model = make_model(width)
    if name.endswith(".pth"):
        torch.save(original_state(model), tmp_path / name)
    else:
        save_file(original_state(model), tmp_path / name)
    loaded = load_vae(tmp_path / name, torch.float32)
    assert_same_model(loaded, model)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_loads_files_with_diffusers_names(tmp_path):
    model = make_model()
    save_file(model.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    assert_same_model(load_vae(tmp_path / "diffusion_pytorch_model.safetensors", torch.float32), model)


def test_dtype_is_the_one_asked_for(tmp_path):
    save_file(original_state(make_model()), tmp_path / "vae.safetensors")
    assert {p.dtype for p in load_vae(tmp_path / "vae.safetensors").parameters()} == {torch.bfloat16}
    assert {p.dtype for p in load_vae(tmp_path / "vae.safetensors", torch.float16).parameters()} == {
        torch.float16
    }


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({"conv2.weight": torch.zeros(48, 48, 1, 1, 1)}, "Wan 2.2's VAE with 48 latent channels"),
        ({"post_quant_conv.weight": torch.zeros(48, 48, 1, 1, 1)}, "Wan 2.2's VAE with 48 latent channels"),
        ({"decoder.mid.block_1.norm1.weight": torch.zeros(4)}, "VAE of an image model"),
        ({"decoder.up_blocks.0.resnets.0.norm1.weight": torch.zeros(4)}, "VAE of an image model"),
        ({"decoder.22.bias": torch.zeros(3)}, "tiny preview VAE"),
        ({"blocks.0.self_attn.q.weight": torch.zeros(4, 4)}, "no Wan VAE"),
    ],
)
def test_other_files_are_recognised(tmp_path, state, sentence):
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=rf"other\.safetensors: This is .*{sentence}.*; use Wan 2\.1's VAE"):
        load_vae(tmp_path / "other.safetensors")


def test_unknown_and_missing_weights_are_named(tmp_path):
    state = original_state(make_model())
    save_file({**state, "decoder.extra.weight": torch.zeros(1)}, tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match=r"unknown weights \(decoder\.extra\.weight\)"):
        load_vae(tmp_path / "vae.safetensors")
    del state["encoder.middle.0.residual.2.bias"]
    save_file(state, tmp_path / "vae.safetensors")
    with pytest.raises(
        ValueError, match=r"1 weights missing \(encoder\.mid_block\.resnets\.0\.conv1\.bias\)"
    ):
        load_vae(tmp_path / "vae.safetensors")


@pytest.mark.parametrize("vae", [SimpleNamespace(), SimpleNamespace(first_stage_model=None), None])
def test_host_object_without_a_model(vae):
    with pytest.raises(ValueError, match=r"carries no VAE model; use Wan 2.1's VAE"):
        vae_from_host(vae)


def test_host_object_of_another_kind():
    with pytest.raises(ValueError, match=r"no Wan VAE; use Wan 2.1's VAE"):
        vae_from_host(SimpleNamespace(first_stage_model=torch.nn.Linear(2, 2)))


HOST_PROGRAM = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
sys.path.insert(0, {root!r})
import tools.pack, torch
import comfy.sd, comfy.utils
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.wan.vae import load_vae, vae_from_host

with torch.inference_mode():  # as the host runs its nodes
    host = comfy.sd.VAE(sd=comfy.utils.load_torch_file({path!r}))
    found = vae_from_host(host)
    assert vae_from_host(host) is found, "converted anew"
    ours = found.load()
    theirs = {{p.data_ptr() for p in host.first_stage_model.parameters()}}
    assert not theirs & {{p.data_ptr() for p in ours.model.parameters()}}, "the host's module would move with ours"

    exact = load_vae({path!r}, host.vae_dtype)
    latents = torch.randn(1, 16, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    pixels = ours.decode(latents)
    assert torch.equal(pixels, WanVAE(exact).decode(latents)), "other weights than the file's"
    # [B, F, H, W, C] in 0..1; without its patcher's device moves the host decodes on the CPU all the same
    seen = host.decode(ours.denormalise(latents)).movedim(-1, 1) * 2 - 1
    error = (seen - pixels).abs().max().item()
    assert error < 1e-4, error

for kind in ("48", "none"):
    state = {{"48": {{"conv2.weight": torch.zeros(48, 48, 1, 1, 1)}}, "none": {{"x": torch.zeros(1)}}}}[kind]
    try:
        vae_from_host(comfy.sd.VAE(sd=state))
    except ValueError as error:
        assert "use Wan 2.1's VAE" in str(error)
    else:
        raise AssertionError(kind)
print("fine")
"""


def test_the_hosts_vae_is_converted_once_and_gives_the_same_pictures(tmp_path):
    torch.save(original_state(make_model(8)), tmp_path / "vae.pth")
    run_in_host(HOST_PROGRAM, path=str(tmp_path / "vae.pth"))
