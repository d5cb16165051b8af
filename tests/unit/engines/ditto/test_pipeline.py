"""Ditto with tiny networks of random weights, from portrait and speech to frames."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from avatar.engines.ditto import runtime
from avatar.engines.ditto.appearance import AppearanceConfig, AppearanceExtractor
from avatar.engines.ditto.conditions import emotion_rows
from avatar.engines.ditto.config import LIVE, MotionModelConfig, WindowConfig
from avatar.engines.ditto.decoder import DecoderConfig, SpadeDecoder
from avatar.engines.ditto.lmdm import MotionModel, Sampler
from avatar.engines.ditto.pipeline import Ditto, Performance
from avatar.engines.ditto.runtime import accelerate, plain
from avatar.engines.ditto.stitching import StitchingNetwork
from avatar.engines.ditto.warping import DenseMotionConfig, WarpingConfig, WarpingNetwork
from avatar.engines.parts.face.motion_extractor import MotionExtractor, MotionExtractorConfig
from torch.utils._python_dispatch import TorchDispatchMode

from tests.unit.stand_in_graphs import stand_in
from tools.tiny_ditto import drawn

LANDMARKS = np.array([[30.0, 30.0], [50.0, 30.0], [40.0, 40.0], [33.0, 52.0], [47.0, 52.0]])
QUICK = Performance(WindowConfig(steps=2))


@functools.lru_cache
def engine():
    torch.manual_seed(0)
    networks = (
        MotionModel(MotionModelConfig(width=16, feed_forward=16, layers=1, heads=2)),
        MotionExtractor(MotionExtractorConfig((1, 1, 1, 1), (4, 4, 8, 8))),
        AppearanceExtractor(AppearanceConfig(4, 8, 2, 4, 2, 1)),
        WarpingNetwork(WarpingConfig(8, DenseMotionConfig(21, 4, 2, 1, 2, 4, 1))),
        drawn(SpadeDecoder(DecoderConfig(8, 8, 4, 4))),
        StitchingNetwork(),
    )
    for network in networks:
        network.eval().requires_grad_(False)
    return Ditto(*networks)


def eyes(square):
    return torch.full((1, 2), 0.8), torch.zeros(1, 6)


@functools.lru_cache
def source(frames=1):
    random = torch.Generator().manual_seed(3)
    pictures = torch.randint(0, 255, (frames, 80, 80, 3), dtype=torch.uint8, generator=random)
    return engine().source([(picture, LANDMARKS) for picture in pictures], eyes)


def perform(speech, performance=QUICK, seed=0, who=None, **more):
    return torch.cat(list(engine().animate(who or source(), [speech], performance, seed, **more)))


def test_a_frame_of_the_pictures_size_for_every_frame_of_speech():
    frames = perform(torch.rand(12, 1024))
    assert frames.dtype == torch.uint8
    assert frames.shape == (12, 80, 80, 3)


def test_the_face_is_painted_in_shades():
    points = torch.rand(1, 21, 3)
    with torch.inference_mode():
        painted = engine().render(source().volumes, points, points)
    assert painted.isfinite().all() and painted.std() > 0.01


def test_a_seed_decides_about_the_video():
    speech = torch.rand(3, 1024)
    assert torch.equal(perform(speech, seed=1), perform(speech, seed=1))


def test_live_frames_come_before_the_speech_ends():
    handed = []

    def speech():
        for part in torch.rand(40, 1024).split(5):
            handed.append(len(part))
            yield part

    performance = Performance(WindowConfig(70, 2, live=True))
    warm_up = torch.zeros(70, 1024)
    with torch.inference_mode():
        parts = engine().keypoints(source(), speech(), performance, warm_up=warm_up)
        next(parts)
        assert sum(handed) == 20
        assert 5 + sum(len(driving) for _, driving in parts) == 40


def test_an_interrupt_stops_within_a_step():
    class Stop(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 4:
            raise Stop

    sampler = Sampler(engine().motion_model, 10, check)
    with pytest.raises(Stop), torch.inference_mode():
        sampler(torch.rand(1, 80, 265), torch.rand(9, 80, 265), torch.rand(1, 265), torch.rand(1, 80, 1103))
    assert len(calls) == 4


def test_an_emotion_counts_from_a_neutral_origin():
    """The origin is the first frame of the same speech in a neutral voice."""
    speech = torch.rand(90, 1024)
    happy = Performance(WindowConfig(steps=2), emotions=emotion_rows(3), neutral_origin=True)
    with torch.inference_mode():
        (_, origin), *_ = engine().motion(source(), [speech], happy)
        (neutral, _), *_ = engine().motion(source(), [speech], QUICK)
        (own, _), *_ = engine().motion(
            source(), [speech], Performance(happy.windows, emotions=happy.emotions)
        )
    assert torch.equal(origin, neutral[:1])
    assert not torch.equal(origin, own[:1])


def test_live_motion_counts_from_the_window_of_silence():
    speech, warm_up = torch.rand(20, 1024), torch.zeros(70, 1024)
    with torch.inference_mode():
        for performance in (Performance(LIVE), Performance(LIVE, neutral_origin=True)):
            (_, origin), *_ = engine().motion(source(), [speech], performance, warm_up=warm_up)
            assert origin.shape == (1, 265)


def test_a_source_video_shows_its_own_frames_around_the_face():
    video = source(3)
    frames = perform(torch.rand(7, 1024), who=video)
    assert video.paste.box[:2] != (0, 0)
    for frame, place in zip(frames, [0, 1, 2, 2, 1, 0, 0], strict=True):
        assert torch.equal(frame[0, 0], video.pictures[place][0][0, 0])


READ_BACKS = (
    "aten::_local_scalar_dense",
    "aten::item",
    "aten::is_nonzero",
    "aten::nonzero",
    "aten::masked_select",
)


class ReadBacks(TorchDispatchMode):
    """Names of operations whose result the CPU has to know, for which a GPU would be waited for."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.name() in READ_BACKS:
            self.found.append(function.name())
        return function(*args, **(kwargs or {}))


