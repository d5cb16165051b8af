"""FID by torch-fidelity: nothing between a folder and itself, more the less it is alike. Its network here is one of
the published file's layout with drawn weights."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from avatar.evaluation.frechet import frechet
from torch import nn

from tests.unit.evaluation.videos import faces, syllables, write_video

SECONDS = 3


@pytest.fixture(scope="module")
def inception(tmp_path_factory) -> Path:
    pytest.importorskip("torch_fidelity")
    from torch_fidelity import feature_extractor_inceptionv3 as theirs

    with pytest.MonkeyPatch.context() as patch:  # their network begins with a download
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = theirs.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    torch.manual_seed(1)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    """One video each. Without trained weights darker is the one thing that surely is further away."""
    folder, level = tmp_path_factory.mktemp("videos"), syllables(SECONDS, 1)
    return {
        name: write_video(folder / f"{name}.mp4", faces(level, brightness=brightness))
        for name, brightness in (("bright", 200.0), ("darker", 185.0), ("dark", 145.0))
    }


def test_a_folder_is_itself_and_what_is_less_alike_is_further_away(inception, videos, monkeypatch):
    import torch_fidelity

    # Its first features: 64 have a root of their covariance in no time, 2048 take minutes.
    quick = functools.partial(torch_fidelity.calculate_metrics, feature_layer_fid="64")
    monkeypatch.setattr(torch_fidelity, "calculate_metrics", quick)
    same, darker, dark = (frechet([videos["bright"]], [other], inception)["FID"] for other in videos.values())
    assert abs(same) < 1e-3 * darker
    assert 0 < 4 * darker < dark


def test_a_second_of_a_video_is_one_picture(inception, videos, monkeypatch):
    import torch_fidelity

    seen = []

    def count(input1: str, input2: str, **_) -> dict[str, float]:
        seen.extend(len(list(Path(folder).iterdir())) for folder in (input1, input2))
        return {"frechet_inception_distance": 0.0}

    monkeypatch.setattr(torch_fidelity, "calculate_metrics", count)
    frechet([videos["bright"], videos["dark"]], [videos["dark"]], inception)
    assert seen == [2 * SECONDS, SECONDS]


def test_a_file_that_would_run_code_is_refused(inception, videos, tmp_path):
    torch.save({"weights": Path("x")}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"Download .*other\.pth again"):
        frechet([videos["dark"]], [videos["dark"]], tmp_path / "other.pth")


def test_without_weights_nothing_takes_their_place(videos, tmp_path):
    pytest.importorskip("torch_fidelity")
    told = frechet([videos["dark"]], [videos["dark"]], tmp_path / "none.pth")
    assert told["FID"].startswith("skipped: give --inception")
