"""Dino-S with a tiny DINOv2 of random weights: the arithmetic is the same."""

from __future__ import annotations

import pytest
import torch
from avatar.evaluation.instruments import Instruments, Subject
from avatar.evaluation.measure import measure
from avatar.evaluation.readers.dino import Dino
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from tests.unit.evaluation.videos import clip_of, faces, regions


@pytest.fixture(scope="module")
def dino(tmp_path_factory) -> Dino:
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(0)
    config = Dinov2Config(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=224)
    Dinov2Model(config).save_pretrained(folder)
    return Dino(folder, torch.device("cpu"))


def scores(frames: torch.Tensor, dino: Dino) -> dict:
    subject = Subject(reference=faces(torch.zeros(1))[0], regions=regions())
    return {one.metric.name: one for one in measure(clip_of(frames), subject, Instruments(dino=dino)).scores}


def test_the_portrait_itself_is_like_the_portrait(dino):
    found = scores(faces(torch.zeros(60)), dino)
    assert found["Dino-S"].value == pytest.approx(1, abs=1e-5)
    assert found["face identity"].value == pytest.approx(1, abs=1e-5)
    assert found["Dino-S slope"].value == pytest.approx(0, abs=1e-4)


def test_a_face_that_changes_is_less_like_it_and_has_a_slope(dino):
    change = torch.linspace(0, 1, 60)[:, None, None, None]
    other = torch.randint(0, 255, (1, 64, 64, 3), generator=torch.Generator().manual_seed(5))
    frames = (faces(torch.zeros(60)) * (1 - change) + other * change).to(torch.uint8)
    found = scores(frames, dino)
    assert found["Dino-S"].value < 0.999
    assert found["Dino-S slope"].value < -0.02
    assert found["Dino-S slope"].verdict == "fail"


def test_vectors_are_those_of_the_models_own_preprocessing(dino):
    """Against the processor that transformers ships, on a picture that is not square."""
    processor = pytest.importorskip("transformers").BitImageProcessor(
        size={"shortest_edge": 256},
        crop_size={"height": 224, "width": 224},
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        resample=3,
    )
    smooth = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(2))
    picture = (torch.nn.functional.interpolate(smooth, (300, 500), mode="bicubic").clamp(0, 1) * 255).round()
    picture = picture[0].permute(1, 2, 0).to(torch.uint8)
    with torch.inference_mode():
        given = processor(picture.numpy(), return_tensors="pt").pixel_values
        expected = dino._model(pixel_values=given).last_hidden_state[:, 0]
    assert float(torch.cosine_similarity(dino.embed(picture[None]), expected)) > 0.9999


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="Download facebook/dinov2-base"):
        Dino(tmp_path, torch.device("cpu"))


def test_without_dino_the_score_is_skipped_by_name():
    subject = Subject(reference=faces(torch.zeros(1))[0])
    found = {one.metric.name: one for one in measure(clip_of(faces(torch.zeros(3))), subject).scores}
    assert found["Dino-S"].value is None
    assert "facebook/dinov2-base" in found["Dino-S"].skipped


def test_a_model_of_another_kind_is_refused(tmp_path):
    ViTModel(
        ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=16,
        )
    ).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="of the kind vit"):
        Dino(tmp_path, torch.device("cpu"))
