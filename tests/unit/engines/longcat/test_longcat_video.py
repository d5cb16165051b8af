"""LongCat videos of any length, on small random networks."""

from __future__ import annotations

import functools
from dataclasses import replace
from itertools import islice

import pytest
import torch
from avatar.engines.longcat.config import SamplingConfig
from avatar.engines.longcat.layout import Layout
from avatar.engines.longcat.pipeline import Scene, Segments, generate
from avatar.engines.longcat.speech import KnownFeatures
from avatar.engines.longcat.state import SegmentState
from avatar.engines.parts.wan.vae import WanVAE
from diffusers import AutoencoderKLWan

from tools.tiny_longcat import TINY, transformer

CPU = torch.device("cpu")
HEIGHT, WIDTH = 32, 48
SMALL = SamplingConfig(steps=2, distilled=False, frames=21, overlap=5, reference_position=3, skip_range=1)


@functools.lru_cache
def model(version="1.5"):
    return transformer(TINY[version])


@functools.lru_cache
def vae():
    torch.manual_seed(0)
    return WanVAE(AutoencoderKLWan(base_dim=4).eval().requires_grad_(False))


def features(version="1.5", voices=1, count=100):
    config = TINY[version]
    torch.manual_seed(1)
    return KnownFeatures(torch.randn(voices, count, config.audio_block, config.audio_channel))


