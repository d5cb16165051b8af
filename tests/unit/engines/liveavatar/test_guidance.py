"""Guidance for the model without a LoRA: two evaluations of a step, each with a past of its own."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.costs import Model, VideoCosts
from avatar.engines.liveavatar.guidance import GuidedSampler
from avatar.engines.liveavatar.pipeline import Scene, generate
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.state import GenerationState
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.wan.vae import WanVAE
from diffusers import AutoencoderKLWan

from tests.unit.tiny_s2v import CONFIG, condition, features, model, noise, track

NEGATIVE = noise(4, CONFIG.text_dim, seed=50)
OPTIONS = {"steps": 3, "frames_per_clip": 24, "guidance": 4.0}


def guided(performance: Performance = RESIDENT, check=lambda: None, **options) -> GuidedSampler:
    config = SamplingConfig(**{**OPTIONS, **options})
    return GuidedSampler(
        model(), config, negative=NEGATIVE, **condition(), performance=performance, check_interrupt=check
    )


def blocks(sampler: BlockSampler, count: int = 4) -> list[torch.Tensor]:
    return [sampler.next_block(features(block)) for block in range(count)]


def test_each_step_goes_further_from_the_negative_prompt_in_silence():
    """The same by hand: two plain samplers that are shown the same latents."""
    plain = SamplingConfig(**{**OPTIONS, "guidance": 1.0})
    given = condition()
    wanted = BlockSampler(model(), plain, **given)
    unwanted = BlockSampler(model(), plain, **{**given, "context": NEGATIVE})
    first = given["reference"]
    for number, expected in enumerate(blocks(guided(), 4)):
        clip, position = divmod(number, plain.clip_blocks)
        if number == 2:
            for one in (wanted, unwanted):
                one.set_condition(first, one.motion)
        latents = wanted._noise(clip, position)
        inputs = wanted.prepare_block(features(number)), unwanted.prepare_block(0 * features(number))
        for step in range(plain.steps):
            with_it, without = (
                wanted.predict(inputs[0], latents, step),
                unwanted.predict(inputs[1], latents, step),
            )
            latents = wanted.schedule.step(latents, without + 4.0 * (with_it - without), step)
        if number == 0:
            first = latents[:, :, :1]
        wanted.block_index = unwanted.block_index = number + 1
        torch.testing.assert_close(latents, expected, rtol=1e-4, atol=1e-4)


def test_negative_prompt_and_guidance_count():
    usual = blocks(guided(), 1)
    other = GuidedSampler(model(), SamplingConfig(**OPTIONS), negative=NEGATIVE + 1, **condition())
    assert not torch.equal(usual[0], blocks(other, 1)[0])
    assert not torch.equal(usual[0], blocks(guided(guidance=2.0), 1)[0])


@pytest.mark.parametrize(
    "performance", [Performance(caches_on_cpu=3), Performance(caches_on_cpu=1)], ids=["all", "one"]
)
def test_caches_in_cpu_memory_give_the_same_video(performance):
    assert all(map(torch.equal, blocks(guided()), blocks(guided(performance))))


def test_caches_that_move_when_memory_runs_out_give_the_same_video():
    moved, usual = guided(), blocks(guided())
    made = blocks(moved, 2)
    moved.move_caches_to_cpu(CacheFormat.MODEL)
    assert moved.caches_on_cpu
    made += [moved.next_block(features(block)) for block in (2, 3)]
    assert all(map(torch.equal, usual, made))


def test_a_block_that_is_begun_again_is_the_one_that_it_would_have_been():
    again, usual = guided(), blocks(guided())
    made = blocks(again, 2)
    steps = again.denoise(features(99))
    next(steps)
    next(steps)
    again.begin_again()
    made += [again.next_block(features(block)) for block in (2, 3)]
    assert all(map(torch.equal, usual, made))


def test_an_interrupt_stops_between_the_two_evaluations():
    class Stop(Exception):
        pass

    calls, forwards = [], []

    def check():
        calls.append(1)
        if len(calls) == 4:  # both prefills, and the first evaluation
            raise Stop

    hook = model().register_forward_hook(lambda *_: forwards.append(1))
    try:
        with pytest.raises(Stop):
            blocks(guided(check=check), 1)
    finally:
        hook.remove()
    assert len(forwards) == 1


def scene() -> Scene:
    return Scene(**condition(), speech=Tracks([track(3.0)]), negative=NEGATIVE)


def test_a_guided_video_is_gone_on_with_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    vae = WanVAE(AutoencoderKLWan(base_dim=4).eval().requires_grad_(False))
    config, saved = SamplingConfig(**OPTIONS), tmp_path / "state.safetensors"
    with torch.inference_mode():
        whole = torch.cat(list(generate(model(), vae, scene(), config, 57)))
        state = GenerationState(fingerprint="mine")
        passing = generate(model(), vae, scene(), config, 57, state=state)
        list(islice(passing, 3))
        state.save(saved)
        passing.close()
        later = GenerationState(saved, "mine")
        assert later.first_frame == 33
        rest = torch.cat(list(generate(model(), vae, scene(), config, 57, state=later)))
    assert torch.equal(rest, whole[33:])


def test_the_plan_knows_of_twice_the_caches():
    known = Model(CONFIG, 10**6, torch.bfloat16)
    one, two = (VideoCosts(known, 64, 64, SamplingConfig(steps=20, guidance=g)) for g in (1.0, 4.5))
    for performance in (RESIDENT, Performance(caches=CacheFormat.INT8, caches_on_cpu=4)):
        assert two.caches(performance) == tuple(2 * size for size in one.caches(performance))


def test_guidance_below_one_is_refused():
    with pytest.raises(ValueError, match="Set guidance"):
        SamplingConfig(guidance=0.5)
