"""Which part of the picture hears whom."""

from __future__ import annotations

import torch
from avatar.engines.liveavatar.speakers import claim_areas, dilate_areas, routing_masks

ROWS, COLUMNS, PATCH = 12, 20, 16


def picture(*boxes: tuple[int, int, int, int]) -> torch.Tensor:
    """Masks [speakers, 1, H, W] from boxes (top, bottom, left, right) in patches."""
    masks = torch.zeros(len(boxes), 1, ROWS * PATCH, COLUMNS * PATCH)
    for mask, (top, bottom, left, right) in zip(masks, boxes, strict=True):
        mask[:, top * PATCH : bottom * PATCH, left * PATCH : right * PATCH] = 1
    return masks


LEFT, RIGHT = (2, 10, 1, 7), (2, 10, 13, 19)


def test_everybody_is_heard_in_the_background_and_nobody_in_the_other_ones_face():
    first, second = routing_masks(picture(LEFT, RIGHT), ROWS, COLUMNS)[:, 0]
    assert first[5, 4] == 1 and second[5, 4] == 0
    assert first[5, 16] == 0 and second[5, 16] == 1
    assert first[5, 10] == second[5, 10] == 1
    assert torch.equal(first, second.flip(1))


def test_an_area_grows_by_a_tenth_of_its_extent_and_at_least_a_patch():
    _, second = routing_masks(picture(LEFT, RIGHT), ROWS, COLUMNS)[:, 0]
    silenced = (second == 0).nonzero()
    assert silenced.min(0).values.tolist() == [1, 0] and silenced.max(0).values.tolist() == [10, 7]
    large = torch.zeros(1, 1, 40, 30, dtype=torch.bool)
    large[:, :, :25, :10] = True
    assert dilate_areas(large)[0, 0].nonzero().max(0).values.tolist() == [24 + 3, 9 + 3]


def test_where_grown_areas_meet_nobody_is_heard():
    first, second = routing_masks(picture((2, 10, 1, 9), (2, 10, 10, 19)), ROWS, COLUMNS)[:, 0]
    assert first[5, 9] == second[5, 9] == 0


def test_a_patch_in_two_masks_belongs_to_the_later_speaker():
    areas = claim_areas(picture((2, 10, 1, 12), (2, 10, 8, 19)), ROWS, COLUMNS)[:, 0]
    assert not (areas[0] & areas[1]).any()
    assert areas[1, 5, 10] and not areas[0, 5, 10]


def test_grey_masks_count_wherever_they_are_not_black():
    masks = picture(LEFT, RIGHT)
    assert torch.equal(routing_masks(masks * 0.1, ROWS, COLUMNS), routing_masks(masks, ROWS, COLUMNS))


def test_one_speaker_is_heard_everywhere():
    assert (routing_masks(picture(LEFT), ROWS, COLUMNS) == 1).all()


def test_every_frame_is_routed_by_its_own_areas():
    moving = torch.cat((picture(LEFT, RIGHT), picture(RIGHT, LEFT)), 1)
    routed = routing_masks(moving, ROWS, COLUMNS)
    assert torch.equal(routed[0, 0], routed[1, 1]) and torch.equal(routed[1, 0], routed[0, 1])
    assert not torch.equal(routed[0, 0], routed[0, 1])


def test_who_has_left_the_picture_leaves_it_to_the_other():
    gone = torch.cat((picture(LEFT, RIGHT), picture(LEFT, (0, 0, 0, 0))), 1)
    routed = routing_masks(gone, ROWS, COLUMNS)
    assert (routed[0, 1] == 1).all()
    assert not routed[0, 0].all()
