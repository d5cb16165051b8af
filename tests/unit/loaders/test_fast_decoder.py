"""Small decoders from files and from the host's VAE object."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from avatar.engines.parts.wan.fast_decoder import WIDTHS, FastDecoder, TinyDecoder
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.identity import fingerprint
from avatar.loaders.wan import fast_decoder
from avatar.loaders.wan.fast_decoder import (
    HostDecoder,
    check_fits,
    decoder_from_host,
    decoder_names,
    find_decoder,
    load_tiny_decoder,
)
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.unit.in_host import run_in_host
from tests.unit.tiny_s2v import noise

ROOT = Path(__file__).resolve().parents[3]
NARROW = (16, 12, 8, 8)


def published(widths: tuple[int, ...] = NARROW, seed: int = 0) -> dict[str, Tensor]:
    """A checkpoint with random weights, with a piece of the encoder that every file has beside the decoder."""
    torch.manual_seed(seed)
    state = {name: value.half().clone() for name, value in TinyDecoder(widths).state_dict().items()}
    return {**state, "encoder.0.weight": torch.zeros(64, 3, 3, 3), "encoder.0.bias": torch.zeros(64)}


@pytest.mark.parametrize("widths", [WIDTHS, NARROW])
@pytest.mark.parametrize("name", ["taew2_1.pth", "taew2_1.safetensors"])
def test_files_with_the_published_names_load(tmp_path, widths, name):
    state = published(widths)
    torch.save(state, tmp_path / name) if name.endswith(".pth") else save_file(state, tmp_path / name)
    loaded = load_tiny_decoder(tmp_path / name)
    assert loaded.widths == widths
    own = loaded.state_dict()
    assert own.keys() == {key for key in state if key.startswith("decoder.")}
    assert all(torch.equal(own[key], state[key]) and own[key].dtype == torch.float16 for key in own)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    state = published()
    state["decoder.1.weight"].view(-1)[3] = value
    save_file(state, tmp_path / "taew2_1.safetensors")
    with pytest.raises(ValueError, match=r"taew2_1\.safetensors is damaged: decoder\.1\.weight holds NaN"):
        load_tiny_decoder(tmp_path / "taew2_1.safetensors")


def without(*names: str) -> dict[str, Tensor]:
    return {key: value for key, value in published().items() if key not in names}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (without("decoder.4.conv.2.bias"), r"1 weights missing \(decoder\.4\.conv\.2\.bias\)"),
        ({**published(), "decoder.30.weight": torch.zeros(1)}, r"1 unexpected \(decoder\.30\.weight\)"),
        ({**published(), "head.weight": torch.zeros(1)}, r"1 unexpected \(head\.weight\)"),
        ({**published(), "decoder.22.bias": torch.zeros(12)}, r"decoder\.22\.bias \[12\] instead of \[3\]"),
        ({"decoder.1.weight": torch.zeros(256, 48, 3, 3)}, "latents of 48 channels, not Wan 2.1's"),
        ({"decoder.conv1.weight": torch.zeros(1)}, "is a full VAE"),
        ({"decoder.conv_in.weight": torch.zeros(1)}, "is a full VAE"),
        ({"blocks.0.weight": torch.zeros(1)}, "no name agrees"),
    ],
)
def test_what_does_not_fit_is_refused_with_names(tmp_path, state, sentence):
    save_file(state, tmp_path / "taew2_1.safetensors")
    with pytest.raises(ValueError, match=rf"the fast decoder .*taew2_1\.safetensors .*{sentence}"):
        load_tiny_decoder(tmp_path / "taew2_1.safetensors")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "taew2_1.safetensors"
    save_file(published(), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cut off"):
        load_tiny_decoder(path)


@pytest.fixture
def folders(monkeypatch) -> dict[str, list[str]]:
    """The host's model folders, as a table."""
    files: dict[str, list[str]] = {"vae_approx": [], "vae": []}
    host = SimpleNamespace(
        get_filename_list=lambda folder: files[folder],
        get_full_path=lambda folder, name: f"/{folder}/{name}" if name in files[folder] else None,
    )
    monkeypatch.setitem(sys.modules, "folder_paths", host)
    monkeypatch.setattr(fast_decoder, "_SHIPPED_FILE", Path("nowhere"))
    return files


def test_only_files_for_these_latents_are_offered(folders):
    folders["vae_approx"] = [
        "taehv.safetensors",
        "taew2_2.pth",
        "sub/lighttaew2_1.safetensors",
        "taew2_1.pth",
    ]
    folders["vae"] = ["wan_2.1_vae.safetensors", "TAEW2_1.safetensors"]
    assert decoder_names() == ["TAEW2_1.safetensors", "sub/lighttaew2_1.safetensors", "taew2_1.pth"]
    assert find_decoder("taew2_1.pth") == Path("/vae_approx/taew2_1.pth")
    assert find_decoder("TAEW2_1.safetensors") == Path("/vae/TAEW2_1.safetensors")


