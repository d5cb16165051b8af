"""Checkpoints and LoRAs in every folder that the host has for them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from avatar.loaders.hub import LIVE_AVATAR, WAN_S2V, known_files
from avatar.loaders.liveavatar import folders
from avatar.loaders.personalive import host_objects as personalive_host
from avatar.loaders.personalive.files import PERSONALIVE, WEIGHTS
from safetensors.torch import save_file


@pytest.fixture
def roots(monkeypatch, tmp_path) -> list[Path]:
    """Two folders of the host for every kind of model: its own, and another drive."""
    found = [tmp_path / "own", tmp_path / "other drive"]
    host = SimpleNamespace(
        models_dir=str(tmp_path),
        add_model_folder_path=lambda kind, path: None,
        get_folder_paths=lambda kind: [str(path) for path in found],
        get_filename_list=lambda kind: [],
        get_full_path_or_raise=lambda kind, name: (_ for _ in ()).throw(FileNotFoundError(name)),
    )
    monkeypatch.setitem(sys.modules, "folder_paths", host)
    return found


def write(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({"w": torch.zeros(1)}, path)
    else:
        path.write_bytes(b"{}")
    return path


def no_progress(done: int, total: int) -> None:
    """Nothing is downloaded here."""


@pytest.mark.parametrize("place", [0, 1])
def test_the_published_files_are_found_in_every_root(roots, place):
    roots[0].mkdir()
    for name in known_files(WAN_S2V):
        write(roots[place] / "Wan2.2-S2V-14B" / name.partition("|")[0])
    lora = write(roots[place] / "Live-Avatar" / known_files(LIVE_AVATAR)[0])
    assert folders.find_checkpoint(WAN_S2V, False, no_progress) == roots[place] / "Wan2.2-S2V-14B"
    assert folders.find_lora(LIVE_AVATAR, False, no_progress) == lora


def test_what_is_missing_is_said_of_the_root_that_has_most_of_it(roots):
    (roots[0] / "Wan2.2-S2V-14B").mkdir(parents=True)
    write(roots[1] / "Wan2.2-S2V-14B" / "config.json")
    with pytest.raises(FileNotFoundError, match="other drive"):
        folders.find_checkpoint(WAN_S2V, False, no_progress)


def test_what_is_nowhere_is_to_be_put_into_the_first_root(roots):
    with pytest.raises(FileNotFoundError, match="own/Live-Avatar"):
        folders.find_lora(LIVE_AVATAR, False, no_progress)


def test_own_folders_of_one_name_in_two_roots_are_one_choice_and_the_complete_one_is_taken(roots):
    (roots[0] / "mine").mkdir(parents=True)
    write(roots[1] / "mine" / "config.json")
    write(roots[0] / "loras" / "a.safetensors")
    write(roots[1] / "loras" / "a.safetensors")
    second = write(roots[1] / "loras" / "b.safetensors")
    assert folders.checkpoint_names().count("mine") == 1
    assert folders.find_checkpoint("mine", False, no_progress) == roots[1] / "mine"
    assert [name for name in folders.lora_names() if name.startswith("loras/")] == [
        "loras/a.safetensors",
        "loras/b.safetensors",
    ]
    assert folders.find_lora("loras/b.safetensors", False, no_progress) == second


def test_personalive_is_found_in_every_root(roots):
    for stem in WEIGHTS:
        write(roots[1] / "mine" / f"{stem}.safetensors")
    (roots[1] / "empty").mkdir()
    assert personalive_host.CHECKPOINTS.checkpoints() == [PERSONALIVE, "mine"]
    assert personalive_host.CHECKPOINTS.source("mine") == str(roots[1] / "mine")


@pytest.mark.parametrize("name", ["/etc", "../own", "gone"])
def test_a_folder_that_is_no_choice_is_refused(roots, name):
    for find in (
        lambda: folders.find_checkpoint(name, False, no_progress),
        lambda: personalive_host.CHECKPOINTS.source(name),
    ):
        with pytest.raises(FileNotFoundError, match="reload the page"):
            find()


def test_all_that_is_missing_is_named_at_once_with_what_needs_no_download(roots):
    with pytest.raises(FileNotFoundError) as caught:
        folders.find_both(WAN_S2V, LIVE_AVATAR, False, no_progress)
    sentence = str(caught.value)
    assert sentence.startswith("Turn on the loader's download option")
    assert all(name in sentence for name in (WAN_S2V, LIVE_AVATAR, folders.SHIPPED))
    checkpoint, lora = folders.find_both(folders.SHIPPED, folders.SHIPPED, False, no_progress)
    assert checkpoint.is_dir() and lora.is_file()
