"""The stream: as many frames out as in, lazily, reproducibly; driving videos of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from avatar.engines.parts.face.keypoints import Pose
from avatar.engines.personalive.config import StreamConfig
from avatar.engines.personalive.driving import driving_motion
from avatar.engines.personalive.motion import Motion, mirrored, regroup
from avatar.engines.personalive.scheduler import Scheduler
from avatar.loaders.personalive.files import find_files
from avatar.loaders.personalive.networks import load_personalive
from safetensors import safe_open
from safetensors.torch import save_file

from tools.tiny_personalive import write_tiny_personalive

SIZE = 128


@pytest.fixture(scope="module")
def full_engine(tmp_path_factory):
    folder = write_tiny_personalive(tmp_path_factory.mktemp("personalive"))
    return load_personalive(find_files(str(folder), Path("unused")), torch.float32)


@pytest.fixture
def engine(full_engine):
    """The tiny engine with a UNet that predicts no noise, so that only the streaming is tested."""
    full_engine.use_networks()
    full_engine.calls = []

    def denoise(x, timesteps, motion, pose, contexts):
        full_engine.calls.append((timesteps.tolist(), motion.clone(), contexts[0].keys.shape[1]))
        return torch.zeros_like(x)

    full_engine.denoise = denoise
    return full_engine


@pytest.fixture(scope="module")
def portrait(full_engine):
    image = torch.randint(0, 256, (96, 80, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return full_engine.portrait(image, SIZE, SIZE, torch.tensor([20, 20, 100, 100]))


def motion(count: int, seed: int = 0) -> Motion:
    g = torch.Generator().manual_seed(seed)
    pose = Pose(
        torch.rand(count, 21, 3, generator=g) - 0.5,
        10 * torch.randn(count, 3, generator=g),
        0.1 * torch.randn(count, 3, generator=g),
        torch.ones(count, 1),
    )
    return Motion(pose, torch.randn(count, 32, 16, generator=g))


def video(engine, portrait, count, **options):
    return torch.cat(list(engine.animate(portrait, [motion(count)], **options)))


@pytest.mark.parametrize("count", [1, 3, 4, 5, 13, 16])
def test_one_frame_comes_out_per_driving_frame(engine, portrait, count):
    frames = video(engine, portrait, count)
    assert frames.shape == (count, SIZE, SIZE, 3)
    assert frames.dtype == torch.uint8


def test_the_way_from_the_portrait_comes_on_request(engine, portrait):
    config = StreamConfig()
    frames = video(engine, portrait, 6, lead_in=True)
    assert len(frames) == config.ramp + 6
    assert torch.equal(frames[config.ramp :], video(engine, portrait, 6))


def test_the_seed_decides_the_noise(engine, portrait):
    first = video(engine, portrait, 4, seed=1)
    assert torch.equal(first, video(engine, portrait, 4, seed=1))
    assert not torch.equal(first, video(engine, portrait, 4, seed=2))


def test_driving_frames_are_read_only_as_needed(engine, portrait):
    taken = []

    def endless():
        while True:
            taken.append(1)
            yield motion(4)

    stream = engine.animate(portrait, endless())
    assert len(next(stream)) == 4
    assert len(taken) <= 5
    next(stream)
    assert len(taken) <= 6


def test_the_state_does_not_grow_with_the_video(engine, portrait):
    stream = engine.stream(portrait, StreamConfig(keyframe_after=1))
    sizes = []
    for i in range(12):
        stream.push(motion(4, seed=i))
        sizes.append((len(stream.window.latents), len(stream.window.motion), len(stream.memory.bank)))
    assert stream.keyframes == 3
    assert sizes[6:] == [sizes[6]] * 6
    tokens = (SIZE // 8) ** 2
    pictures = [keys // tokens for _, _, keys in engine.calls]
    assert pictures == sorted(pictures)
    assert pictures[0] == 1 and pictures[-1] == 4


def test_no_keyframes_on_request(engine, portrait):
    stream = engine.stream(portrait, StreamConfig(max_keyframes=0, keyframe_after=1))
    for i in range(4):
        stream.push(motion(4, seed=i))
    assert stream.keyframes == 0


def test_an_interruption_stops_between_passes(engine, portrait):
    def check():
        if len(engine.calls) == 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        video(engine, portrait, 40, check_interrupt=check)
    assert len(engine.calls) == 2


def test_strength_zero_keeps_the_portrait_still(engine, portrait):
    video(engine, portrait, 4, config=StreamConfig(motion_strength=0.0))
    assert torch.allclose(engine.calls[-1][1], portrait.tokens.expand(16, -1, -1), atol=1e-6)
    stream = engine.stream(portrait, StreamConfig(pose_strength=0.0))
    stream.push(motion(4))
    _, poses = stream._driven(motion(4, seed=9))
    assert torch.allclose(poses.project(), portrait.pose.project().expand(4, -1, -1), atol=1e-6)


@pytest.mark.parametrize("steps", [4, 8, 12])
def test_more_steps_are_more_passes_per_chunk(engine, portrait, steps):
    engine.stream(portrait, StreamConfig(steps=steps)).push(motion(4))
    assert len(engine.calls) == steps // 4
    schedule = Scheduler().timesteps(steps)
    newest = [timesteps[-1] for timesteps, _, _ in engine.calls]
    oldest = [timesteps[0] for timesteps, _, _ in engine.calls]
    assert newest == schedule[: steps // 4]
    assert oldest == schedule[-(steps // 4) :]
    assert schedule[0] == 999 and schedule[-1] == 0


def test_wrong_settings_are_refused(engine, portrait):
    with pytest.raises(ValueError, match="multiple of 4"):
        StreamConfig(steps=6)
    with pytest.raises(ValueError, match="multiple of 64"):
        engine.portrait(torch.zeros(64, 64, 3, dtype=torch.uint8), 500, 512)
    with pytest.raises(ValueError, match="4 driving frames"):
        engine.stream(portrait).push(motion(3))


def test_eight_bit_frames_of_a_whole_run_are_alive(full_engine, portrait):
    full_engine.use_networks()
    frames = torch.randint(0, 256, (5, 90, 160, 3), dtype=torch.uint8)
    found = driving_motion(full_engine, frames.split(4), boxes=torch.tensor([[40, 5, 120, 85]] * 5))
    out = torch.cat(list(full_engine.animate(portrait, (part.motion for part in found))))
    assert out.shape == (5, SIZE, SIZE, 3)
    assert out.float().std() > 5


def test_regrouping_keeps_every_frame_in_order():
    whole = motion(11)
    parts = list(regroup([whole[:1], whole[1:3], whole[3:11]], 4))
    assert [len(part) for part in parts] == [4, 4, 3]
    assert torch.equal(Motion.concat(parts).tokens, whole.tokens)


def test_a_long_motion_is_cut_without_copying_the_rest_of_it():
    whole = motion(12)
    parts = list(regroup([whole], 4))
    assert [len(part) for part in parts] == [4, 4, 4]
    assert torch.equal(Motion.concat(parts).tokens, whole.tokens)
    copied = []
    concat = Motion.concat
    try:
        Motion.concat = staticmethod(lambda parts: copied.append(sum(map(len, parts))) or concat(parts))
        list(regroup([whole], 4))
    finally:
        Motion.concat = staticmethod(concat)
    assert copied == [4, 4, 4]


@pytest.mark.parametrize("count", [1, 2, 6, 16])
def test_the_end_is_continued_backwards(count):
    whole = motion(count)
    chunks = list(mirrored([whole], 4, 12))
    assert sum(own for _, own in chunks) == count
    tokens = torch.cat([part.tokens for part, _ in chunks])
    assert len(tokens) >= count + 12 and len(tokens) % 4 == 0
    assert torch.equal(tokens[:count], whole.tokens)
    assert torch.equal(tokens[count], whole.tokens[max(count - 2, 0)])


def test_motion_survives_a_file(tmp_path):
    path = tmp_path / "nod.safetensors"
    whole = motion(6)
    whole.save(path, 29.97)
    loaded, fps = Motion.load(path)
    assert fps == 29.97
    assert torch.equal(loaded.tokens, whole.tokens)
    assert torch.equal(loaded.pose.project(), whole.pose.project())


def test_motion_files_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent"):
        Motion.load(tmp_path / "absent.safetensors")
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"1234567890")
    with pytest.raises(ValueError, match="broken"):
        Motion.load(path)


KEYPOINTS, TOKENS = torch.zeros(6, 21, 3), torch.zeros(6, 32, 16)
DAMAGE = {
    "5 keypoints": ({"keypoints": KEYPOINTS[:, :5]}, {}, r"keypoints is \[6, 5, 3\], not \[6, 21, 3\]"),
    "keypoints in a plane": ({"keypoints": KEYPOINTS[..., :2].clone()}, {}, "keypoints is"),
    "one frame less": ({"keypoints": KEYPOINTS[:5]}, {}, "keypoints is"),
    "no dimension of frames": ({"scale": torch.zeros(6)}, {}, "scale is"),
    "wider tokens": ({"tokens": torch.zeros(6, 32, 17)}, {}, "tokens is"),
    "fewer tokens": ({"tokens": TOKENS[:, :31].clone()}, {}, "tokens is"),
    "no frames": ({"tokens": TOKENS[:0]}, {}, "no frames"),
    "a scalar": ({"tokens": torch.tensor(1.0)}, {}, "keypoints is"),
    "NaN in keypoints": ({"keypoints": KEYPOINTS / 0}, {}, "keypoints holds NaN or infinite values"),
    "infinite tokens": ({"tokens": TOKENS + float("inf")}, {}, "tokens holds NaN or infinite values"),
    "angles missing": ({"angles": None}, {}, "angles is missing"),
    "tokens missing": ({"tokens": None}, {}, "tokens|no frames"),
    "no rate": ({}, {"fps": ""}, "could not convert"),
    "rate of words": ({}, {"fps": "[25]"}, "could not convert"),
    "rate NaN": ({}, {"fps": "NaN"}, "NaN frames per second"),
    "rate 0": ({}, {"fps": "0.0"}, "0.0 frames per second"),
    "rate below 0": ({}, {"fps": "-25"}, "-25 frames per second"),
    "endless rate": ({}, {"fps": "1e300"}, "1e300 frames per second"),
    "another format": ({}, {"format": "personalive-motion-9"}, "no PersonaLive motion file"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_motion_files_that_hold_something_else_are_refused_in_a_sentence(tmp_path, case):
    changed, metadata, said = DAMAGE[case]
    path = tmp_path / "nod.safetensors"
    motion(6).save(path, 25.0)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()} | changed  # noqa: SIM118
        metadata = file.metadata() | metadata
    save_file({name: t.contiguous() for name, t in tensors.items() if t is not None}, path, metadata)
    with pytest.raises(ValueError, match=f"nod.safetensors is .*{said}"):
        Motion.load(path)
