"""The state of a video between two segments in a file, so that another process goes on with it bit for bit.

A segment depends on those before it through a few latents and frames only, so a state takes some megabytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import safe_open

from ..parts.saved_tensors import Lazily, read_metadata, save_tensors

if TYPE_CHECKING:
    from .pipeline import Segments


class SegmentState:
    """Where one pass over a video is: handed to `generate`, then saved whenever a segment is over.

    Args:
        source: a saved state to go on from; None to begin at the beginning. ValueError when it cannot be read,
            is not what was saved, or belongs to another video.
        fingerprint: of what decides the video.
        check_interrupt: called while a saved state is looked through; raises to stop.
    """

    def __init__(
        self,
        source: Path | None = None,
        fingerprint: str = "",
        check_interrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self._source, self._fingerprint = source, fingerprint
        self._segments: Segments | None = None
        self.first_frame = 0
        if source is not None:
            self._metadata = read_metadata(source, fingerprint, check_interrupt)
            self.first_frame = int(self._metadata["frames"])

    @property
    def frames(self) -> int | None:
        """Video frames that the pass has reached; None within a segment, and before the first one."""
        segments = self._segments
        return segments.done if segments is not None and segments.done and not segments.left else None

    def settle(self) -> None:
        """Nothing is under way at the end of a segment, which comes by itself."""

    def attach(self, segments: Segments) -> None:
        """Bring new segments to where the pass begins."""
        self._segments = segments
        if self._source is not None:
            with safe_open(self._source, "pt") as file:
                segments.restore(Lazily(file), int(self._metadata["segments"]), self.first_frame)

    def release(self) -> None:
        """Let go of the segments and their memory; nothing can be saved any more."""
        self._segments = None

    def size(self) -> int:
        """Bytes that saving takes now."""
        return sum(tensor.nbytes for tensor in self._segments.state().values())

    def save(self, path: Path) -> None:
        """Replace the file in one step. OSError when the disk is full."""
        if self.frames is None:
            raise RuntimeError("There is no whole segment whose state could be saved.")
        metadata = {
            "fingerprint": self._fingerprint,
            "segments": str(self._segments.number),
            "frames": str(self.frames),
        }
        save_tensors(path, self._segments.state(), metadata)
