"""Ditto's files: where they are found, and what is said about those that do not fit."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from avatar.engines.ditto.decoder import DecoderConfig, SpadeDecoder
from avatar.loaders.ditto.files import (
    AUX_MODELS,
    DITTO,
    FINDER,
    LANDMARKS,
    MESH,
    MODELS,
    MOTION_MODEL,
    ONNX,
    RENDERER,
    SETTINGS,
    SETTINGS_FILE,
    SPEECH_FILE,
    find_files,
    holds_weights,
    published_files,
)
from avatar.loaders.ditto.networks import load_ditto
from avatar.loaders.ditto.settings import read_settings
from safetensors.torch import save_file

from tools.tiny_ditto import published_settings, write_tiny_ditto


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    return write_tiny_ditto(tmp_path_factory.mktemp("published"))


@pytest.fixture
def tree(published, tmp_path):
    """A copy that a test may damage."""
    return Path(shutil.copytree(published, tmp_path / "ditto"))


def load(source, **options):
    return load_ditto(find_files(str(source), Path("unused"), **options), torch.float32)


def same(a, b):
    return all(
        torch.equal(x, y)
        for one, other in zip(a.networks, b.networks, strict=True)
        for x, y in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_every_way_to_name_the_folder(published):
    for source in (published, published / "ditto_pytorch", published / MODELS):
        files = find_files(str(source), Path("unused"))
        assert files.weights["decoder"].name == "decoder.pth"
        assert files.settings is not None
        assert holds_weights(source)


def test_the_speech_network_and_the_settings_may_be_absent(tree):
    assert find_files(str(tree), Path("unused")).speech is None
    graph = tree / AUX_MODELS / SPEECH_FILE
    graph.parent.mkdir()
    graph.write_bytes(b"graph")
    assert find_files(str(tree), Path("unused")).speech == graph
    shutil.rmtree(tree / SETTINGS)
    assert find_files(str(tree), Path("unused")).settings is None


def test_what_a_portrait_needs_to_speak_is_named_where_it_is_missing(tree):
    for place, name in ((AUX_MODELS, SPEECH_FILE), (ONNX, FINDER), (ONNX, MESH)):
        (tree / place).mkdir(exist_ok=True)
        (tree / place / name).write_bytes(b"graph")
    with pytest.raises(FileNotFoundError, match=r"^Download landmark203\.onnx of"):
        find_files(str(tree), Path("unused")).check_complete()
    liveportrait = tree.parent / "liveportrait"
    liveportrait.mkdir()
    (liveportrait / "landmark.onnx").write_bytes(b"graph")
    files = find_files(str(tree), Path("unused"), liveportrait=[liveportrait])
    files.check_complete()
    assert files.faces[LANDMARKS].name == "landmark.onnx"
    assert files.faces[MESH] == tree / ONNX / MESH


def test_missing_files_are_named(tree):
    (tree / MODELS / "decoder.pth").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks decoder\.pth; copy or download"):
        find_files(str(tree), Path("unused"))
    with pytest.raises(FileNotFoundError, match="holds no weights of Ditto"):
        find_files(str(tree / SETTINGS), Path("unused"))


def test_the_repository_is_not_fetched_unasked(tmp_path):
    with pytest.raises(FileNotFoundError, match="Turn on the loader's download option"):
        find_files(DITTO, tmp_path)


def test_no_finder_of_insightface_is_ever_fetched():
    assert not any("det_10g" in name or "2d106det" in name for name in published_files())


def test_half_a_download_is_named(tree):
    path = tree / MODELS / "warp_network.pth"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"warp_network\.pth is cut off"):
        find_files(str(tree), Path("unused"))


@pytest.mark.parametrize("stem", [MOTION_MODEL, *RENDERER])
def test_a_file_of_another_model_is_named(tree, stem):
    torch.save({"weight": torch.zeros(3)}, tree / MODELS / f"{stem}.pth")
    with pytest.raises(ValueError, match=rf"{stem}\.pth (is a file of another model|does not fit)"):
        load(tree)


def test_files_of_two_models_are_told(tree):
    wider = SpadeDecoder(DecoderConfig(inputs=32, middle=64, last=8, hidden=16))
    torch.save(wider.state_dict(), tree / MODELS / "decoder.pth")
    with pytest.raises(ValueError, match=r"Use files of one model: .*decoder\.pth reads 32 channels"):
        load(tree)


def test_liveportraits_own_files_serve_for_the_renderer(published, tree):
    other = tree.parent / "liveportrait"
    other.mkdir()
    for stem, theirs in RENDERER.items():
        path = tree / MODELS / f"{stem}.pth"
        if stem == "stitch_network":
            shutil.move(path, other / f"{theirs}.pth")
            continue
        save_file(torch.load(path, weights_only=True), other / f"{theirs}.safetensors")
        path.unlink()
    with pytest.raises(FileNotFoundError, match="lacks"):
        find_files(str(tree), Path("unused"))
    assert same(load(tree, liveportrait=[other]), load(published))


def test_weights_in_half_precision_load_too(tree, published):
    path = tree / MODELS / "appearance_extractor.pth"
    state = torch.load(path, weights_only=True)
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)
    ours, theirs = (load(place).appearance_extractor.first.weight for place in (tree, published))
    assert ours.dtype == torch.float32
    assert (ours - theirs).abs().max() < 1e-3 * theirs.abs().max()


def test_only_what_draws_gets_half_precision(published):
    engine = load_ditto(find_files(str(published), Path("unused")), torch.float16)
    kinds = [next(network.parameters()).dtype for network in engine.networks]
    half, full = torch.float16, torch.float32
    assert kinds == [full, full, half, half, half, full]


def test_norms_are_gone_once_it_is_loaded(published):
    names = [name for network in load(published).networks[2:5] for name in network.state_dict()]
    assert not [name for name in names if "weight_orig" in name]
    assert not [name for name in names if "running_mean" in name and "resblocks" not in name]


def test_settings_are_read_without_their_code(tree):
    settings = read_settings(tree / SETTINGS / SETTINGS_FILE)
    values = published_settings()["default_kwargs"]
    assert np.array_equal(settings.emotions, values["emo"])
    assert np.array_equal(settings.blink, values["delta_eye_arr"])
    assert np.array_equal(settings.bounds, values["v_min_max_for_clip"][:2])
    motion = values["ch_info"]["x_s_info_lst"][0]
    assert np.array_equal(settings.character.motion.pitch, motion["pitch"])
    assert np.array_equal(settings.character.motion.keypoints, motion["kp"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_settings_of_every_pickle_protocol_are_read(tmp_path, protocol):
    path = tmp_path / SETTINGS_FILE
    values = published_settings()
    values["default_kwargs"]["delta_eye_arr"] = np.asfortranarray(values["default_kwargs"]["delta_eye_arr"])
    path.write_bytes(pickle.dumps(values, protocol=protocol))
    assert np.array_equal(read_settings(path).blink, values["default_kwargs"]["delta_eye_arr"])


class Harm:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_settings_with_code_are_refused(tmp_path):
    path, target = tmp_path / SETTINGS_FILE, tmp_path / "made"
    values = published_settings()
    values["default_kwargs"]["emo"] = Harm(target)
    path.write_bytes(pickle.dumps(values))
    with pytest.raises(ValueError, match="holds no settings of Ditto"):
        read_settings(path)
    assert not target.exists()


@pytest.mark.parametrize(
    "content", [b"nothing", pickle.dumps({}), pickle.dumps([1]), pickle.dumps(published_settings())[:900]]
)
def test_settings_that_are_none_are_named(tmp_path, content):
    path = tmp_path / SETTINGS_FILE
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"Download .*{SETTINGS_FILE} again"):
        read_settings(path)


def test_settings_that_claim_huge_arrays_take_no_memory(tmp_path):
    path = tmp_path / SETTINGS_FILE
    values = published_settings()
    values["default_kwargs"]["emo"] = np.zeros((1, 8), dtype=np.float32)
    content = pickle.dumps(values, protocol=2)
    assert b"K\x01K\x08\x86" in content
    path.write_bytes(content.replace(b"K\x01K\x08\x86", b"J\xff\xff\xff\x7fK\x08\x86", 1))
    with pytest.raises(ValueError, match="holds no settings of Ditto"):
        read_settings(path)


def test_settings_with_numbers_that_are_none_are_named(tmp_path):
    path = tmp_path / SETTINGS_FILE
    values = published_settings()
    values["default_kwargs"]["v_min_max_for_clip"][0, 0] = np.nan
    path.write_bytes(pickle.dumps(values))
    with pytest.raises(ValueError, match="no rows of 265 numbers"):
        read_settings(path)
