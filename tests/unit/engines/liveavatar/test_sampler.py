"""Block-wise sampling on a small random model."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.liveavatar.costs import cache_shape
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.parts.wan.schedule import Schedule

from tests.unit.tiny_s2v import CONFIG, GRID, HEIGHT, WIDTH, condition, features, model, noise, sampler


def run(blocks: int, heard: int = 0, **options) -> list[torch.Tensor]:
    """The first blocks of a video; ``heard`` shifts what is said."""
    generated = sampler(**options)
    return [generated.next_block(features(heard + block)) for block in range(blocks)]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> list[bool]:
    return [torch.equal(a, b) for a, b in zip(one, other, strict=True)]


def tensor_bytes(value, seen: set[int]) -> int:
    """Bytes of all tensors that can be reached from an object, the model's weights left out."""
    if id(value) in seen or isinstance(value, torch.nn.Module):
        return 0
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        storage = value.untyped_storage()
        if storage.data_ptr() in seen:
            return 0
        seen.add(storage.data_ptr())
        return storage.nbytes()
    if isinstance(value, dict):
        return sum(tensor_bytes(item, seen) for item in value.values())
    if isinstance(value, (list, tuple, set)):
        return sum(tensor_bytes(item, seen) for item in value)
    return tensor_bytes(vars(value), seen) if hasattr(value, "__dict__") else 0


def test_a_seed_gives_the_same_video_bit_for_bit_and_another_seed_another_one():
    first = run(3, steps=2, seed=7)
    assert all(same(first, run(3, steps=2, seed=7)))
    assert not any(same(first, run(3, steps=2, seed=8)))


def test_every_clip_draws_its_own_noise_from_the_next_seed():
    one, other = sampler(seed=7, frames_per_clip=12), sampler(seed=8, frames_per_clip=12)
    assert torch.equal(one._noise(1, 0), other._noise(0, 0))
    assert not torch.equal(one._noise(0, 0), one._noise(1, 0))


def test_the_random_distance_of_the_sink_is_reproducible():
    options = {"steps": 2, "sink_distance": None, "frames_per_clip": 24}
    first = run(5, seed=1, **options)
    assert all(same(first, run(5, seed=1, **options)))
    assert not all(same(first, run(5, seed=1, steps=2, frames_per_clip=24, sink_distance=30)))
    drawing = sampler(seed=1, sink_distance=None)
    times = {drawing.reference_time(100, step) for step in range(500)}
    assert times == set(range(104, 131))


def test_memory_does_not_grow_over_forty_blocks():
    generated = sampler(steps=2, frames_per_clip=24)
    sizes = []
    for block in range(40):
        generated.next_block(features(block))
        sizes.append(tensor_bytes(generated, set()))
    shape = cache_shape(CONFIG, HEIGHT, WIDTH, generated.config)
    assert sizes[3] > 2 * shape.bytes(torch.float32)
    assert set(sizes[2:]) == {sizes[2]}  # the sink is replaced before block 2


def test_a_block_hears_its_own_sound_and_that_before_it_but_nothing_later():
    usual = run(4, steps=2)
    other = sampler(steps=2)
    changed = [other.next_block(features(99 if block == 2 else block)) for block in range(4)]
    assert same(usual, changed) == [True, True, False, False]


@pytest.mark.parametrize("forward", range(1, 8))
def test_an_interrupt_stops_before_the_next_forward(forward):
    class Stop(Exception):
        pass

    forwards, checks = [], []

    def check():
        checks.append(1)
        if len(checks) == 1 + forward:  # the first check is that of the condition
            raise Stop

    hook = model().register_forward_hook(lambda *_: forwards.append(1))
    try:
        interrupted = sampler(check, steps=3)
        with pytest.raises(Stop):
            for block in range(3):
                interrupted.next_block(features(block))
    finally:
        hook.remove()
    assert len(forwards) == forward - 1
    assert all(same(run(1, steps=3), run(1, steps=3)))


def test_an_interrupt_stops_before_the_condition_is_prefilled():
    def check():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sampler(check)


def test_a_full_ring_stays_full():
    generated = sampler(steps=1, frames_per_clip=36)
    visible = []
    for block in range(7):
        generated.next_block(features(block))
        visible.append(generated.caches[0].visible_tokens)
    tokens = GRID[0] * GRID[1]
    start = tokens * 5 // 2
    assert visible == [start + 3 * tokens, start + 6 * tokens] + [start + 9 * tokens] * 5


