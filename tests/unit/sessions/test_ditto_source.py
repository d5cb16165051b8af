"""What becomes of pictures and videos on their way to Ditto, and what a person is told about them."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.parts.face.boxes import FaceNotFoundError
from avatar.media.driving import DrivingVideo, open_driving
from avatar.sessions.ditto_source import prepare_source

from .ditto_models import image, prepared, tiny


def said(images, **options):
    """What a person is told of a picture."""
    texts = []
    prepared(images, say=texts.append, **options)
    (text,) = texts
    return text


def size(source):
    return tuple(source.pictures[0][0].shape[:2])


def test_a_portrait_keeps_its_size_and_shows_the_square_of_the_face():
    source, square = prepared(image(300, 300, (150, 150, 30)))
    assert source.still and size(source) == (300, 300)
    assert square.shape == (512, 512, 3) and square.max() <= 1
    skin, sky = square[300, 256], square[60, 256]
    assert skin[0] > skin[2] and sky[0] < sky[2]


@pytest.mark.parametrize(
    ("given", "made"), [((64, 64), (64, 64)), ((201, 301), (200, 300)), ((1200, 8000), (288, 1920))]
)
def test_pictures_of_any_size_become_even_and_at_most_so_long(given, made):
    assert size(prepared(image(*given))[0]) == made


def test_a_picture_that_is_hardly_one_is_refused():
    with pytest.raises(
        ValueError, match="Use a larger picture: of 4000x20 pixels a video of 1920x10 is left"
    ):
        prepared(torch.zeros(1, 20, 4000, 3))


def test_nobody_in_the_picture_is_told_with_what_helps():
    with pytest.raises(FaceNotFoundError, match="No face was found in the picture; choose a photograph"):
        prepared(torch.zeros(1, 200, 300, 3))


def test_of_two_people_the_chosen_one_speaks_and_it_is_told():
    two = image(300, 600, (150, 150, 50), (450, 150, 50))
    for who, left in (("leftmost", True), ("rightmost", False)):
        assert (prepared(two, who=who)[0].paste.box[1] < 200) == left
    assert "2 faces were found; the leftmost one is taken." in said(two, who="leftmost")


def test_a_small_face_is_told_and_a_tiny_one_refused():
    assert "The face is only 64 pixels wide, and will look soft." in said(image(128, 128))
    assert "soft" not in said(image(600, 600))
    mask = torch.zeros(1, 200, 300)
    mask[0, 100:106, 100:106] = 1
    with pytest.raises(
        ValueError, match="in which the face is larger: it is 6 pixels wide, and 16 are needed"
    ):
        prepared(image(), face=mask)


def test_a_painted_face_needs_no_finder():
    drawn = torch.zeros(1, 400, 600, 3)
    mask = torch.zeros(1, 400, 600)
    mask[0, 100:200, 400:500] = 1
    source, _ = prepared(drawn, face=mask, longest=300)
    top, left, bottom, right = source.paste.box
    assert size(source) == (200, 300)
    assert top < 75 < bottom and left < 225 < right and right - left < 220


def test_a_mask_of_another_picture_or_an_empty_one_is_refused():
    with pytest.raises(ValueError, match="the mask is 64x32, the picture 300x200"):
        prepared(image(), face=torch.ones(1, 32, 64))
    with pytest.raises(ValueError, match="Paint over the face, or disconnect the face mask"):
        prepared(image(), face=torch.zeros(1, 200, 300))


def test_a_turned_head_is_told(monkeypatch):
    engine = tiny().engine
    heads = engine.read_motion

    def turned(pixels):
        found = heads(pixels)
        bins = torch.arange(66.0)[None]
        return found | {"yaw": -((bins - 50) ** 2)}  # 52.5 degrees

    monkeypatch.setattr(engine, "read_motion", turned)
    assert "The head is turned by 53 degrees" in said(image())


def moving(frames, step=4):
    return torch.cat([image(200, 300, (120 + step * i, 100, 40)) for i in range(frames)])


def test_several_pictures_are_a_source_video_whose_face_is_followed():
    source, _ = prepared(moving(6))
    assert len(source.pictures) == 6
    assert "6 frames of source video" in said(moving(6))


@pytest.mark.parametrize(("fps", "frames"), [(50, 2), (25, 4), (12.5, 8), (240, 1)])
def test_a_source_video_is_brought_to_25_frames_a_second(fps, frames):
    assert len(prepared(moving(4), fps)[0].pictures) == frames


def test_a_source_video_ends_where_it_is_told_to():
    assert len(prepared(moving(6), max_frames=3)[0].pictures) == 3


def test_a_source_video_that_loses_its_face_names_the_frame():
    images = moving(5)
    images[3:] = image(200, 300, (20, 20, 1))[0]
    with pytest.raises(
        FaceNotFoundError, match=r"in frame 3 of the source video; set max_frames to 3 or less"
    ):
        prepared(images)


def test_an_interrupt_stops_within_a_frame():
    class Stop(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    with pytest.raises(Stop):
        prepared(moving(6), check_interrupt=check)


def test_a_source_stream_that_pushes_the_networks_out_has_them_brought_back(monkeypatch):
    ditto, video = tiny(), open_driving(moving(10), 25)
    where, brought = ["GPU"], []

    def blocks():
        for block in video.blocks():
            where[0] = "CPU"  # the stream's own models need the room
            yield block

    def load(*size):
        where[0] = "GPU"
        brought.append(size)
        return ditto.engine

    def look(squares):
        assert where == ["GPU"]
        return seen(squares)

    seen = ditto.engine.look
    monkeypatch.setattr(ditto, "load", load)
    monkeypatch.setattr(ditto, "place", lambda: where[0])
    monkeypatch.setattr(ditto.engine, "look", look)
    source, _ = prepare_source(ditto, DrivingVideo(blocks, 25, None), who="largest")
    assert len(source.pictures) == 10
    assert brought == [(200, 300)] * 2  # at first, and behind the second block
