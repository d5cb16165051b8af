"""Weight files: what loads, and the sentence for each thing that can be wrong."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from avatar.loaders.files import STEM, check_file, check_keys, load_sharded, load_state_dict, weight_files
from safetensors.torch import save_file

WEIGHTS = {"a.weight": torch.arange(600.0).view(20, 30), "a.bias": torch.zeros(20, dtype=torch.bfloat16)}


def save(path, state=WEIGHTS):
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def assert_same(state, expected=WEIGHTS):
    assert state.keys() == expected.keys()
    assert all(
        torch.equal(state[key], expected[key]) and state[key].dtype == expected[key].dtype for key in state
    )


def cut(path, share: float):
    os.truncate(path, int(path.stat().st_size * share))
    return path


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.pt", "w.bin"])
def test_loads_every_format(tmp_path, name):
    assert_same(load_state_dict(save(tmp_path / name)))


def test_loads_the_old_pickle_format_too(tmp_path):
    torch.save(WEIGHTS, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert_same(load_state_dict(tmp_path / "old.pth"))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
def test_zip_weights_are_mapped_not_read(tmp_path):
    path = tmp_path / "big.pth"
    torch.save({"w": torch.zeros(1 << 22)}, path)
    state = load_state_dict(path)
    assert state["w"].shape == (1 << 22,)
    assert str(path) in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_missing_file_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"{name} does not exist"):
        load_state_dict(tmp_path / name)


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "w.bin"])
def test_empty_file(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=f"{name} is empty"):
        load_state_dict(tmp_path / name)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_cut_off_file(tmp_path, name, share):
    with pytest.raises(ValueError, match=f"{name} is (cut off at|damaged)"):
        load_state_dict(cut(save(tmp_path / name), share))


def test_cut_off_safetensors_tells_both_sizes(tmp_path):
    path = save(tmp_path / "w.safetensors")
    size = path.stat().st_size
    with pytest.raises(ValueError, match=f"cut off at {size - 1:,} of {size:,} bytes"):
        check_file(cut(path, 1 - 0.5 / size))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_overwritten_inside(tmp_path, name):
    path = save(tmp_path / name)
    with path.open("r+b") as file:
        file.seek(9)
        file.write(b"\xff" * 120)
    with pytest.raises(ValueError, match=f"{name} is damaged"):
        load_state_dict(path)


def test_other_content_under_a_safetensors_name(tmp_path):
    torch.save(WEIGHTS, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="is not a safetensors file"):
        load_state_dict(tmp_path / "w.safetensors")


def test_pickle_with_code_is_refused_and_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"w": torch.zeros(1), "x": Payload()}, tmp_path / "evil.pth")
    (tmp_path / "plain.bin").write_bytes(pickle.dumps(Payload(), protocol=2))
    with pytest.raises(ValueError, match=r"evil.pth contains Python code or objects .* use a .safetensors"):
        load_state_dict(tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"plain\.bin is damaged, or contains Python code"):
        load_state_dict(tmp_path / "plain.bin")
    assert not (tmp_path / "ran").exists()


def test_random_bytes(tmp_path):
    (tmp_path / "w.pth").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(ValueError, match=r"w\.pth is damaged"):
        load_state_dict(tmp_path / "w.pth")


def test_checkpoint_without_weights_at_top_level(tmp_path):
    torch.save({"epoch": 3, "optimizer": {"w": torch.zeros(1)}}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"no weights at its top level \(found: epoch, optimizer\)"):
        load_state_dict(tmp_path / "w.pth")


def test_entries_that_are_no_tensors_are_left_out(tmp_path):
    torch.save({**WEIGHTS, "epoch": 3}, tmp_path / "w.pth")
    assert_same(load_state_dict(tmp_path / "w.pth"))


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth", "config.json"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git-LFS pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n  <html><body>Access denied</body></html>", "web page"),
        (b"<?xml version='1.0'?><Error/>", "web page"),
    ],
)
def test_failed_downloads_are_recognised(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is a {sentence}"):
        check_file(tmp_path / name)


def test_cut_off_json(tmp_path):
    (tmp_path / "config.json").write_text('{"dim": 51')
    with pytest.raises(ValueError, match=r"config\.json is damaged"):
        check_file(tmp_path / "config.json")


def test_folder_and_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="is a folder"):
        load_state_dict(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"notes\.txt is no weight file"):
        load_state_dict(tmp_path / "notes.txt")


def shard(folder, stem="diffusion_pytorch_model", drop=None):
    """Two shards and their index; ``drop`` leaves that key out of its shard."""
    names = {"a.weight": f"{stem}-1.safetensors", "a.bias": f"{stem}-2.safetensors"}
    for key, name in names.items():
        save_file({"other" if key == drop else key: WEIGHTS[key]}, folder / name)
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def test_shards_are_joined(tmp_path):
    shard(tmp_path)
    assert_same(load_sharded(tmp_path))


@pytest.mark.parametrize("name", ["model.safetensors", "model.bin", "model.pth"])
def test_single_file_of_a_folder(tmp_path, name):
    save(tmp_path / name)
    assert_same(load_sharded(tmp_path, "model"))


def test_files_that_tell_a_model_from_others_are_those_that_are_read(tmp_path):
    for name in (f"{STEM}.bin", f"{STEM}-00001-of-00002.safetensors", "vae.pth", "config.json"):
        (tmp_path / name).write_bytes(b"x")
    found = [path.name for path in weight_files(tmp_path, STEM)]
    assert found == [f"{STEM}-00001-of-00002.safetensors", f"{STEM}.bin"]


def test_absent_shards_are_listed(tmp_path):
    shard(tmp_path)
    (tmp_path / "diffusion_pytorch_model-2.safetensors").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"lacks 1 of 2 weight shards: diffusion_pytorch_model-2\.safe"
    ):
        load_sharded(tmp_path)


def test_shard_without_a_promised_tensor(tmp_path):
    shard(tmp_path, drop="a.bias")
    with pytest.raises(ValueError, match=r"lack a\.bias \(diffusion_pytorch_model-2\.safetensors\)"):
        load_sharded(tmp_path)


def test_cut_off_shard_is_found_before_any_is_loaded(tmp_path, monkeypatch):
    shard(tmp_path)
    cut(tmp_path / "diffusion_pytorch_model-2.safetensors", 0.9)
    monkeypatch.setattr("avatar.loaders.files.load_file", None)
    with pytest.raises(ValueError, match=r"model-2\.safetensors is cut off"):
        load_sharded(tmp_path)


@pytest.mark.parametrize(
    "content", ["{}", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', '{"weight_map": {}}']
)
def test_broken_index(tmp_path, content):
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").write_text(content)
    with pytest.raises(ValueError, match=r"index\.json"):
        load_sharded(tmp_path)


def test_index_cannot_point_outside_its_folder(tmp_path):
    save(tmp_path / "secret.safetensors")
    inner = tmp_path / "inner"
    inner.mkdir()
    content = {"weight_map": {"a.weight": "../secret.safetensors"}}
    (inner / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="outside its own folder"):
        load_sharded(inner)


def test_folder_without_weights_or_no_folder(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"neither model\.safetensors nor model\.safetensors\.index\.json"
    ):
        load_sharded(tmp_path, "model")
    with pytest.raises(FileNotFoundError, match=r"folder .*nowhere does not exist"):
        load_sharded(tmp_path / "nowhere")


def test_fitting_keys_pass():
    linear = torch.nn.Linear(2, 3, device="meta")
    state = {"weight": torch.zeros(3, 2), "bias": torch.zeros(3)}
    for expected in (linear, state, {"weight", "bias"}):
        check_keys(state, expected, "the file")


def test_disagreeing_keys_are_named_with_shapes():
    linear = torch.nn.Linear(2, 3)
    with pytest.raises(
        ValueError, match=r"the file w does not fit .*1 weights missing \(bias\), 1 unexpected \(x\)"
    ):
        check_keys({"weight": torch.zeros(3, 2), "x": torch.zeros(1)}, linear, "the file w")
    with pytest.raises(ValueError, match=r"weight \[3, 4\] instead of \[3, 2\].*another size"):
        check_keys({"weight": torch.zeros(3, 4), "bias": torch.zeros(3)}, linear, "the file w")
    with pytest.raises(ValueError, match="no name agrees, so this is a file of another model"):
        check_keys({"x": torch.zeros(1)}, linear, "the file w")


def test_long_lists_are_shortened():
    with pytest.raises(ValueError, match=r"9 weights missing \(k0, k1, k2 and 6 more\)"):
        check_keys({}, {f"k{i}" for i in range(9)}, "the file")
