"""Frame blocks as they are generated, and a view on them that behaves like a batch of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partialmethod
from pathlib import Path
from typing import Any, Protocol

import torch

from . import frame_operations as operations
from .room import check_room
from .speech_feed import SpeechFeed

OnBlock = Callable[[int, int, torch.Tensor], None]
Change = Callable[[torch.Tensor], torch.Tensor]
"""A change of any number of float32 frames [n, H, W, 3], which gives [n, ...]."""
ADVICE = (
    "set 'frames' of Avatar Stream to Frames to 'batch', since the node behind it needs all frames at once"
)


class PassState(Protocol):
    """The state of one pass over a stream, from which a later run can go on.

    Attributes:
        first_frame: the frame with which the pass begins.
        frames: number of the video's frames that a state written now would cover; None while ``save`` cannot write.
    """

    first_frame: int
    frames: int | None

    def settle(self) -> None:
        """Have ``frames`` and ``save`` ready soon, where the pass is ahead of its consumer."""

    def size(self) -> int:
        """Bytes that ``save`` takes now."""

    def save(self, path: Path) -> None:
        """Write the state; OSError where it cannot."""

    def release(self) -> None:
        """Let go of the memory of the pass."""


@dataclass(frozen=True)
class Resumable:
    """The means by which a later run goes on with a stream.

    Attributes:
        fingerprint: hashes everything that decides the frames; equal ones mean equal frames.
        state: of a new pass, from the beginning or from a saved state; it is told the fingerprint as well. ValueError
            when the saved state cannot be used.
        about: the settings, for people.
    """

    fingerprint: Callable[[], str]
    state: Callable[[Path | None, str], PassState]
    about: Mapping[str, Any] = field(default_factory=dict)


class AvatarStream:
    """A lazily evaluated stream of frame blocks that can be started again: the type of AVATAR_STREAM edges.

    ``start()`` begins one pass and returns an iterator of uint8 CPU tensors [F, H, W, 3], ``frames`` in all
    (the last block is cut off there), or as many as come where that is None. ``audio`` is the
    ComfyUI AUDIO that belongs to the picture, both starting at 0 s, or a SpeechFeed where ``frames`` is None.
    With ``resumable``, ``start(state)`` begins a pass at a state's first frame. ``on_file``, if there is one, is
    told the path of a file that the frames are about to be written to. ``plan`` is a line about how they are made.
    """

    def __init__(
        self,
        start: Callable[..., Iterator[torch.Tensor]],
        *,
        frames: int | None,
        width: int,
        height: int,
        fps: float = 25,
        audio: dict | SpeechFeed | None = None,
        resumable: Resumable | None = None,
        on_file: Callable[[Path], None] | None = None,
        plan: str | None = None,
    ) -> None:
        for name, value in (("frames", frames), ("width", width), ("height", height), ("fps", fps)):
            if value is not None and value <= 0:
                raise ValueError(f"A stream needs {name} above 0, not {value}.")
        self._start = start
        self._frames = frames
        self.width = int(width)
        self.height = int(height)
        self.fps = fps
        self.audio = audio
        self.resumable = resumable
        self.on_file = on_file
        self.plan = plan

    def changed(self, start: Callable[..., Iterator[torch.Tensor]], **others: Any) -> AvatarStream:
        """A stream of other frames that is like this one in all but ``others``, named as when a stream is made."""
        same = {
            "frames": self._frames,
            "width": self.width,
            "height": self.height,
            "fps": self.fps,
            "audio": self.audio,
            "resumable": self.resumable,
            "on_file": self.on_file,
            "plan": self.plan,
        }
        return AvatarStream(start, **{**same, **others})

    @property
    def live(self) -> bool:
        """Whether the number of frames is not known yet."""
        return self._frames is None

    @property
    def frames(self) -> int:
        """Number of frames; ValueError when nobody knows it yet."""
        if self._frames is None:
            raise ValueError(
                "This stream is live and ends when its speech does, so nobody knows its length yet; connect it to "
                "Avatar Stream to Video."
            )
        return self._frames

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.fps

    def blocks(self, state: PassState | None = None) -> Iterator[torch.Tensor]:
        """One fresh pass over the frames, or over those from a state's first one on, as blocks uint8 [F, H, W, 3].

        The source is closed when the pass ends or is abandoned.

        Raises:
            RuntimeError: the source ends too early, or yields something else.
        """
        done = 0 if state is None else state.first_frame
        if done == self._frames:
            return
        source = self._start() if state is None else self._start(state)
        try:
            for block in source:
                self._check(block)
                block = block if self.live else block[: self.frames - done]
                done += len(block)
                yield block
                if done == self._frames:
                    return
        finally:
            if hasattr(source, "close"):
                source.close()
        if not self.live:
            raise RuntimeError(f"The frame source ended after {done} of {self.frames} frames.")

    def _check(self, block: torch.Tensor) -> None:
        expected = (self.height, self.width, 3)
        if block.dtype != torch.uint8 or block.device.type != "cpu":
            raise RuntimeError(
                f"Frame blocks must be uint8 on the CPU, but the source gave {block.dtype} on {block.device}."
            )
        if block.ndim != 4 or tuple(block.shape[1:]) != expected or len(block) == 0:
            raise RuntimeError(
                f"Frame blocks must have the shape [frames, {self.height}, {self.width}, 3], "
                f"but the source gave {list(block.shape)}."
            )


class _Pass:
    """One pass over a stream: a cursor that moves forward block by block and keeps the current block only."""

    def __init__(self, stream: AvatarStream, on_block: OnBlock | None, change: Change | None) -> None:
        self._blocks = stream.blocks()
        self._total = stream.frames
        self._on_block = on_block
        self._change = change
        self._block: torch.Tensor | None = None
        self._changed: torch.Tensor | None = None
        self.first = 0  # index of the current block's first frame

    def frame(self, index: int) -> torch.Tensor:
        """Frame ``index`` (not before ``self.first``), changed."""
        while self._block is None or index >= self.first + len(self._block):
            if self._block is not None:
                self.first += len(self._block)
            self._block = next(self._blocks)
            if self.first + len(self._block) == self._total:
                self._blocks.close()  # lets the source free its memory before the last block is used
            if self._on_block is not None:
                self._on_block(self.first + len(self._block), self._total, self._block)
            if self._change is not None:
                self._changed = self._change(self._block / 255)
        if self._changed is not None:
            return self._changed[index - self.first].clone()  # consumers may write into what they get
        return self._block[index - self.first] / 255

    def close(self) -> None:
        self._blocks.close()


class FrameStream(Sequence):
    """A stream as an IMAGE: a sequence of float32 frames [H, W, 3] in 0..1, in the memory of one block.

    Consumers that use ``len``, ``[0]``, ``shape`` and iteration (VideoHelperSuite's Video Combine, the core's
    Save Image and Create Video) never hold the whole video. Reading forward continues the pass in progress;
    reading backward starts the generation again, so two consumers of one FrameStream generate twice.
    ``on_block(done_frames, total_frames, block)`` is called for each uint8 block as it arrives.

    An operation that treats every frame by itself (cropping, inverting, resizing, ...: `frame_operations`) gives
    another FrameStream, whose blocks are changed as they arrive. Every other raises TypeError or AttributeError, which
    say how to get an ordinary batch.
    """

    def __init__(
        self, stream: AvatarStream, on_block: OnBlock | None = None, change: Change | None = None
    ) -> None:
        self.stream = stream
        self._on_block = on_block
        self._change = change
        self._pass: _Pass | None = None
        self._example: torch.Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """The shape of a tensor of the same frames: [F, H, W, 3], or the one that the changes give."""
        return torch.Size((self.stream.frames, *self._one().shape[1:]))

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the frames."""
        return self._one().dtype

    @property
    def device(self) -> torch.device:
        """The device of the frames."""
        return self._one().device

    @property
    def ndim(self) -> int:
        """Number of dimensions, with that of the frames."""
        return self._one().ndim

    def dim(self) -> int:
        """``ndim``."""
        return self.ndim

    def size(self, dim: int | None = None) -> torch.Size | int:
        """``shape``, or one entry of it."""
        return self.shape if dim is None else self.shape[dim]

    def _one(self) -> torch.Tensor:
        """A black frame [1, ...] that went through the changes, and so has the shape and type of all frames."""
        if self._example is None:
            black = torch.zeros(1, self.stream.height, self.stream.width, 3)
            self._example = black if self._change is None else self._change(black)
        return self._example

    def __len__(self) -> int:
        return self.stream.frames

    def __getitem__(self, index: Any) -> torch.Tensor | FrameStream:
        """One frame, or the frames of a slice, a list or a tensor of numbers as one tensor [N, ...]; with further
        indices, those of each frame. ``[:, ...]`` and ``[..., x]`` give a FrameStream."""
        if isinstance(index, (tuple, type(Ellipsis))):
            index, inner = operations.split_index(index if isinstance(index, tuple) else (index,), self.ndim)
            if index is not None and not operations.leaves_frames_in_front(inner):
                raise TypeError(f"To index a frame stream in this way, {ADVICE}.")
            if isinstance(index, slice) and index == slice(None):
                return self._changed(lambda frames: frames[(slice(None), *inner)])
            chosen = self[index]
            return chosen[inner if chosen.ndim < self.ndim else (slice(None), *inner)]
        if index is None:
            raise TypeError(f"To put a frame stream into another dimension, {ADVICE}.")
        if isinstance(index, slice):
            return self._gather(range(len(self))[index])
        if isinstance(index, list) or getattr(index, "ndim", 0) > 0:
            numbers = operations.frame_numbers(index, len(self))
            return self._gather([self._number(number) for number in numbers])
        index = self._number(index)
        if self._pass is not None and index < self._pass.first:
            self._drop()
        if self._pass is None:
            self._pass = _Pass(self.stream, self._on_block, self._change)
        try:
            return self._pass.frame(index)
        except BaseException:
            # A generator that raised is finished; the next read must start a fresh pass.
            self._drop()
            raise

    def _number(self, index: Any) -> int:
        try:
            return range(len(self))[index]
        except IndexError:
            raise IndexError(f"Frame {index} does not exist: the stream has {len(self)} frames.") from None

    def _gather(self, wanted: Sequence[int]) -> torch.Tensor:
        """Some frames as one tensor, read forward whatever their order is."""
        out = self._empty(len(wanted))
        for position in sorted(range(len(wanted)), key=wanted.__getitem__):
            out[position] = self[wanted[position]]
        return out

    def _empty(self, count: int) -> torch.Tensor:
        """An empty tensor for some frames; MemoryError when it does not fit in memory."""
        one = self._one()
        if one.device.type == "cpu":
            advice = "Use Avatar Stream to Video, or a shorter stream"
            check_room(count * one.nbytes, f"{count:,} of its frames at once", advice)
        return one.new_empty((count, *one.shape[1:]))

    def __iter__(self) -> Iterator[torch.Tensor]:
        # An iterator takes over a pass that is still in its first block (``images[0]`` before iterating), so
        # that block is not generated twice; taking it away also keeps two iterators independent.
        if self._pass is not None and self._pass.first == 0:
            current, self._pass = self._pass, None
        else:
            current = _Pass(self.stream, self._on_block, self._change)
        try:
            for index in range(len(self)):
                yield current.frame(index)
        finally:
            current.close()

    def __reversed__(self) -> Iterator[torch.Tensor]:
        return iter(self[::-1])

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"This IMAGE is a frame stream, which has no '{name}': {ADVICE}.")

    def __setitem__(self, index: Any, value: Any) -> None:
        raise TypeError(f"To write into a frame stream, {ADVICE}.")

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"To use a frame stream as an array, {ADVICE}.")

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Any,
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> FrameStream:
        """Applies torch's function to a frame stream: block by block where it treats every frame by itself."""
        named = kwargs or {}
        stream = next((value for value in args if isinstance(value, FrameStream)), None)
        others = tuple(value for value in args if value is not stream)
        if stream is None or not operations.treats_frames_alone(
            function.__name__, stream.ndim, args[0] is stream, others, named
        ):
            raise TypeError(f"To use a frame stream in '{function.__name__}', {ADVICE}.")
        return stream._changed(
            lambda frames: function(*(frames if value is stream else value for value in args), **named)
        )

    def _tensors_method(self, name: str, *args: Any, **kwargs: Any) -> FrameStream:
        return self.__torch_function__(getattr(torch.Tensor, name), (), (self, *args), kwargs)

    def _changed(self, change: Change) -> FrameStream:
        before = self._change
        both = change if before is None else lambda frames: change(before(frames))
        changed = FrameStream(self.stream, self._on_block, both)
        changed._one()  # what torch has against it is said here, before anything is generated
        return changed

    def to_tensor(self) -> torch.Tensor:
        """All frames as an ordinary IMAGE, from a fresh pass; float32 [F, H, W, 3] in 0..1 unless they were changed."""
        out = self._empty(len(self))
        done = 0
        for block in self.stream.blocks():
            frames = block / 255
            out[done : done + len(block)] = frames if self._change is None else self._change(frames)
            done += len(block)
            if self._on_block is not None:
                self._on_block(done, len(self), block)
        return out

    def _drop(self) -> None:
        if self._pass is not None:
            self._pass.close()
            self._pass = None


for _name in (*operations.METHODS, *operations.REFUSED):
    setattr(FrameStream, _name, partialmethod(FrameStream._tensors_method, _name))
