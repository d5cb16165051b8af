"""Blocks that are made with one of several prompts, on a small random model."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.moods import NEUTRAL, Prompts
from avatar.engines.liveavatar.pipeline import generate
from avatar.engines.liveavatar.sampler import BlockSampler

from tests.unit.engines.liveavatar.test_pipeline import scene, vae
from tests.unit.engines.liveavatar.test_stages import shared
from tests.unit.tiny_s2v import CONFIG, condition, features, model, noise, sampler

MOODS = {"happy": noise(7, CONFIG.text_dim, seed=70), "sad": noise(3, CONFIG.text_dim, seed=71)}
OPTIONS = {"steps": 2, "frames_per_clip": 24}
VIDEO = SamplingConfig(steps=3, frames_per_clip=24)
FRAMES = 12 * 6 - 3


def run(moods: list[str], **options) -> list[torch.Tensor]:
    """A block for each mood, by one sampler."""
    made = sampler(moods=MOODS, **OPTIONS | options)
    return [made.next_block(features(block), mood=mood) for block, mood in enumerate(moods)]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]


def test_a_video_whose_mood_never_changes_is_bit_for_bit_that_without_moods():
    plain = sampler(**OPTIONS)
    assert all(equal(run([NEUTRAL] * 5), [plain.next_block(features(block)) for block in range(5)]))


@pytest.mark.parametrize("switch", [1, 3])
def test_a_switch_goes_on_from_the_caches_of_the_blocks_before_it(switch):
    moods = ["happy"] * switch + ["sad"] * (6 - switch)
    switched = run(moods)
    first, other = sampler(moods=MOODS, **OPTIONS), sampler(moods=MOODS, **OPTIONS)
    expected = [first.next_block(features(block), mood="happy") for block in range(switch)]
    other.restore({name: x.clone() for name, x in first.state().items()}, switch)
    expected += [other.next_block(features(block), mood="sad") for block in range(switch, 6)]
    assert all(equal(switched, expected))
    assert equal(switched, run(["happy"] * 6)) == [True] * switch + [False] * (6 - switch)


def test_a_mood_differs_from_its_prompt_as_the_videos_own_only_by_the_portraits_caches():
    given = {**condition(), "context": MOODS["happy"]}
    own, mood = BlockSampler(model(), SamplingConfig(**OPTIONS), **given), sampler(moods=MOODS, **OPTIONS)
    mood.caches = copy.deepcopy(own.caches)
    found = [one.next_block(features(), mood=name) for one, name in ((own, NEUTRAL), (mood, "happy"))]
    assert torch.equal(*found) and not torch.equal(found[0], run(["happy"])[0])


def test_each_prompt_is_prepared_once(monkeypatch):
    prepared, encode = [], type(model()).encode_text

    def counted(self, context):
        prepared.append(len(context))
        return encode(self, context)

    monkeypatch.setattr(type(model()), "encode_text", counted)
    run(["happy", "sad", "happy", NEUTRAL, "sad"])
    assert prepared == [5, 7, 3]


def test_a_mood_that_nobody_gave_is_refused_by_the_names_that_there_are():
    prompts = Prompts(model(), condition()["context"], MOODS, torch.device("cpu"))
    with pytest.raises(ValueError, match="Choose a mood of neutral, happy, sad: there is no angry"):
        prompts.of("angry")


def changing(block: int) -> str:
    return [NEUTRAL, "happy", "happy", "sad", NEUTRAL, "happy"][block]


def test_every_block_of_a_video_asks_once_and_several_devices_make_the_same_of_it():
    asked: list[int] = []

    def mood_of(block: int) -> str:
        asked.append(block)
        return changing(block)

    given = scene(moods=MOODS, mood_of=mood_of)
    alone = torch.cat(list(generate(model(), vae(), given, VIDEO, FRAMES)))
    assert asked == list(range(6))
    for counts in ((1, 2), (1, 1, 1)):
        assert torch.equal(torch.cat(list(shared(counts, VIDEO, given=given))), alone)
    calm = torch.cat(list(generate(model(), vae(), replace(given, mood_of=lambda _: NEUTRAL), VIDEO, FRAMES)))
    assert torch.equal(calm[:9], alone[:9]) and not torch.equal(calm[9:21], alone[9:21])