def scene(version="1.5", voices=1, **parts):
    torch.manual_seed(2)
    prompt = torch.zeros(16, TINY[version].caption_channels)
    prompt[:5].normal_()
    given = {
        "prompt": prompt,
        "speech": features(version, voices),
        "height": HEIGHT,
        "width": WIDTH,
        "negative": torch.zeros_like(prompt),
        "picture": torch.randn(1, 16, 1, HEIGHT // 8, WIDTH // 8),
    }
    return Scene(**(given | parts))


def halves():
    masks = torch.zeros(3, HEIGHT, WIDTH)
    masks[0, :, : WIDTH // 3] = 1
    masks[1, :, -WIDTH // 3 :] = 1
    masks[2] = 1 - masks[:2].amax(0)
    return masks


def video(frames, given=None, config=SMALL, version="1.5", **more):
    return torch.cat(
        list(generate(model(version), vae(), given or scene(version), config, frames, CPU, **more))
    )


@pytest.mark.parametrize("frames", [1, 7, 21, 22, 37, 50])
def test_a_video_has_exactly_as_many_frames_as_are_wanted(frames):
    made = video(frames)
    assert made.shape == (frames, HEIGHT, WIDTH, 3)
    assert made.dtype == torch.uint8


def test_a_longer_video_begins_as_a_shorter_one():
    assert torch.equal(video(50)[:30], video(30))


def test_frames_come_before_the_next_segment_is_sampled():
    passes = []
    blocks = generate(model(), vae(), scene(), SMALL, 37, CPU, check_interrupt=lambda: passes.append(1))
    assert [len(block) for block in islice(blocks, 2)] == [9, 12]
    assert len(passes) == 1 + SMALL.steps + 6  # picture, steps, decoded latents
    assert len(next(blocks)) == 12
    assert len(passes) == 2 * (1 + SMALL.steps) + 9


def test_the_same_seed_gives_the_same_video_and_another_seed_another():
    assert torch.equal(video(25), video(25))
    assert not torch.equal(video(25), video(25, config=replace(SMALL, seed=43)))


def test_an_interrupt_stops_before_the_next_pass_of_the_network():
    class Stop(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise Stop

    with pytest.raises(Stop):
        video(21, check_interrupt=check)


@pytest.mark.parametrize("version", ["1.0", "1.5"])
def test_speech_that_is_only_heard_later_does_not_change_what_is_before(version):
    # The first segment hears its own frames, and two features beyond the last one.
    stride = TINY[version].version.stride
    later = KnownFeatures(features(version).read(0, 100).clone())
    later._features[:, stride * 20 + 3 :] += 1
    changed, plain = (
        video(37, scene(version, speech=speech), version=version) for speech in (later, features(version))
    )
    assert torch.equal(changed[:21], plain[:21])
    assert not torch.equal(changed[21:], plain[21:])


def test_with_the_old_latents_a_continuation_is_another_one():
    made = Segments(model("1.0"), vae(), scene("1.0"), SMALL, CPU)
    first, before = made.sample()
    list(made.decode(first, before, vae()))
    assert torch.equal(made.latents, first[:, :, -2:])
    latents, _ = made.sample()
    made.number, made.latents = 1, None
    again, _ = made.sample()
    assert not torch.equal(latents, again)


def test_text_alone_makes_a_video_whose_first_latent_becomes_the_reference():
    made = Segments(model(), vae(), scene(picture=None), SMALL, CPU)
    latents, before = made.sample()
    assert before is None
    assert torch.equal(made.reference, latents[:, :, :1])
    assert latents.shape[2] == SMALL.latents


def test_a_video_is_gone_on_with_from_its_last_frames():
    past = video(21)
    made = video(16, scene(past=past))
    assert len(made) == 16
    other = past.clone()
    other[-1] = 255 - other[-1]
    assert not torch.equal(video(16, scene(past=other)), made)
    assert torch.equal(video(16, scene(past=past[-5:])), made)


def test_without_a_picture_the_first_of_the_last_frames_is_the_reference():
    past = video(21)
    made = Segments(model(), vae(), scene(picture=None, past=past), SMALL, CPU)
    pixels = past[-5].permute(2, 0, 1)[None, :, None].float() / 127.5 - 1
    assert torch.equal(made.reference, vae().encode(pixels))


def test_guidance_takes_three_passes_and_changes_the_video():
    passes = []
    config = replace(SMALL, text_guidance=4.0, audio_guidance=4.0)
    guided = video(5, config=config, check_interrupt=lambda: passes.append(1))
    assert len(passes) == 1 + 3 * config.steps + 3  # the picture, steps, a block of decoded latents
    assert not torch.equal(guided, video(5))


def test_two_speakers_and_their_masks_count():
    two = video(5, scene(voices=2, masks=halves()))
    assert not torch.equal(two, video(5, scene(voices=2, masks=halves().flip(2))))


def test_two_speakers_may_fill_the_picture():
    masks = torch.zeros(3, HEIGHT, WIDTH)
    masks[0, :, : WIDTH // 2] = masks[1, :, WIDTH // 2 :] = 1
    made = Segments(model(), vae(), scene(voices=2, masks=masks), SMALL, CPU)
    latents, _ = made.sample()
    assert latents.isfinite().all()


def test_what_a_segment_keeps_does_not_grow():
    made = Segments(model(), vae(), scene(), SMALL, CPU)
    kept = []
    for _ in range(3):
        list(made.decode(*made.sample(), vae()))
        kept.append((made.frames.shape, made.latents.shape, made.reference.shape))
    assert len(set(kept)) == 1
    assert made.done == 21 + 2 * 16


@pytest.mark.parametrize("version", ["1.0", "1.5"])
def test_a_video_is_gone_on_with_from_a_file_bit_for_bit(version, tmp_path):
    whole, saved = video(50, version=version), tmp_path / "state.safetensors"
    state, made = SegmentState(fingerprint="mine"), []
    for block in generate(model(version), vae(), scene(version), SMALL, 50, CPU, state=state):
        made.append(block)
        reached = sum(map(len, made))
        assert state.frames == (reached if reached in (21, 37) else None)
        if reached == 37:
            assert state.size() < 2**20
            state.save(saved)
            break
    state.release()
    later = SegmentState(saved, "mine")
    assert later.first_frame == 37
    assert torch.equal(video(50, version=version, state=later), whole[37:])


def test_a_state_that_was_altered_or_is_of_another_video_is_refused(tmp_path):
    saved, state = tmp_path / "state.safetensors", SegmentState(fingerprint="mine")
    blocks = generate(model(), vae(), scene(), SMALL, 50, CPU, state=state)
    list(islice(blocks, 2))
    state.save(saved)
    with pytest.raises(ValueError, match="another video"):
        SegmentState(saved, "yours")
    data = bytearray(saved.read_bytes())
    data[-100] ^= 1
    saved.write_bytes(data)
    with pytest.raises(ValueError, match="damaged"):
        SegmentState(saved, "mine")


def test_a_segment_for_which_memory_ran_out_is_done_once_more():
    calls = []

    def check():
        calls.append(1)
        if len(calls) == 3:
            raise torch.OutOfMemoryError

    assert torch.equal(video(30, check_interrupt=check), video(30))
    with pytest.raises(torch.OutOfMemoryError):
        video(30, check_interrupt=lambda: (_ for _ in ()).throw(torch.OutOfMemoryError()))


def test_models_are_brought_back_after_a_segment_has_listened():
    events, heard = [], features()

    class Listening:
        speakers, count = heard.speakers, heard.count

        def read(self, first, last):
            events.append("listens")
            return heard.read(first, last)

    given = scene(speech=Listening())
    video(30, given, after_listening=lambda: events.append("back"))
    assert events == ["listens", "back"] * 2


@pytest.mark.parametrize(
    ("parts", "config", "sentence"),
    [
        ({"height": 40}, SMALL, "multiples of 16"),
        ({"negative": None}, replace(SMALL, text_guidance=2.0), "negative prompt"),
        ({"past": torch.zeros(4, HEIGHT, WIDTH, 3, dtype=torch.uint8)}, SMALL, "at least 5 frames"),
        ({"past": torch.zeros(5, HEIGHT, 32, 3, dtype=torch.uint8)}, SMALL, "Resize the frames"),
        ({"voices": 2}, SMALL, "Give masks"),
        ({"voices": 2, "masks": halves(), "picture": None}, SMALL, "Give a picture"),
        ({"voices": 2, "masks": halves()[:2]}, SMALL, "the background's"),
        (
            {"voices": 2, "masks": halves() * torch.tensor([1, 0, 1])[:, None, None]},
            SMALL,
            "Make mask 2 larger",
        ),
        ({"prompt": torch.ones(3, 7)}, SMALL, "UMT5-XXL"),
        ({"speech": KnownFeatures(torch.zeros(1, 0, 5, 20))}, SMALL, "not empty"),
    ],
)
def test_what_does_not_fit_together_is_said_before_anything_is_computed(parts, config, sentence):
    passes = []
    with pytest.raises(ValueError, match=sentence):
        video(1, scene(**parts), config, check_interrupt=lambda: passes.append(1))
    assert not passes


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"steps": 51},
        {"shift": 0.0},
        {"frames": 92},
        {"overlap": 12},
        {"overlap": 93},
        {"skip_range": -1},
        {"distilled": True, "uniform_tail": True},
    ],
)
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) if len(wrong) == 1 else "uniform_tail"):
        SamplingConfig(**wrong)


def test_a_distilled_model_refuses_other_numbers_of_steps():
    passes = []
    with pytest.raises(ValueError, match="Set steps to 8"):
        video(1, config=replace(SMALL, distilled=True, steps=6), check_interrupt=lambda: passes.append(1))
    assert not passes


def test_a_skip_range_counts_as_a_whole_or_not_at_all():
    def skipped(position):
        return Layout(2, 2, clean=5, noisy=20, position=position, skip=3).skipped

    assert skipped(10) == range(3, 10)
    assert not skipped(30)
    assert not skipped(6)  # would begin before the first new latent
    assert skipped(7) == range(0, 7)
    assert skipped(20) == range(13, 20)
    assert not skipped(21)


def test_segments_cover_a_video_without_one_too_many():
    config = SamplingConfig()
    assert [config.segments(frames) for frames in (1, 93, 94, 173, 174)] == [1, 1, 2, 2, 3]
