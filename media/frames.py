"""Frame blocks as they are generated, and a view on them that behaves like a batch of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from .speech_feed import SpeechFeed

OnBlock = Callable[[int, int, torch.Tensor], None]


class PassState(Protocol):
    """Where one pass over a stream is, for a later run that goes on there.

    Attributes:
        first_frame: the frame with which the pass begins.
        frames: how many frames of the video are covered by what ``save`` would write; None while it cannot.
    """

    first_frame: int
    frames: int | None

    def size(self) -> int:
        """Bytes that ``save`` takes now."""

    def save(self, path: Path) -> None:
        """Write the state; OSError where it cannot."""

    def release(self) -> None:
        """Let go of the memory of the pass."""


@dataclass(frozen=True)
class Resumable:
    """How a later run goes on with a stream.

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
    (what the last block has beyond that is cut off), or as many as come where that is None. ``audio`` is the
    ComfyUI AUDIO that belongs to the picture, both starting at 0 s, or a SpeechFeed where ``frames`` is None.
    With ``resumable``, ``start(state)`` begins a pass at a state's first frame.
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

    @property
    def live(self) -> bool:
        """Whether nobody knows how many frames there will be."""
        return self._frames is None

    @property
    def frames(self) -> int:
        """How many frames there are; ValueError when nobody knows it yet."""
        if self._frames is None:
            raise ValueError(
                "This stream is live and ends when its speech does, so nobody knows its length yet; connect it to "
                "LiveAvatar Stream to Video."
            )
        return self._frames

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.frames / self.fps

    def blocks(self, state: PassState | None = None) -> Iterator[torch.Tensor]:
        """One fresh pass over the frames, or over those from a state's first one on: uint8 [F, H, W, 3] blocks; the
        source is closed when the pass ends or is abandoned. Raises RuntimeError where the source ends short or
        yields something else."""
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

    def __init__(self, stream: AvatarStream, on_block: OnBlock | None) -> None:
        self._blocks = stream.blocks()
        self._total = stream.frames
        self._on_block = on_block
        self._block: torch.Tensor | None = None
        self.first = 0  # index of the current block's first frame

    def frame(self, index: int) -> torch.Tensor:
        """Frame ``index`` (not before ``self.first``) as float32 [H, W, 3]."""
        while self._block is None or index >= self.first + len(self._block):
            if self._block is not None:
                self.first += len(self._block)
            self._block = next(self._blocks)
            if self.first + len(self._block) == self._total:
                self._blocks.close()  # lets the source free its memory before the last block is used
            if self._on_block is not None:
                self._on_block(self.first + len(self._block), self._total, self._block)
        return self._block[index - self.first] / 255

    def close(self) -> None:
        self._blocks.close()


class FrameStream(Sequence):
    """A stream as an IMAGE: a sequence of float32 frames [H, W, 3] in 0..1, in the memory of one block.

    Consumers that use ``len``, ``[0]``, ``shape`` and iteration (VideoHelperSuite's Video Combine, the core's
    Save Image and Create Video) never hold the whole video. Reading forward continues the pass in progress;
    reading backward starts the generation again, so two consumers of one FrameStream generate twice.
    ``on_block(done_frames, total_frames, block)`` is called for each uint8 block as it arrives.
    """

    dtype = torch.float32
    device = torch.device("cpu")
    ndim = 4

    def __init__(self, stream: AvatarStream, on_block: OnBlock | None = None) -> None:
        self.stream = stream
        self._on_block = on_block
        self._pass: _Pass | None = None

    @property
    def shape(self) -> torch.Size:
        """[F, H, W, 3], as a tensor of the same frames would have."""
        return torch.Size((self.stream.frames, self.stream.height, self.stream.width, 3))

    def size(self, dim: int | None = None) -> torch.Size | int:
        """``shape``, or one entry of it."""
        return self.shape if dim is None else self.shape[dim]

    def __len__(self) -> int:
        return self.stream.frames

    def __getitem__(self, index: int | slice) -> torch.Tensor:
        """One frame [H, W, 3], or the frames of a slice as one tensor [N, H, W, 3]."""
        if isinstance(index, slice):
            wanted = range(len(self))[index]
            out = torch.empty((len(wanted), *self.shape[1:]))
            # A negative step is read forward and filled from the end.
            for position in range(len(wanted)) if wanted.step > 0 else reversed(range(len(wanted))):
                out[position] = self[wanted[position]]
            return out
        try:
            index = range(len(self))[index]
        except IndexError:
            raise IndexError(f"Frame {index} does not exist: the stream has {len(self)} frames.") from None
        if self._pass is not None and index < self._pass.first:
            self._drop()
        if self._pass is None:
            self._pass = _Pass(self.stream, self._on_block)
        try:
            return self._pass.frame(index)
        except BaseException:
            # A generator that raised is finished; the next read must start a fresh pass.
            self._drop()
            raise

    def __iter__(self) -> Iterator[torch.Tensor]:
        # An iterator takes over a pass that is still in its first block (``images[0]`` before iterating), so
        # that block is not generated twice; taking it away also keeps two iterators independent.
        if self._pass is not None and self._pass.first == 0:
            current, self._pass = self._pass, None
        else:
            current = _Pass(self.stream, self._on_block)
        try:
            for index in range(len(self)):
                yield current.frame(index)
        finally:
            current.close()

    def __getattr__(self, name: str):
        raise AttributeError(
            f"This IMAGE is a frame stream, which has no '{name}': the node it is connected to needs all frames "
            "at once, so switch the stream output to an ordinary image batch."
        )

    def to_tensor(self) -> torch.Tensor:
        """All frames as an ordinary IMAGE, float32 [F, H, W, 3] in 0..1, from a fresh pass."""
        out = torch.empty(self.shape)
        done = 0
        for block in self.stream.blocks():
            view = out[done : done + len(block)]
            torch.div(block, 255, out=view)
            done += len(block)
            if self._on_block is not None:
                self._on_block(done, len(self), block)
        return out

    def _drop(self) -> None:
        if self._pass is not None:
            self._pass.close()
            self._pass = None
