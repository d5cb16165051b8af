"""Sizes, pictures, prompts and folders of LongCat."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from avatar.loaders.longcat import conditioning, folders
from avatar.loaders.longcat.boxes import with_background
from avatar.loaders.longcat.picture import fit_video, single_picture
from avatar.loaders.longcat.sizes import BUCKETS, video_size

from tools.tiny_longcat import make


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1080, 1920, (480, 832)), (1920, 1080, (832, 480)), (100, 100, (608, 640)), (600, 800, (544, 736))],
)
def test_the_nearest_shape_of_the_training_is_taken(height, width, expected):
    assert video_size("480p", height, width) == expected
    assert video_size("720p", height, width) in BUCKETS["720p"]
    assert video_size("720p", 500, 500) == (960, 960)


def test_an_exact_size_is_taken_as_it_is_or_refused():
    assert video_size("exact", 64, 80) == (64, 80)
    with pytest.raises(ValueError, match="such as 64x80"):
        video_size("exact", 81, 64)


def test_of_a_video_the_end_is_kept_in_the_size_of_the_new_one():
    frames = torch.linspace(0, 1, 100)[:, None, None, None].expand(-1, 40, 60, 3)
    past = fit_video(frames, 32, 48, seconds=2.0, fps=25)
    assert past.shape == (50, 32, 48, 3) and past.dtype == torch.uint8
    assert past[-1].float().mean() == 255 and past[0].float().mean() == pytest.approx(255 * 50 / 99, abs=1)
    assert len(fit_video(frames[:3], 32, 48, seconds=2.0, fps=25)) == 3


@pytest.mark.parametrize("fps", [16, 25])
def test_enough_of_a_video_is_kept_for_the_largest_overlap(fps):
    past = fit_video(torch.zeros(200, 8, 8, 3), 16, 16, conditioning.PAST_SECONDS, fps=30)
    condition = conditioning.Condition(torch.zeros(1, 8), (16, 16), past=past, past_fps=30)
    assert len(condition.last_frames(fps)) >= 45


def test_one_picture_is_wanted():
    with pytest.raises(ValueError, match="Pick one picture"):
        single_picture(torch.zeros(2, 40, 40, 3))
    with pytest.raises(ValueError, match="at least"):
        single_picture(torch.zeros(1, 4, 40, 3))
    with pytest.raises(ValueError, match="NaN"):
        single_picture(torch.full((1, 40, 40, 3), torch.nan))


def test_the_background_is_what_neither_speaker_is():
    masks = torch.zeros(3, 2, 4)
    masks[0, :, 0], masks[1, :, 3], masks[2, :, 1] = 0.5, 1, 1
    assert with_background(masks)[2].tolist() == [[0, 1, 1, 0]] * 2
    assert with_background(masks).unique().tolist() == [0, 1] and len(with_background(masks)) == 4


def test_a_prompt_without_a_size_or_with_several_parts_is_refused():
    prompt = [[torch.zeros(1, 3, 8), {}]]
    with pytest.raises(ValueError, match="through LongCat Reference Image"):
        conditioning.read(prompt)
    with pytest.raises(ValueError, match="single text encode"):
        conditioning.read(prompt * 2)
    sized = conditioning.with_size(prompt, 64, 80)
    assert conditioning.read(sized).size == conditioning.size_of(sized) == (64, 80)
    wrong = [
        [torch.zeros(1, 3, 8), {"longcat_size": (64, 80), "reference_latents": [torch.zeros(1, 16, 1, 8, 8)]}]
    ]
    with pytest.raises(ValueError, match="its portrait is"):
        conditioning.read(wrong)
    with pytest.raises(ValueError, match="NaN"):
        conditioning.single_prompt([[torch.full((1, 3, 8), torch.nan), {}]])


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    make(folder / "longcat")
    (folder / "longcat" / "LongCat-Video-Avatar-1.5").rename(folder / "longcat" / "mine")
    return folder


@pytest.fixture
def host(monkeypatch, models):
    files = {
        "diffusion_models": ["LongCat_avatar.safetensors", "wan.safetensors"],
        "loras": ["other.safetensors"],
    }
    known = SimpleNamespace(
        models_dir=str(models),
        add_model_folder_path=lambda kind, path: None,
        get_folder_paths=lambda kind: [str(models / "longcat")],
        get_filename_list=lambda kind: files[kind],
        get_full_path=lambda kind, name: str(models / name) if name in files[kind] else None,
        get_full_path_or_raise=lambda kind, name: str(models / name),
    )
    monkeypatch.setitem(sys.modules, "folder_paths", known)


def nothing(done: int, total: int) -> None:
    pass


def test_checkpoints_are_found_in_folders_and_files(host, models):
    names = folders.checkpoint_names()
    assert names[:4] == list(folders.PUBLISHED)
    assert {"mine/base_model", "mine/base_model_int8", "LongCat_avatar.safetensors"} <= set(names)
    assert "wan.safetensors" not in names and "LongCat-Video/vae" not in names
    assert folders.find_checkpoint("mine/base_model", False, nothing) == models / "longcat/mine/base_model"
    assert (
        folders.find_checkpoint("LongCat_avatar.safetensors", False, nothing).name
        == "LongCat_avatar.safetensors"
    )
    single = folders.find_checkpoint("LongCat-Video-Avatar/avatar_single", False, nothing)
    assert single == models / "longcat/LongCat-Video-Avatar/avatar_single"
    with pytest.raises(FileNotFoundError, match="Turn on the loader's download option"):
        folders.find_checkpoint("LongCat-Video-Avatar-1.5/base_model", False, nothing)
    with pytest.raises(FileNotFoundError, match="Reload the page"):
        folders.find_checkpoint("gone", False, nothing)


def test_a_version_s_own_lora_is_found_by_itself(host, models):
    assert folders.lora_names() == ["auto", "none", "dmd_lora", "other.safetensors"]
    found = models / "longcat" / "mine" / "lora" / "dmd_lora.safetensors"
    assert folders.find_lora("auto", "1.5", False, nothing) == found
    assert folders.find_lora("auto", "1.0", False, nothing) is None
    assert folders.find_lora("none", "1.5", False, nothing) is None
    assert folders.find_lora("other.safetensors", "1.5", False, nothing) == models / "other.safetensors"


def test_the_speech_encoder_lies_beside_the_checkpoint_or_in_another_folder(host, models):
    beside = folders.load_encoder("1.5", models / "longcat/mine/base_model", False, nothing)
    elsewhere = folders.load_encoder("1.5", models / "LongCat_avatar.safetensors", False, nothing)
    assert type(beside) is type(elsewhere)
    older = folders.load_encoder("1.0", models / "longcat/LongCat-Video-Avatar/avatar_single", False, nothing)
    assert older.model.wav2vec2.config.num_hidden_layers == 12


def test_a_speech_encoder_whose_download_was_interrupted_is_looked_for_elsewhere_or_fetched(
    host, models, monkeypatch
):
    begun = models / "longcat" / "begun" / "whisper-large-v3"
    begun.mkdir(parents=True)
    whole = models / "longcat" / "mine" / "whisper-large-v3"
    (begun / "config.json").write_bytes((whole / "config.json").read_bytes())
    (begun / "model.safetensors.0123.partial").touch()
    loaded: list[Path] = []
    monkeypatch.setattr(folders.WhisperAudioEncoder, "from_folder", loaded.append)
    folders.load_encoder("1.5", begun.parent / "base_model", False, nothing)
    assert loaded == [whole]
    monkeypatch.setattr(folders, "_subfolders", lambda: [begun.parent])
    with pytest.raises(FileNotFoundError, match="Turn on the loader's download option"):
        folders.load_encoder("1.5", begun.parent / "base_model", False, nothing)
