"""A stream of frames in nodes for ordinary images: changed block by block, or refused with advice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from avatar.engines.personalive.preprocess import to_uint8
from avatar.media.frames import AvatarStream, FrameStream
from avatar.media.portrait import prepare_portrait, resize_frames

from tests.unit.in_host import run_in_host

FRAMES, HEIGHT, WIDTH = 12, 40, 48
ADVICE = "set 'frames' of Avatar Stream to Frames to 'batch'"


class Source:
    """Yields blocks of 5 frames of noise; counts passes and the blocks that are there at a time."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(1)
        self.pixels = torch.randint(0, 256, (15, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=generator)
        self.passes = 0

    def __call__(self):
        self.passes += 1
        yield from self.pixels.split(5)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def images(source) -> FrameStream:
    return FrameStream(AvatarStream(source, frames=FRAMES, width=WIDTH, height=HEIGHT))


@pytest.fixture
def batch(source) -> torch.Tensor:
    return source.pixels[:FRAMES] / 255


ALONE = {
    "crop": lambda x: x[:, 3:9, 2:7, :],
    "one channel": lambda x: x[..., 0],
    "one channel by its number": lambda x: x[:, :, :, 1],
    "channels in another order": lambda x: x[..., [2, 1, 0]],
    "invert": lambda x: 1.0 - x,
    "a tensor minus it": lambda x: torch.full((HEIGHT, WIDTH, 3), 0.5) - x,
    "brightness and contrast": lambda x: torch.clamp((x - 0.5) * 1.5 + 0.6, 0, 1),
    "a picture over all": lambda x: x * torch.linspace(0, 1, WIDTH).view(1, 1, WIDTH, 1),
    "threshold": lambda x: (x > 0.5).float(),
    "power": lambda x: 2**x,
    "flip": lambda x: torch.flip(x, dims=[2]),
    "rotate": lambda x: torch.transpose(x, 1, 2).flip([1]),
    "resize": lambda x: F.interpolate(x.movedim(-1, 1), size=(10, 12), mode="bilinear").movedim(1, -1),
    "permute": lambda x: x.permute(0, 3, 1, 2),
    "pad": lambda x: F.pad(x, (0, 1), value=1.0),
    "narrow": lambda x: x.narrow(1, 4, 8),
    "with itself": lambda x: x * x,
    "new dimension": lambda x: x.unsqueeze(2),
    "another format": lambda x: x.to(torch.float16),
}


@pytest.mark.parametrize("name", ALONE)
def test_what_treats_frames_alone_is_done_as_they_come(name, images, source, batch):
    expected, found = ALONE[name](batch), ALONE[name](images)
    assert isinstance(found, FrameStream) and source.passes == 0
    assert (found.shape, found.dtype, found.ndim) == (expected.shape, expected.dtype, expected.ndim)
    assert source.passes == 0
    for _ in range(2):
        torch.testing.assert_close(torch.stack(list(found)), expected, rtol=0, atol=0)
    assert source.passes == 2
    torch.testing.assert_close(found[3:7], expected[3:7], rtol=0, atol=0)
    torch.testing.assert_close(found.to_tensor(), expected, rtol=0, atol=0)


TOGETHER = {
    "joined": lambda x: torch.cat((x, x), dim=0),
    "joined with others": lambda x: torch.cat((torch.zeros(1, HEIGHT, WIDTH, 3), x)),
    "stacked": lambda x: torch.stack([x]),
    "two streams": lambda x: x + (1.0 - x),
    "another batch": lambda x: x * torch.ones(FRAMES, 1, 1, 1),
    "a matrix": lambda x: x @ torch.eye(3),
    "backwards": lambda x: torch.flip(x, dims=[0]),
    "backwards, counted from the end": lambda x: x.flip(-4),
    "as a video's channels": lambda x: x.movedim(1, 0),
    "transposed": lambda x: x.transpose(0, 1),
    "permuted": lambda x: x.permute(3, 0, 1, 2),
    "padded in time": lambda x: F.pad(x, (0, 0, 0, 0, 0, 0, 1, 1)),
    "mean": lambda x: x.mean(),
    "repeated": lambda x: x.repeat(2, 1, 1, 1),
    "as numpy": lambda x: x.cpu().numpy(),
    "as an array": lambda x: np.asarray(x),
    "written into": lambda x: x.__setitem__(0, 1.0),
    "written into another": lambda x: torch.zeros(FRAMES, HEIGHT, WIDTH, 3).__setitem__(slice(None), x),
    "wrapped": lambda x: x[None],
    "picked": lambda x: x[:, [0, 1], :, [0, 1]],
    "inverted bits": lambda x: ~x,
    "given a format of": lambda x: torch.zeros(1).to(x),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_what_needs_all_frames_is_refused_with_advice_before_any_is_made(name, images, source):
    with pytest.raises((TypeError, AttributeError), match=ADVICE):
        TOGETHER[name](images)
    with pytest.raises((TypeError, AttributeError), match=ADVICE):
        TOGETHER[name](1.0 - images)
    assert source.passes == 0


@pytest.mark.parametrize(
    "index",
    [
        [3, 1, 1, 11],
        torch.tensor([0, 0, 5]),
        np.array([-1, 2]),
        torch.arange(FRAMES) % 2 == 0,
        (slice(2, 9, 3), slice(4)),
        (-2, slice(4), 3),
        ([7, 0], ..., 1),
    ],
)
def test_chosen_frames_are_read_in_one_pass(index, images, source, batch):
    found = images[index]
    torch.testing.assert_close(found, batch[index], rtol=0, atol=0)
    assert source.passes == 1


@pytest.mark.parametrize(
    "index", [[12], torch.tensor([0, -13]), [0.5], torch.zeros(FRAMES, HEIGHT, dtype=torch.bool)]
)
def test_frames_that_do_not_exist_are_not_chosen(index, images, source):
    with pytest.raises(IndexError, match=r"does not exist|whole numbers"):
        images[index]
    assert source.passes == 0


def test_a_consumer_may_write_into_the_frames_that_it_gets(images, batch):
    inverted = 1.0 - images
    for frame in inverted:
        frame.zero_()
    inverted[4].zero_()
    torch.testing.assert_close(inverted[4], 1 - batch[4], rtol=0, atol=0)


def test_reversed_frames_take_one_pass(images, source, batch):
    assert all(torch.equal(a, b) for a, b in zip(reversed(images), batch.flip(0), strict=True))
    assert source.passes == 1


def test_more_frames_than_memory_are_refused_before_any_is_made():
    source = Source()
    images = FrameStream(AvatarStream(source, frames=10**9, width=WIDTH, height=HEIGHT))
    for too_many in (lambda: images[1:], lambda: (1.0 - images).to_tensor()):
        with pytest.raises(MemoryError, match="Use Avatar Stream to Video"):
            too_many()
    assert source.passes == 0


def test_our_pose_video_takes_a_stream_one_frame_at_a_time(images, source, batch):
    chosen = [0, 0, 1, 3, 8, 11]
    resized = resize_frames(images, 64, 64, chosen)
    assert torch.equal(resized, resize_frames(batch[chosen], 64, 64))
    assert source.passes == 1


def test_our_portraits_take_a_stream(images, source, batch):
    pictures = to_uint8(images[..., :3].float().cpu())
    assert torch.equal(torch.stack(list(pictures)), to_uint8(batch)) and source.passes == 1
    one = FrameStream(AvatarStream(source, frames=1, width=WIDTH, height=HEIGHT))
    assert torch.equal(prepare_portrait(one, 64, 64), prepare_portrait(batch[:1], 64, 64))
    with pytest.raises(ValueError, match="batch of 12"):
        prepare_portrait(images, 64, 64)


CORE_NODES = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util  # before the host's nodes put their own folder in front
import comfy.sd, nodes, torch
from comfy_extras import nodes_images
sys.path.insert(0, {root!r})
import tools.pack
from avatar.loaders.files import load_state_dict
from avatar.loaders.liveavatar.folders import TALKER
from avatar.media.frames import AvatarStream, FrameStream

torch.set_num_threads(1)
pixels = torch.randint(0, 256, (12, 32, 64, 3), dtype=torch.uint8)
stream = AvatarStream(lambda: iter(pixels.split(5)), frames=12, width=64, height=32)
images, batch = FrameStream(stream), pixels / 255

def run(node, *inputs, **settings):
    # nodes of both of the host's interfaces
    if hasattr(node, "execute"):
        return node.execute(*inputs, **settings)[0]
    return getattr(node(), node.FUNCTION)(*inputs, **settings)[0]

flip = getattr(nodes_images, "ImageFlip", None)
for node, settings in (
    (nodes_images.ImageCrop, dict(width=16, height=8, x=4, y=2)),
    (nodes.ImageInvert, dict()),
    (nodes.ImageScale, dict(upscale_method="bilinear", width=32, height=32, crop="center")),
    (nodes.ImageScaleBy, dict(upscale_method="area", scale_by=0.5)),
    *([(flip, dict(flip_method="x-axis: vertically"))] if flip else []),
):
    found = run(node, images, **settings)
    assert isinstance(found, FrameStream), node
    assert torch.equal(torch.stack(list(found)), run(node, batch, **settings)), node
    print(node)

vae = comfy.sd.VAE(sd=load_state_dict(TALKER / "base" / "Wan2.1_VAE.pth"))
for refused in (
    lambda: run(nodes.ImageBatch, images, batch),
    lambda: run(nodes.ImageBatch, batch[:1], images),
    lambda: run(nodes.VAEEncode, vae, images),
    lambda: run(nodes.ImagePadForOutpaint, images, 8, 8, 8, 8, 0),
    lambda: run(nodes_images.RepeatImageBatch, images, 2),
):
    try:
        refused()
    except (TypeError, AttributeError) as error:
        assert {advice!r} in str(error), error
        print(error)
    else:
        raise AssertionError("not refused")
print("fine")
"""


def test_core_nodes_change_a_stream_frame_by_frame_or_say_that_they_cannot():
    run_in_host(CORE_NODES, advice=ADVICE)


def test_a_pose_video_that_is_longer_than_memory_is_refused_before_any_frame_is_made():
    source = Source()
    endless = FrameStream(AvatarStream(source, frames=10**9, width=WIDTH, height=HEIGHT))
    with pytest.raises(MemoryError, match="Use a shorter clip"):
        resize_frames(endless, 64, 64, range(10**9))
    assert source.passes == 0
