"""SyncNet's scores on vectors whose shift is known, and its network with weights of the published layout."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.parts.face.boxes import Box
from avatar.evaluation.instruments import Instruments, Subject
from avatar.evaluation.measure import measure
from avatar.evaluation.metrics.syncnet import mean_distances, sync_of
from avatar.evaluation.readers.syncnet import crop
from avatar.evaluation.readers.syncnet_network import SyncNet, load_syncnet

from tests.unit.evaluation.videos import clip_of, faces, regions, syllables, voice


def test_a_shift_of_the_vectors_is_found():
    sound = torch.randn(120, 16, generator=torch.Generator().manual_seed(1))
    for late in (-7, 0, 4):
        found = sync_of(sound.roll(late, 0), sound)
        assert found.offset == late
        assert found.confidence > 1
    assert sync_of(torch.randn(120, 16), sound).confidence < 0.7


def test_distances_are_those_of_every_pair():
    lips, sound = torch.randn(2, 40, 8)
    found = mean_distances(lips, sound, 2)
    padded = torch.cat([torch.zeros(2, 8), sound, torch.zeros(2, 8)])
    for place in range(5):
        each = [float((lips[i] - padded[i + place] + 1e-6).norm()) for i in range(40)]
        assert float(found[place]) == pytest.approx(sum(each) / 40, rel=1e-5)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("syncnet") / "syncnet_v2.model"
    torch.save(SyncNet().state_dict(), path)
    return path


def test_the_layout_is_the_published_one(weights):
    state = torch.load(weights, weights_only=True)
    assert state["netcnnaud.18.weight"].shape == (512, 256, 5, 4)
    assert state["netcnnlip.0.weight"].shape == (96, 3, 5, 7, 7)
    assert state["netcnnlip.18.weight"].shape == (512, 256, 1, 6, 6)
    assert state["netfcaud.3.weight"].shape == state["netfclip.3.weight"].shape == (1024, 512)
    with torch.inference_mode():
        network = load_syncnet(weights)
        assert network.sound(torch.zeros(2, 1, 13, 20)).shape == (2, 1024)
        assert network.lips(torch.zeros(1, 3, 5, 224, 224)).shape == (1, 1024)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="Download syncnet_v2"):
        load_syncnet(tmp_path / "nothing")
    other = tmp_path / "other"
    torch.save({"a": torch.zeros(1)}, other)
    with pytest.raises(ValueError, match="holds no weights of SyncNet"):
        load_syncnet(other)
    torch.save(torch.nn.Linear(1, 1), other)  # a pickle with code
    with pytest.raises(ValueError, match="holds no weights of SyncNet"):
        load_syncnet(other)


def test_a_video_goes_through_the_network(weights):
    level = syllables(1.6, 1)
    tools = Instruments(syncnet=load_syncnet(weights))
    found = measure(clip_of(faces(level), voice(level)), Subject(regions=regions()), tools)
    lips, sound = found.seen.tracks["syncnet lips"], found.seen.tracks["syncnet sound"]
    assert len(lips) == len(sound) == 40 - 4
    assert {one.metric.name for one in found.scores if one.value is not None} >= {"Sync-C", "Sync-D"}
    other = measure(clip_of(faces(level), voice(level, 30), 30), Subject(regions=regions()), tools)
    reasons = {one.metric.name: one.skipped for one in other.scores}
    assert "25 frames a second" in reasons["Sync-C"]


def test_the_crop_is_a_larger_square_and_grey_beyond_the_frame():
    frames = torch.zeros(1, 100, 100, 3, dtype=torch.uint8)
    frames[..., 0] = 200
    found = crop(frames, Box(0, 0, 50, 50))
    assert found.shape == (1, 3, 224, 224)
    assert found[0, :, 5, 5].tolist() == [110, 110, 110]
    assert found[0, :, 150, 150].tolist() == [0, 0, 200]  # blue, green, red