@pytest.mark.parametrize("block", [15_000, 1_000_000])
def test_the_duration_has_no_limit(block):
    generated = sampler(steps=1)
    generated.block_index = block  # latent frame 45000 is where the reference implementation ends
    latents = generated.next_block(features())
    assert generated.reference_time(3 * block, 0) == 3 * block + 30
    assert torch.isfinite(latents).all() and not torch.equal(latents, run(1, steps=1)[0])


@pytest.mark.parametrize("frames_per_clip", [12, 24, 48])
def test_the_sink_is_replaced_once_by_the_first_generated_frame(frames_per_clip):
    placed = []

    class Watched(BlockSampler):
        def set_condition(self, reference, motion):
            placed.append((self.block_index, reference, motion))
            super().set_condition(reference, motion)

    config = SamplingConfig(steps=1, frames_per_clip=frames_per_clip)
    given = condition()
    generated = Watched(model(), config, **given)
    first = generated.next_block(features(0))
    for block in range(1, 3 * config.clip_blocks + 1):
        generated.next_block(features(block))
    assert [index for index, _, _ in placed] == [0, config.clip_blocks]
    assert torch.equal(placed[0][1], given["reference"])
    assert torch.equal(placed[1][1], first[:, :, :1])
    assert placed[1][2] is given["motion"]


def test_the_sink_stays_the_portrait_on_request():
    options = {"steps": 1, "frames_per_clip": 24}
    replaced, kept = run(4, **options), run(4, **options, replace_sink=False)
    assert same(replaced, kept) == [True, True, False, False]


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
@pytest.mark.parametrize("frames_per_clip", [12, 36, 48, 96])
def test_any_number_of_steps_and_any_clip_length_work(steps, frames_per_clip):
    generated = sampler(steps=steps, frames_per_clip=frames_per_clip)
    assert len(generated.caches) == steps
    for block in range(5):
        latents = generated.next_block(features(block))
        assert latents.shape == (1, 16, 3, HEIGHT, WIDTH) and torch.isfinite(latents).all()


def test_portrait_history_and_prompt_all_count():
    usual = run(1, steps=1)[0]
    for name, tensor in condition(seed=50).items():
        generated = BlockSampler(model(), SamplingConfig(steps=1), **{**condition(), name: tensor})
        assert not torch.equal(generated.next_block(features()), usual), name


def test_only_the_last_nineteen_latents_of_the_history_count():
    given = condition()
    longer = torch.cat((noise(1, 16, 73, HEIGHT, WIDTH, seed=9), given["motion"]), 2)
    generated = BlockSampler(model(), SamplingConfig(steps=1), **{**given, "motion": longer})
    assert torch.equal(generated.next_block(features()), run(1, steps=1)[0])


def test_a_pose_moves_the_picture_and_an_empty_pose_is_none():
    plain = run(1, steps=1)[0]
    pose = noise(1, 16, 3, HEIGHT, WIDTH, seed=5)
    assert torch.equal(sampler(steps=1).next_block(features(), torch.zeros_like(pose)), plain)
    assert not torch.equal(sampler(steps=1).next_block(features(), pose), plain)


def test_a_speaker_who_is_heard_nowhere_changes_nothing():
    two = features(speakers=2)
    mask = torch.stack((torch.ones(3, *GRID), torch.zeros(3, *GRID)))
    alone = sampler(steps=2).next_block(two[:1])
    torch.testing.assert_close(sampler(steps=2).next_block(two, None, mask), alone, rtol=0, atol=1e-5)
    swapped = sampler(steps=2).next_block(two, None, mask.flip(0))
    torch.testing.assert_close(swapped, sampler(steps=2).next_block(two[1:]), rtol=0, atol=1e-5)


def flows(blocks: int, **options) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
    """(step, latents, flow) of every forward pass."""
    generated, found = sampler(**options), []
    predict = generated.predict

    def watched(inputs, latents, step):
        found.append((step, latents, predict(inputs, latents, step)))
        return found[-1][2]

    generated.predict = watched
    for block in range(blocks):
        generated.next_block(features(block))
    return found


@pytest.mark.parametrize("steps", [2, 3, 4])
def test_without_the_last_forward_the_earlier_ones_stay_bit_for_bit_the_same(steps):
    options = {"steps": steps, "frames_per_clip": 24, "sink_distance": None, "replace_sink": False}
    usual = [forward for forward in flows(5, **options) if forward[0] < steps - 1]
    shorter = flows(5, **options, skip_last_step=True)
    assert len(shorter) == 5 * (steps - 1)
    for (step, x, flow), (other_step, other_x, other_flow) in zip(usual, shorter, strict=True):
        assert step == other_step and torch.equal(x, other_x) and torch.equal(flow, other_flow)


