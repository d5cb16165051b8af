"""From a scene to video frames, on small random models."""

from __future__ import annotations

import copy
import functools
from itertools import islice

import pytest
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.pipeline import Scene, block_count, generate
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.wan.vae import WanVAE
from diffusers import AutoencoderKLWan

from tests.unit.tiny_s2v import HEIGHT, WIDTH, condition, model, noise, track

SIZE = (8 * HEIGHT, 8 * WIDTH)
QUICK = SamplingConfig(steps=1, frames_per_clip=24)
AHEAD = Performance(ahead=True)


@functools.lru_cache
def vae(width: int = 2) -> WanVAE:
    torch.manual_seed(0)
    return WanVAE(AutoencoderKLWan(base_dim=width).eval().requires_grad_(False))


def scene(speakers: int = 1, **parts) -> Scene:
    tracks = [track(5, seed) for seed in range(speakers)]
    return Scene(**{**condition(), "speech": Tracks(tracks), **parts})


def video(
    scene: Scene, frames: int, config: SamplingConfig = QUICK, performance: Performance = RESIDENT
) -> torch.Tensor:
    return torch.cat(list(generate(model(), vae(), scene, config, frames, performance=performance)))


def halves() -> torch.Tensor:
    """Masks of two speakers [2, 1, H, W]: left and right."""
    masks = torch.zeros(2, 1, *SIZE)
    masks[0, ..., : SIZE[1] // 4] = 1
    masks[1, ..., -SIZE[1] // 4 :] = 1
    return masks


def test_nine_frames_come_first_and_twelve_with_every_block_after():
    blocks = list(generate(model(), vae(8), scene(), QUICK, 30))
    assert [tuple(block.shape) for block in blocks] == [(9, *SIZE, 3), (12, *SIZE, 3), (12, *SIZE, 3)]
    assert {block.dtype for block in blocks} == {torch.uint8}
    assert all(block.float().std() > 1 for block in blocks)


@pytest.mark.parametrize(
    ("frames", "blocks"), [(1, 1), (9, 1), (10, 2), (21, 2), (22, 3), (45, 4), (90_000, 7501)]
)
def test_the_blocks_cover_the_wanted_frames_and_no_more_than_needed(frames, blocks):
    assert block_count(frames) == blocks
    assert 9 + 12 * (blocks - 1) >= frames > 9 + 12 * (blocks - 2)


def test_a_longer_video_begins_like_a_shorter_one():
    assert torch.equal(video(scene(), 30)[:21], video(scene(), 21))


def test_blocks_are_made_when_they_are_asked_for():
    forwards = []
    hook = model().register_forward_hook(lambda *_: forwards.append(1))
    try:
        stream = generate(model(), vae(), scene(), QUICK, 90_000)
        assert forwards == []
        next(stream)
        assert len(forwards) == 1
        list(islice(stream, 2))
        assert len(forwards) == 3
    finally:
        hook.remove()


def test_ahead_a_block_is_shown_once_the_next_one_has_had_its_first_step():
    two = SamplingConfig(steps=2, frames_per_clip=24)
    forwards, seen = [], []
    hook = model().register_forward_hook(lambda *_: forwards.append(1))
    try:
        found = []
        for block in generate(model(), vae(), scene(), two, 45, performance=AHEAD):
            found.append(block)
            seen.append(len(forwards))
    finally:
        hook.remove()
    assert seen == [2, 5, 7, 8]  # the first and the last frames wait for nothing
    assert torch.equal(torch.cat(found), video(scene(), 45, two))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_ahead_on_a_gpu_the_frames_are_the_same():
    device = torch.device("cuda")
    transformer = copy.deepcopy(model()).to(device)
    torch.manual_seed(0)
    large = WanVAE(
        AutoencoderKLWan(base_dim=32).eval().requires_grad_(False).to(device)
    )  # slower than a step
    parts = {name: value.to(device) for name, value in condition().items()}
    made = [
        torch.cat(list(generate(transformer, large, scene(**parts), QUICK, 150, performance=performance)))
        for performance in (RESIDENT, AHEAD)
    ]
    assert torch.equal(*made)


@pytest.mark.parametrize(("check", "done"), [(3, 1), (4, 2), (5, 2)])
@pytest.mark.parametrize("error", [InterruptedError, KeyboardInterrupt])
def test_ahead_an_interrupt_comes_after_the_frames_that_are_done(check, done, error):
    checks, found = [], []

    def interrupt():
        checks.append(1)
        if len(checks) == check:
            raise error

    with pytest.raises(error):
        for block in generate(model(), vae(), scene(), QUICK, 90, interrupt, performance=AHEAD):
            found.append(block)
    # The first call comes before the condition is prefilled, the fourth one before it is replaced.
    assert torch.equal(torch.cat(found), video(scene(), 90)[: 9 + 12 * (done - 1)])


class Failing(Tracks):
    """Speech that cannot be read to its end."""

    def blocks(self, first=0, after_encoding=lambda: None):
        yield from islice(super().blocks(first), 3)
        raise OSError("gone")


def test_ahead_frames_are_shown_before_speech_fails():
    found = []
    with pytest.raises(OSError, match="gone"):
        for block in generate(
            model(), vae(), scene(speech=Failing([track(5)])), QUICK, 90, performance=AHEAD
        ):
            found.append(block)
    assert torch.equal(torch.cat(found), video(scene(), 33))


def test_an_interrupt_ends_the_stream_and_another_one_starts_afresh():
    checks = []

    def check():
        checks.append(1)
        if len(checks) == 3:
            raise InterruptedError

    stream = generate(model(), vae(), scene(), QUICK, 30, check)
    first = next(stream)
    with pytest.raises(InterruptedError):
        next(stream)
    assert torch.equal(next(generate(model(), vae(), scene(), QUICK, 30)), first)


def test_two_streams_do_not_disturb_each_other():
    alone = video(scene(), 21)
    one, other = (generate(model(), vae(), scene(), QUICK, 21) for _ in range(2))
    mixed = [block for pair in zip(one, other, strict=True) for block in pair]
    assert torch.equal(torch.cat(mixed[::2]), alone) and torch.equal(torch.cat(mixed[1::2]), alone)


def test_speech_that_ends_early_leaves_the_rest_without_features():
    short = scene(speech=Tracks([track(5)[:, :14]]))  # 12 frames
    silent = track(5)
    silent[:, 14:] = 0
    assert torch.equal(video(short, 21), video(scene(speech=Tracks([silent])), 21))


def test_the_last_pose_is_held_to_the_end():
    pose = noise(1, 16, 3, HEIGHT, WIDTH, seed=3)
    posed = video(scene(pose=pose), 21)
    held = torch.cat((pose, pose[:, :, -1:].expand(-1, -1, 3, -1, -1)), 2)
    assert torch.equal(posed, video(scene(pose=held), 21))
    assert not torch.equal(posed, video(scene(), 21))


def test_a_single_mask_holds_for_the_whole_video():
    assert torch.equal(
        video(scene(2, masks=halves()), 21),
        video(scene(2, masks=halves().repeat(1, 21, 1, 1)), 21),
    )


def test_speakers_who_change_places_are_followed():
    placed = video(scene(2, masks=halves()), 21)
    masks = halves().repeat(1, 21, 1, 1)
    masks[:, 9:] = masks[:, 9:].flip(0)
    changed = video(scene(2, masks=masks), 21)
    assert torch.equal(changed[:9], placed[:9]) and not torch.equal(changed[9:], placed[9:])


def test_several_speakers_without_masks_are_refused():
    with pytest.raises(ValueError, match="mask each"):
        video(scene(2), 9)


class Ending(Tracks):
    """Live speech: it ends after two blocks, and must be told when nobody listens any more."""

    closed = 0

    def blocks(self, first=0, after_encoding=lambda: None):
        try:
            for features in islice(super().blocks(first), 2):
                after_encoding()
                yield features
        finally:
            Ending.closed += 1


def test_without_a_known_length_the_video_ends_with_the_speech():
    called, heard, closed = [], [], Ending.closed
    speech = Ending([track(5)])
    stream = generate(
        model(),
        vae(),
        scene(speech=speech),
        QUICK,
        None,
        after_encoding=lambda: called.append(1),
        performance=AHEAD,
    )
    found = []
    for block in stream:
        found.append(block)
        heard.append(len(called))
    assert torch.equal(torch.cat(found), video(scene(), 21))
    assert heard == [1, 2] and Ending.closed == closed + 1  # no block waits for speech that comes after it


def test_speech_is_closed_when_the_video_is_abandoned():
    before = Ending.closed
    stream = generate(model(), vae(), scene(speech=Ending([track(5)])), QUICK, None)
    next(stream)
    assert Ending.closed == before
    stream.close()
    assert Ending.closed == before + 1


class Interrupted(Tracks):
    """Live speech of a few blocks; speech arrives in the place of block ``silent``, while its steps are done."""

    def __init__(self, tracks, silent, after):
        super().__init__(tracks)
        vars(self).update(silent=silent, after=after, asked=0, void=False)

    def blocks(self, first=0, after_encoding=lambda: None):
        for number, features in enumerate(islice(super().blocks(first), 5)):
            if number == self.silent:
                yield torch.zeros_like(features)
            vars(self).update(now=number)
            yield features

    def take_back(self, wait):
        wait()
        vars(self).update(asked=self.asked + 1)
        return self.asked == self.after


@pytest.mark.parametrize(
    "performance",
    [RESIDENT, Performance(caches=CacheFormat.INT8), Performance(caches_on_cpu=True)],
    ids=["resident", "8 bits", "on the CPU"],
)
@pytest.mark.parametrize("silent", [0, 2, 4])
def test_a_block_whose_silence_was_taken_back_is_as_if_its_speech_had_been_there_before(silent, performance):
    """Also after the window is full, and where the second clip's condition replaces the first one's."""
    three = SamplingConfig(steps=3, frames_per_clip=24)
    kept = torch.cat(list(generate(model(), vae(), scene(), three, 9 + 4 * 12, performance=performance)))
    # Two of three steps are asked about in each block: the last one is done then.
    speech = Interrupted([track(5)], silent, after=2 * silent + 2)
    found = list(generate(model(), vae(), scene(speech=speech), three, None, performance=performance))
    assert [len(block) for block in found] == [9, 12, 12, 12, 12]
    assert torch.equal(torch.cat(found), kept)
    assert speech.asked == 2 * 5 + 2
