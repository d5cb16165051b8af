"""AvatarStream and FrameStream, among them how VideoHelperSuite and the core's nodes read an IMAGE."""

from __future__ import annotations

import itertools
import weakref

import numpy as np
import pytest
import torch
from avatar.media.frames import AvatarStream, FrameStream

import tools.pack  # noqa: F401

H, W = 4, 6


class Source:
    """Yields blocks of 5 frames whose pixels are the frame's number; counts passes, blocks and closings."""

    def __init__(self, total: int = 12, size: int = 5) -> None:
        self.total, self.size = total, size
        self.passes = self.blocks = self.closed = 0

    def __call__(self):
        self.passes += 1
        try:
            for first in range(0, self.total, self.size):
                self.blocks += 1
                numbers = torch.arange(first, first + self.size, dtype=torch.uint8)
                yield numbers.view(-1, 1, 1, 1).expand(-1, H, W, 3).contiguous()
        finally:
            self.closed += 1


def stream_of(source, frames: int = 12) -> AvatarStream:
    return AvatarStream(source, frames=frames, width=W, height=H)


def number(frame: torch.Tensor) -> int:
    assert frame.shape == (H, W, 3) and frame.dtype == torch.float32
    return round(frame[0, 0, 0].item() * 255)


def test_blocks_cut_off_surplus_frames_and_can_start_again():
    source = Source()
    stream = stream_of(source)
    for _ in range(2):
        assert [len(block) for block in stream.blocks()] == [5, 5, 2]
    assert source.passes == source.closed == 2
    assert stream.duration == pytest.approx(12 / 25)


def test_blocks_close_the_source_when_abandoned():
    source = Source()
    blocks = stream_of(source).blocks()
    next(blocks)
    blocks.close()
    assert source.closed == 1 and source.blocks == 1


def test_a_source_that_ends_short_is_named():
    with pytest.raises(RuntimeError, match="ended after 15 of 20 frames"):
        list(stream_of(Source(15), frames=20).blocks())


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (torch.zeros(2, H, W, 3), "uint8"),
        (torch.zeros(2, H, W, 4, dtype=torch.uint8), r"\[frames, 4, 6, 3\]"),
        (torch.zeros(H, W, 3, dtype=torch.uint8), "shape"),
        (torch.zeros(0, H, W, 3, dtype=torch.uint8), "shape"),
    ],
)
def test_a_wrong_block_is_refused(block, said):
    with pytest.raises(RuntimeError, match=said):
        list(stream_of(lambda: iter([block])).blocks())


@pytest.mark.parametrize("field", ["frames", "width", "height", "fps"])
def test_an_empty_stream_is_refused(field):
    sizes = {"frames": 1, "width": 1, "height": 1, "fps": 25, field: 0}
    with pytest.raises(ValueError, match=field):
        AvatarStream(Source(), **sizes)


def test_length_shape_and_size_need_no_frames():
    source = Source()
    images = FrameStream(stream_of(source))
    assert len(images) == 12
    assert images.shape == (12, H, W, 3) and images.size(0) == 12 and images.size() == images.shape
    assert source.passes == 0


def test_forward_reading_is_one_pass_and_backward_reading_restarts():
    source = Source()
    images = FrameStream(stream_of(source))
    assert [number(images[i]) for i in (0, 3, 4, 9, -1)] == [0, 3, 4, 9, 11]
    assert source.passes == 1 and source.blocks == 3
    assert source.closed == 1, "the source is released with its last block"
    assert number(images[10]) == 10 and source.passes == 1
    assert number(images[2]) == 2 and source.passes == 2


@pytest.mark.parametrize("index", [12, -13])
def test_an_index_beyond_the_end_is_refused_without_generating(index):
    source = Source()
    with pytest.raises(IndexError, match="12 frames"):
        FrameStream(stream_of(source))[index]
    assert source.passes == 0


@pytest.mark.parametrize(
    "part", [slice(2, 7), slice(None), slice(None, None, 3), slice(-3, None), slice(9, 2, -2), slice(4, 4)]
)
def test_slices_are_stacked_tensors(part):
    chosen = FrameStream(stream_of(Source()))[part]
    wanted = list(range(12))[part]
    assert chosen.shape == (len(wanted), H, W, 3)
    assert [number(frame) for frame in chosen] == wanted


def test_a_descending_slice_is_read_in_one_pass():
    source = Source()
    assert [number(frame) for frame in FrameStream(stream_of(source))[::-1]] == list(range(11, -1, -1))
    assert source.passes == 1


