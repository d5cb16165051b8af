"""A stream with another background: block by block, from any frame, and with a name of its own."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from avatar.media.frames import AvatarStream, Resumable
from avatar.sessions.background import with_background

import tools.pack  # noqa: F401

RED = torch.tensor([1.0, 0.0, 0.0])
MASKS = torch.linspace(0, 1, 10).view(10, 1, 1).expand(10, 8, 8)


def stream(resumable: bool = True) -> AvatarStream:
    def start(state=None):
        frames = torch.full((10, 8, 8, 3), 100, dtype=torch.uint8)
        yield from frames[0 if state is None else state.first_frame :].split(4)

    about = Resumable(fingerprint=lambda: "video", state=lambda *_: None, about={"steps": 4})
    return AvatarStream(
        start, frames=10, width=8, height=8, resumable=about if resumable else None, plan="4 steps"
    )


def test_every_frame_has_its_mask_also_when_a_pass_begins_later():
    whole = torch.cat(list(with_background(stream(), RED, MASKS, None).blocks()))
    assert whole[0, 0, 0].tolist() == [255, 0, 0] and whole[9, 0, 0].tolist() == [100, 100, 100]
    later = with_background(stream(), RED, MASKS, None).blocks(SimpleNamespace(first_frame=6))
    assert torch.equal(torch.cat(list(later)), whole[6:])


def test_the_line_about_how_the_video_is_made_goes_along():
    assert with_background(stream(), RED, MASKS, None).plan == "4 steps"


def test_blocks_come_as_they_are_asked_for_and_an_abandoned_pass_closes_its_source():
    closed = []

    def start():
        try:
            while True:
                yield torch.zeros(4, 8, 8, 3, dtype=torch.uint8)
        finally:
            closed.append(1)

    endless = AvatarStream(start, frames=10**9, width=8, height=8)
    blocks = with_background(endless, RED, MASKS, None).blocks()
    next(blocks)
    blocks.close()
    assert closed == [1]


def test_it_is_gone_on_with_only_over_the_same_ground():
    other = torch.tensor([0.0, 0.0, 1.0])
    made = [
        with_background(stream(), ground, masks, None)
        for ground, masks in ((RED, MASKS), (RED, MASKS), (other, MASKS), (RED, MASKS[:1]))
    ]
    prints = [one.resumable.fingerprint() for one in made]
    assert prints[0] == prints[1] and len(set(prints)) == 3 and "video" not in prints
    assert made[0].resumable.about == {"steps": 4}
    assert with_background(stream(resumable=False), RED, MASKS, None).resumable is None


def test_a_model_tells_videos_apart_by_its_weights():
    def remover(value: float) -> SimpleNamespace:
        model = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(model.weight, value)
        torch.nn.init.zeros_(model.bias)
        return SimpleNamespace(model=model, encode_image=lambda picture: picture[..., 0] * 0 + value)

    prints = {
        with_background(stream(), RED, None, remover(value)).resumable.fingerprint() for value in (0, 1, 0)
    }
    assert len(prints) == 2
    shown = torch.cat(list(with_background(stream(), RED, None, remover(0)).blocks()))
    assert (shown == torch.tensor([255, 0, 0])).all()


@pytest.mark.parametrize("given", [(None, None), (MASKS, object())])
def test_a_mask_or_a_model_is_needed_and_not_both(given):
    with pytest.raises(ValueError, match="Connect a mask or a background removal model, and not both"):
        with_background(stream(), RED, *given)
