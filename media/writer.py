"""Writes an mp4 that plays at every moment while it grows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import av
import torch

from .fragments import FragmentEncoder


class VideoWriter:
    """An mp4 file (H.264, AAC) to which blocks of frames are added.

    After every ``write`` the file holds that block and its sound, and plays, whatever happens to the process.
    ``close`` turns the fragmented file into an ordinary one with an index at its front, in which players can
    seek and whose length every reader knows; that copies the packets once (no encoding) and needs room for a
    second copy meanwhile. For the audio rules see FragmentEncoder.

    ``metadata`` (such as the workflow and prompt) is stored as the core's Save Video stores it: text as it
    is, anything else as JSON. Raises ValueError for odd sizes and bad audio, before the file is made, and
    OSError, in one sentence, where the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        *,
        width: int,
        height: int,
        fps: float = 25,
        audio: Mapping | None = None,
        crf: int = 18,
        preset: str = "veryfast",
        metadata: Mapping[str, object] | None = None,
    ) -> None:
        self.path = Path(path)
        self.frames_written = 0
        self._encoder = FragmentEncoder(
            width=width, height=height, fps=fps, audio=audio, crf=crf, preset=preset, metadata=metadata
        )
        if self.path.exists() and not self.path.is_file():
            raise OSError(f"Cannot write the video {self.path}: that is no ordinary file.")
        try:
            self._file = open(self.path, "wb", buffering=0)  # noqa: SIM115  (closed by close)
        except OSError as error:
            raise OSError(f"Cannot write the video {self.path}: {error.strerror}.") from error
        self._size = 0

    @property
    def seconds_written(self) -> float:
        """Length of what the file holds."""
        return float(self.frames_written / self._encoder.fps)

    @property
    def mime_type(self) -> str:
        """The type of what is written, with its codecs, as a browser wants to hear it; known after a ``write``."""
        return self._encoder.mime_type

    def write(self, frames: torch.Tensor) -> None:
        """Add a block, uint8 [F, H, W, 3]. Each call makes one keyframe, so hand over whole blocks."""
        if self._file.closed:
            raise ValueError(f"The video {self.path} is closed; nothing can be added.")
        fragment = memoryview(self._encoder.encode(frames))
        try:
            while fragment:
                fragment = fragment[self._file.write(fragment) :]
        except OSError as error:
            self._keep_whole_blocks()
            raise self._explain("Cannot go on writing", error) from error
        self._size = self._file.tell()
        self.frames_written = self._encoder.frames

    def close(self) -> None:
        """Finish the file. A file without any frame is removed. Calling it again does nothing."""
        if self._file.closed:
            return
        self._file.close()
        if self.frames_written == 0:
            self.path.unlink(missing_ok=True)
            return
        finished = self.path.with_name(self.path.name + ".finishing.mp4")
        try:
            self._rewrite(finished)
            os.replace(finished, self.path)
        except (OSError, av.error.FFmpegError) as error:
            raise self._explain("Cannot add a seek index to", error) from error
        finally:
            finished.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _keep_whole_blocks(self) -> None:
        """Cut off the part of a block that was written before an error, and write no more."""
        with self._file:
            self._file.truncate(self._size)
        if self.frames_written == 0:
            self.path.unlink(missing_ok=True)

    def _explain(self, what: str, error: OSError | av.error.FFmpegError) -> OSError:
        kept = (
            f"the first {self.seconds_written:.1f} s ({self.frames_written} frames) are kept there and play"
            if self.frames_written
            else "nothing was kept"
        )
        return OSError(f"{what} the video {self.path} ({error.strerror}); {kept}.")

    def _rewrite(self, target: Path) -> None:
        """Copy all packets to an ordinary mp4; the last sound packet ends with the picture."""
        options = {"movflags": "faststart+use_metadata_tags"}
        with (
            av.open(str(self.path)) as source,
            av.open(str(target), "w", format="mp4", options=options) as out,
        ):
            for name, value in source.metadata.items():
                if name not in ("major_brand", "minor_version", "compatible_brands", "encoder"):
                    out.metadata[name] = value
            streams = {stream: out.add_stream_from_template(stream, opaque=True) for stream in source.streams}
            for packet in source.demux():
                if packet.dts is None:  # the marker at the end of each stream
                    continue
                if packet.stream.type == "audio":
                    packet.duration = min(packet.duration, self._encoder.audio_samples - packet.pts)
                packet.stream = streams[packet.stream]
                out.mux(packet)