def test_two_iterators_at_once_are_both_right():
    images = FrameStream(stream_of(Source()))
    pairs = itertools.zip_longest(iter(images), iter(images))
    assert [(number(a), number(b)) for a, b in pairs] == [(i, i) for i in range(12)]


def test_indexing_while_iterating_leaves_the_iterator_right():
    images = FrameStream(stream_of(Source()))
    seen = []
    for position, frame in enumerate(images):
        seen.append(number(frame))
        assert number(images[11 - position]) == 11 - position
    assert seen == list(range(12))


def test_a_failed_read_can_be_tried_again():
    attempts = []

    def start():
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("interrupted")
        yield from Source()()

    images = FrameStream(stream_of(start))
    with pytest.raises(RuntimeError, match="interrupted"):
        images[0]
    assert number(images[0]) == 0


def test_progress_is_reported_once_per_block():
    reports = []
    images = FrameStream(
        stream_of(Source()), lambda done, total, block: reports.append((done, total, len(block)))
    )
    list(images)
    assert reports == [(5, 12, 5), (10, 12, 5), (12, 12, 2)]
    reports.clear()
    images.to_tensor()
    assert reports == [(5, 12, 5), (10, 12, 5), (12, 12, 2)]


def test_to_tensor_is_the_ordinary_image_batch():
    images = FrameStream(stream_of(Source()))
    batch = images.to_tensor()
    assert batch.dtype == torch.float32 and torch.equal(batch, torch.stack(list(images)))


# How VideoHelperSuite's Video Combine reads an IMAGE.


def to_bytes(image: torch.Tensor) -> np.ndarray:
    """8-bit pixels without rounding, as there."""
    return np.clip(image.cpu().numpy() * 255, 0, 255).astype(np.uint8)


def video_combine(images, align: int = 2, pingpong: bool = False) -> tuple[int, list[bytes]]:
    if isinstance(images, torch.Tensor) and images.size(0) == 0:
        return 0, []
    expected = len(images)
    first = images[0]
    images = iter(images)
    to_bytes(first)  # the thumbnail that carries the workflow
    assert first.shape[-1] != 4
    across, down = -first.shape[1] % align, -first.shape[0] % align
    if across or down:
        extend = torch.nn.ReplicationPad2d((across // 2, across - across // 2, down // 2, down - down // 2))
        images = (
            extend(image.permute((2, 0, 1)).to(dtype=torch.float32)).permute((1, 2, 0)) for image in images
        )
    if pingpong:
        held = list(images)
        images = iter(held + held[-2:0:-1])
    return expected, [to_bytes(image).tobytes() for image in images]


def test_video_combine_gets_every_pixel_and_generates_the_first_block_once():
    blocks = [torch.randint(0, 256, (5, H, W, 3), dtype=torch.uint8) for _ in range(3)]
    passes = []

    def start():
        passes.append(1)
        yield from blocks

    expected, frames = video_combine(FrameStream(stream_of(start, 15)))
    assert expected == len(frames) == 15
    assert b"".join(frames) == torch.cat(blocks).numpy().tobytes()
    assert len(passes) == 1


def test_every_8_bit_value_survives_the_truncation_of_consumers():
    values = torch.arange(256, dtype=torch.uint8).repeat_interleave(3).view(1, 16, 16, 3)
    images = FrameStream(AvatarStream(lambda: iter([values]), frames=1, width=16, height=16))
    assert np.array_equal(to_bytes(images[0]), values[0].numpy())


def test_video_combine_with_alignment_and_ping_pong():
    source = Source()
    _, frames = video_combine(FrameStream(stream_of(source)), align=8, pingpong=True)
    assert [frame[0] for frame in frames] == [*range(12), *range(10, 0, -1)]
    assert {len(frame) for frame in frames} == {8 * 8 * 3}
    assert source.passes == 1


def test_core_nodes_read_it_as_well():
    source = Source()
    images = FrameStream(stream_of(source))
    assert (images.shape[2], images.shape[1]) == (W, H) and images[0].shape[1] == W
    seen = [
        (255.0 * image.cpu().numpy()).clip(0, 255).astype(np.uint8)[0, 0, 0] for _, image in enumerate(images)
    ]
    assert seen == list(range(12)) and source.passes == 1


def test_memory_does_not_grow_with_the_length():
    buffers = []

    def start():
        for _ in range(200):
            buffer = np.zeros((12, H, W, 3), dtype=np.uint8)
            buffers.append(weakref.ref(buffer))
            yield torch.from_numpy(buffer)  # keeps the buffer alive as long as any view of the block

    for _ in FrameStream(stream_of(start, 2400)):
        assert sum(buffer() is not None for buffer in buffers) <= 3
    assert len(buffers) == 200