def test_without_the_last_forward_the_step_before_it_goes_all_the_way():
    *_, (step, latents, flow) = flows(1, steps=4, skip_last_step=True)
    sigma = Schedule(4, 3.0).sigmas[2]
    found = sampler(steps=4, skip_last_step=True).next_block(features(0))
    assert step == 2 and torch.equal(found, latents - sigma * flow)
    usual = run(1, steps=4)[0]
    assert 0 < (found - usual).norm() / usual.norm() < 0.05


def sharing(parts: list[range], **options) -> list[BlockSampler]:
    """Samplers that have the steps of one video among them."""
    return [sampler(steps_done=part, **options) for part in parts]


def run_in_turn(stages: list[BlockSampler], blocks: range, ahead: int = 0) -> list[torch.Tensor]:
    """The latents of ``blocks``; every stage is up to ``ahead`` blocks in front of the next one."""
    waiting: list[dict[int, torch.Tensor | None]] = [dict.fromkeys(blocks), *({} for _ in stages)]
    while len(waiting[-1]) < len(blocks):
        for number, stage in reversed(list(enumerate(stages))):
            block = stage.block_index
            following = stages[number + 1].block_index if number + 1 < len(stages) else block
            if block not in waiting[number] or block - following > ahead:
                continue
            latents = stage.next_block(features(block), latents=waiting[number][block])
            waiting[number + 1][block] = latents
            if stage is stages[-1] and block == 0:
                for other in stages:
                    other.first_latent = stage.first_latent
    return [waiting[-1][block] for block in blocks]


@pytest.mark.parametrize(
    ("steps", "parts"),
    [
        (4, [range(0, 2), range(2, 4)]),
        (4, [range(0, 3), range(3, 4)]),
        (4, [range(0, 1), range(1, 2), range(2, 3), range(3, 4)]),
        (3, [range(0, 1), range(1, 3)]),
    ],
)
@pytest.mark.parametrize("distance", [30, None])
@pytest.mark.parametrize(("replace_sink", "ahead"), [(True, 0), (True, 1), (False, 2)])
def test_samplers_that_share_the_steps_give_what_one_gives(steps, parts, distance, replace_sink, ahead):
    options = {"steps": steps, "frames_per_clip": 48, "sink_distance": distance, "replace_sink": replace_sink}
    expected = run(10, **options)
    assert all(same(expected, run_in_turn(sharing(parts, **options), range(10), ahead)))


def test_their_states_are_together_that_of_one_sampler():
    options = {"steps": 3, "frames_per_clip": 24, "sink_distance": None}
    parts = [range(0, 1), range(1, 3)]
    alone = sampler(**options)
    expected = [alone.next_block(features(block)) for block in range(6)]
    stages = sharing(parts, **options)
    run_in_turn(stages, range(4))
    joined = {name: x.clone() for stage in stages for name, x in stage.state().items()}
    one, others = sampler(**options), sharing(parts, **options)
    for restored in (one, *others):
        restored.restore(joined, 4)
    assert set(joined) == set(one.state())
    assert all(same([one.next_block(features(block)) for block in (4, 5)], expected[4:]))
    assert all(same(run_in_turn(others, range(4, 6)), expected[4:]))


def test_a_sampler_of_later_steps_needs_what_the_others_have_made():
    later = sampler(steps=2, frames_per_clip=12, steps_done=range(1, 2))
    assert list(later.caches) == [1]
    with pytest.raises(ValueError, match="Step 1 needs the latents after step 0"):
        later.next_block(features())
    earlier = sampler(steps=2, frames_per_clip=12, steps_done=range(1))
    earlier.next_block(features())
    with pytest.raises(ValueError, match="needs the first latent frame"):
        earlier.next_block(features())


def test_several_speakers_without_masks_are_refused():
    with pytest.raises(ValueError, match="2 speakers need a mask each"):
        sampler().next_block(features(speakers=2))


def test_a_prompt_of_another_text_encoder_is_refused():
    with pytest.raises(ValueError, match=r"6 wide, the model expects 8.*UMT5-XXL"):
        BlockSampler(model(), SamplingConfig(), **{**condition(), "context": noise(5, 6)})


def test_half_precision_stays_close_to_single_precision():
    generated = BlockSampler(
        model(torch.bfloat16),
        SamplingConfig(steps=2),
        context=condition()["context"],
        reference=condition()["reference"].bfloat16(),
        motion=condition()["motion"].bfloat16(),
    )
    latents = generated.next_block(features())
    assert latents.dtype == torch.bfloat16
    exact = run(1, steps=2)[0]
    assert (latents.float() - exact).square().mean().sqrt() < 0.05 * exact.std()