def test_without_a_file_it_is_said_what_to_put_where(folders):
    (name,) = decoder_names()
    with pytest.raises(
        FileNotFoundError, match=r"no fast decoder taew2_1.*MIT.*Apache-2\.0.*models/vae_approx"
    ):
        find_decoder(name)


def host_vae(state: dict[str, Tensor], latent_format: object = None) -> SimpleNamespace:
    """A VAE object as the host makes it of such a file."""
    module = nn.Module()
    for name, value in state.items():
        owner = module
        *path, leaf = name.split(".")
        for part in path:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner._modules[part]
        owner.register_parameter(leaf, nn.Parameter(value, requires_grad=False))
    module.latent_format = latent_format
    return SimpleNamespace(first_stage_model=module, vae_dtype=torch.float32)


@pytest.mark.parametrize(
    ("vae", "sentence"),
    [
        (host_vae(published(), latent_format=object), "LiveAvatar Load Fast Decoder instead"),
        (host_vae({"decoder.conv1.weight": torch.zeros(1)}), "full VAE; disconnect the sampler's 'decoder'"),
        (host_vae(without("decoder.22.bias")), r"missing \(decoder\.22\.bias\)"),
        (SimpleNamespace(), "no VAE model"),
    ],
)
def test_other_vaes_of_the_host_are_refused(vae, sentence):
    with pytest.raises(ValueError, match=sentence):
        decoder_from_host(vae)


def hosted(seed: int = 0, raw: bool = False, widths: tuple[int, ...] = NARROW) -> HostDecoder:
    torch.manual_seed(seed)
    return HostDecoder(TinyDecoder(widths).requires_grad_(False), "tiny", raw, None)


def test_a_decoder_of_ours_is_taken_as_it_is():
    decoder = hosted()
    assert decoder_from_host(decoder) is decoder


def test_weights_and_the_kind_of_latents_tell_decoders_apart():
    found = {fingerprint(decoder.identity()) for decoder in (hosted(), hosted(1), hosted(raw=True))}
    assert len(found) == 3
    assert fingerprint(hosted().identity()) in found


@pytest.mark.parametrize(
    ("vae_width", "widths", "fits"),
    [(96, WIDTHS, True), (24, WIDTHS, True), (12, NARROW, True), (96, NARROW, False), (12, WIDTHS, False)],
)
def test_the_tiny_talkers_parts_go_together_only(vae_width, widths, fits):
    with torch.device("meta"):
        vae = WanVAE(AutoencoderKLWan(base_dim=vae_width))
    if fits:
        return check_fits(hosted(widths=widths), vae)
    with pytest.raises(ValueError, match="not made for this VAE"):
        check_fits(hosted(widths=widths), vae)


HOST_PROGRAM = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
sys.path.insert(0, {root!r})
import tools.pack, torch
import comfy.sd, comfy.utils
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.wan.fast_decoder import decoder_from_host
from diffusers import AutoencoderKLWan

with torch.inference_mode():  # as the host runs its nodes
    host = comfy.sd.VAE(sd=comfy.utils.load_torch_file({path!r}))
    host.first_stage_model.show_progress_bar = False
    vae = WanVAE(AutoencoderKLWan(base_dim=2))
    found = decoder_from_host(host)
    assert found.raw, "takes raw latents"
    decoder = found.over(vae)
    latents = torch.randn(1, 16, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    seen = host.decode(vae.denormalise(latents)).movedim(-1, 1) * 2 - 1  # [B, F, H, W, C] in 0..1
    ours = decoder.decode(latents)
    assert ours.std() > 0.05, ours.std()
    error = (seen.clamp(-1, 1) - ours).abs().max().item()
    assert error < 1e-4, error

    half = comfy.sd.VAE(sd={{k: v.half() for k, v in comfy.utils.load_torch_file({path!r}).items()}})
    try:
        decoder_from_host(half)
    except ValueError as error:
        assert "HunyuanVideo" in str(error)
    else:
        raise AssertionError("taken for Wan's")
print("fine")
"""


def test_the_hosts_own_tiny_vae_gives_the_same_pictures(tmp_path):
    torch.manual_seed(0)
    state = {name: 1.5 * value for name, value in TinyDecoder(WIDTHS).state_dict().items()}
    state["decoder.22.bias"] += 0.5
    save_file(state, tmp_path / "lighttaew2_1.safetensors")
    path = str(tmp_path / "lighttaew2_1.safetensors")
    run_in_host(HOST_PROGRAM, needs="comfy/taesd/taehv.py", path=path)


def test_a_loaded_decoder_knows_its_latents():
    vae = WanVAE(AutoencoderKLWan(base_dim=2).requires_grad_(False))
    latents = noise(1, 16, 2, 2, 2)
    raw, normalised = hosted(raw=True).over(vae), hosted().over(vae)
    assert isinstance(raw, FastDecoder)
    torch.testing.assert_close(raw.decode(latents), normalised.decode(vae.denormalise(latents)))