def test_nothing_is_read_back_while_motion_and_frames_are_made():
    sampler = Sampler(engine().motion_model, 3)
    points = torch.rand(1, 21, 3)
    with torch.inference_mode(), ReadBacks() as read:
        sampler(torch.rand(1, 80, 265), torch.rand(2, 80, 265), torch.rand(1, 265), torch.rand(1, 80, 1103))
        engine().render(source().volumes, points, points)
    assert read.found == []
    with torch.inference_mode(), ReadBacks() as read:
        bool(points.sum() > 0)
    assert read.found


@pytest.mark.parametrize("frames", [1, 3])
def test_no_number_is_carried_to_the_device_in_a_way_that_waits(monkeypatch, frames):
    """`torch.tensor` with a device returns when the GPU has done all that it was told before."""
    blocks = engine().animate(source(frames), list(torch.rand(12, 1024).split(4)), QUICK)
    next(blocks)
    made = torch.tensor

    def tensor(*values, device=None, **options):
        assert device is None
        return made(*values, **options)

    monkeypatch.setattr(torch, "tensor", tensor)
    assert sum(map(len, blocks)) == 7


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_is_not_waited_for_while_a_block_is_asked_for():
    here = Ditto(*(copy.deepcopy(network).cuda() for network in engine().networks))
    picture = torch.randint(0, 255, (80, 80, 3), dtype=torch.uint8)
    who = here.source([(picture, LANDMARKS)], eyes)
    with torch.inference_mode():
        blocks = here.keypoints(who, list(torch.rand(20, 1024).split(4)), QUICK)
        here.paint(who, next(blocks), 0)()
        torch.cuda.set_sync_debug_mode("error")
        try:
            shown = here.paint(who, next(blocks), 5)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len(shown()) == 5


def test_without_a_gpu_nothing_is_captured():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert accelerate(engine()).render == engine()._render


def test_captured_calls_of_networks_that_were_moved_are_captured_anew(monkeypatch):
    speech, recorded = torch.rand(23, 1024), stand_in(monkeypatch)
    monkeypatch.setattr(runtime, "obstacle", lambda device: "")
    here = Ditto(*(copy.deepcopy(network) for network in engine().networks))
    recorded.watched += here.networks  # their graphs fail when they are replayed elsewhere
    checks = iter(range(100))

    def move():
        if next(checks) == 4:  # between two blocks of frames
            assert recorded.replays > 1
            for parameter in (parameter for network in here.networks for parameter in network.parameters()):
                parameter.data = parameter.data.clone()

    found = accelerate(here).animate(source(), [speech], QUICK, 0, check_interrupt=move)
    assert torch.equal(torch.cat(list(found)), perform(speech))
    assert next(checks) > 5 and len(recorded.made) == 3, "a window, and blocks before and after the move"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_captured_calls_make_the_same_video():
    networks = [copy.deepcopy(network).cuda() for network in engine().networks]
    here = Ditto(*networks)
    random = torch.Generator().manual_seed(3)
    picture = torch.randint(0, 255, (80, 80, 3), dtype=torch.uint8, generator=random)
    who = here.source([(picture, LANDMARKS)], eyes)
    speech = torch.rand(12, 1024)
    plainly = torch.cat(list(here.animate(who, [speech], QUICK)))
    captured = torch.cat(list(accelerate(here).animate(who, [speech], QUICK)))
    assert (plainly.float() - captured.float()).abs().max() <= 1
    assert plain(here).render == here._render


def test_frames_before_the_first_one_wanted_are_not_drawn(monkeypatch):
    speech = torch.rand(23, 1024)
    whole = perform(speech)
    painted = []
    render = engine().render

    def counting(volume, points, driving):
        painted.append(len(driving))
        return render(volume, points, driving)

    monkeypatch.setattr(engine(), "render", counting)
    assert torch.equal(perform(speech, first=10), whole[10:])
    assert sum(painted) == 13


def test_a_sampler_that_is_replaced_while_motion_is_made_is_used_from_then_on(monkeypatch):
    here, used = engine(), []

    def maker(name):
        def make(steps, check_interrupt):
            plain_sample = here._sampler(steps, check_interrupt)

            def sample(*args):
                used.append(name)
                return plain_sample(*args)

            return sample

        return make

    monkeypatch.setattr(here, "sampler", maker("before"))
    with torch.inference_mode():
        motion = here.motion(source(), torch.rand(200, 1024).split(100), QUICK)
        next(motion)
        monkeypatch.setattr(here, "sampler", maker("after"))
        list(motion)
    assert used[0] == "before" and used[-1] == "after" and len(used) == 3


def test_a_sampler_that_the_check_before_a_window_replaces_makes_that_window(monkeypatch):
    here, used = engine(), []

    def maker(name):
        def make(steps, check_interrupt):
            used.append(name)
            return here._sampler(steps, check_interrupt)

        return make

    monkeypatch.setattr(here, "sampler", maker("captured before the networks were moved"))
    check = functools.partial(monkeypatch.setattr, here, "sampler", maker("captured where they are"))
    with torch.inference_mode():
        list(here.motion(source(), [torch.rand(20, 1024)], QUICK, check_interrupt=check))
    assert used[0] == "captured where they are"
