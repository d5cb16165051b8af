"""PersonaLive's files: where they are found, and what is said about those that do not fit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from avatar.loaders.personalive.files import WEIGHTS, find_files
from avatar.loaders.personalive.networks import load_personalive
from safetensors.torch import save_file

from tools.tiny_personalive import write_tiny_personalive


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_tiny_personalive(tmp_path_factory.mktemp("published"))


@pytest.fixture
def tree(published, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "models"))


def load(source, root=Path("unused")):
    return load_personalive(find_files(str(source), root), torch.float32)


def same(a, b):
    return all(
        torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    )


def test_every_way_to_name_the_folder(published, tree):
    (tree / "pretrained_weights").mkdir()
    for name in ("personalive", "sd-vae-ft-mse", "sd-image-variations-diffusers"):
        shutil.move(tree / name, tree / "pretrained_weights" / name)
    weights = {"conv_in.weight"}
    for source in (tree, tree / "pretrained_weights", tree / "pretrained_weights" / "personalive"):
        files = find_files(str(source), Path("unused"))
        assert set(files.weights) == set(WEIGHTS)
        assert files.vae.name == "sd-vae-ft-mse"
    assert weights <= set(load(tree).denoising_unet.state_dict())


def test_companions_may_lie_in_the_models_folder(tree, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for name in ("sd-vae-ft-mse", "sd-image-variations-diffusers"):
        shutil.move(tree / name, root / name)
    shutil.move(tree / "personalive", tmp_path / "elsewhere" / "a" / "b")
    assert find_files(str(tmp_path / "elsewhere" / "a" / "b"), root).vae == root / "sd-vae-ft-mse"


def test_missing_files_are_named(tree):
    (tree / "personalive" / "motion_encoder.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks motion_encoder\.pth"):
        find_files(str(tree), Path("unused"))
    with pytest.raises(FileNotFoundError, match="no PersonaLive weights"):
        find_files(str(tree / "sd-vae-ft-mse"), Path("unused"))


def test_a_missing_companion_says_where_to_get_it(tree):
    shutil.rmtree(tree / "sd-vae-ft-mse")
    with pytest.raises(FileNotFoundError, match="stabilityai/sd-vae-ft-mse"):
        find_files(str(tree), tree)


def test_half_a_download_is_named(tree):
    path = tree / "personalive" / "reference_unet.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"reference_unet\.pth is cut off"):
        find_files(str(tree), Path("unused"))


def test_a_file_of_another_model_is_named(tree):
    shutil.copy(tree / "personalive" / "pose_guider.pth", tree / "personalive" / "motion_encoder.pth")
    with pytest.raises(ValueError, match=r"motion_encoder\.pth is a file of another model"):
        load(tree)


def test_converted_files_load_the_same(published, tree):
    for path in (tree / "personalive").glob("*.pth"):
        state = torch.load(path, weights_only=True)
        save_file({k: v.contiguous() for k, v in state.items()}, path.with_suffix(".safetensors"))
        path.unlink()
    assert same(load(tree).denoising_unet, load(published).denoising_unet)


def rewrite(path, change):
    state = torch.load(path, weights_only=True)
    torch.save(change(state), path)


def test_the_split_between_the_two_unet_files_does_not_matter(published, tree):
    folder = tree / "personalive"
    temporal = torch.load(folder / "temporal_module.pth", weights_only=True)
    rewrite(folder / "denoising_unet.pth", lambda state: {**state, **{k: v + 1 for k, v in temporal.items()}})
    rewrite(folder / "temporal_module.pth", lambda s: {k: v for k, v in s.items() if not k.endswith("pe")})
    ours, theirs = load(tree).denoising_unet.state_dict(), load(published).denoising_unet.state_dict()
    different = [k for k in theirs if not torch.equal(ours[k], theirs[k])]
    # the position tables came from the first file, everything else from the last
    assert different and all(key.endswith("pe") for key in different)


def test_position_tables_are_computed_where_no_file_has_them(published, tree):
    rewrite(
        tree / "personalive" / "temporal_module.pth",
        lambda state: {k: v for k, v in state.items() if not k.endswith("pe")},
    )
    ours, theirs = load(tree).denoising_unet.state_dict(), load(published).denoising_unet.state_dict()
    assert all((ours[k] - theirs[k]).abs().max() < 1e-3 for k in theirs)


def test_the_base_unet_fills_what_the_denoising_file_leaves_out(tree):
    folder = tree / "personalive"
    rewrite(folder / "denoising_unet.pth", lambda s: {k: v for k, v in s.items() if "motion_modules" in k})
    base = torch.load(
        tree / "sd-image-variations-diffusers" / "unet" / "diffusion_pytorch_model.bin", weights_only=True
    )
    assert torch.equal(load(tree).denoising_unet.conv_in.weight, base["conv_in.weight"].float())


def test_weights_that_no_file_has_are_named(tree):
    rewrite(
        tree / "personalive" / "temporal_module.pth",
        lambda state: {k: v for k, v in state.items() if "mid_block" not in k},
    )
    with pytest.raises(ValueError, match=r"weights missing \(mid_block\.temporal_modules"):
        load(tree)


def test_old_names_of_the_vae_attention_are_understood(published, tree):
    new = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}

    def old(key):
        for a, b in new.items():
            key = key.replace(a, b) if ".attentions." in key else key
        return key

    rewrite(
        tree / "sd-vae-ft-mse" / "diffusion_pytorch_model.bin",
        lambda state: {old(k): v for k, v in state.items()},
    )
    assert same(load(tree).codec.vae, load(published).codec.vae)


def test_the_tiny_vae_decodes_where_it_is_wanted(published):
    engine = load_personalive(find_files(str(published), Path("unused"), tiny_vae=True), torch.float32)
    assert engine.codec.name == "tiny VAE"
    with torch.inference_mode():
        latents = engine.codec.encode(torch.zeros(1, 3, 64, 64))
        assert torch.equal(latents, load(published).codec.encode(torch.zeros(1, 3, 64, 64)))
        assert engine.decode(latents).shape == (1, 64, 64, 3)
