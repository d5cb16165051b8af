"""Writes an mp4 that plays at every moment while it grows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import av
import torch

from .fragments import FragmentEncoder
from .journal import Journal, forget, growing_path, lock, take_back, unfinished
from .speech_feed import SpeechFeed


class VideoWriter:
    """An mp4 file (H.264, AAC) to which blocks of frames are added.

    After every ``write`` the file holds that block and its sound, and plays, whatever happens to the process.
    ``close`` turns the fragmented file into an ordinary one with an index at its front, in which players can
    seek and whose length every reader knows; that copies the packets once (no encoding) and needs room for a
    second copy meanwhile. For the audio rules see FragmentEncoder.

    With a ``fingerprint`` of what decides the video, a journal next to the file lets another writer go on with it
    after this one has ended early, by an error or with its process: given a path whose journal has the same
    fingerprint, a writer begins at ``frames_written`` frames. A file that is left by an error inside ``with`` becomes
    an ordinary one too, and its growing form is kept beside it until a writer goes on with it. ``about`` is written
    into the journal for people to read.

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
        audio: Mapping | SpeechFeed | None = None,
        crf: int = 18,
        preset: str = "veryfast",
        metadata: Mapping[str, object] | None = None,
        fingerprint: str | None = None,
        about: Mapping[str, object] | None = None,
    ) -> None:
        self.path = Path(path)
        begun = None if fingerprint is None else unfinished(self.path, fingerprint)
        self._journal = begun or (None if fingerprint is None else Journal(fingerprint, about=about or {}))
        self.frames_written = begun.frames if begun else 0
        self._encoder = FragmentEncoder(
            width=width,
            height=height,
            fps=fps,
            audio=audio,
            crf=crf,
            preset=preset,
            metadata=metadata,
            frames=self.frames_written,
            fragments=begun.fragments if begun else 0,
        )
        if self.path.exists() and not self.path.is_file():
            raise OSError(f"Cannot write the video {self.path}: that is no ordinary file.")
        self._size = begun.size if begun else 0
        try:
            if begun:
                take_back(self.path)
            self._file = open(self.path, "r+b" if begun else "wb", buffering=0)  # noqa: SIM115  (closed by close)
            lock(self._file)
            self._file.truncate(self._size)
            self._file.seek(self._size)
        except OSError as error:
            raise OSError(f"Cannot write the video {self.path}: {error.strerror}.") from error

    @property
    def size(self) -> int:
        """Bytes that the file holds."""
        return self._size

    @property
    def fingerprint(self) -> str | None:
        """Of what decides the video, if it has a journal."""
        return self._journal and self._journal.fingerprint

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
            if self._journal:
                encoder, size = self._encoder, self._file.tell()
                self._journal = replace(
                    self._journal, frames=encoder.frames, fragments=encoder.fragments, size=size
                )
                self._journal.write(self.path)
        except OSError as error:
            self._keep_whole_blocks()
            raise self._explain("Cannot go on writing", error) from error
        self._size = self._file.tell()
        self.frames_written = self._encoder.frames

    def close(self, *, complete: bool = True) -> None:
        """Finish the file. A file without any frame is removed. Calling it again does nothing.

        ``complete=False`` keeps, where there is a journal, what is needed to go on.
        """
        if self._file.closed:
            return
        self._file.close()
        if self.frames_written == 0:
            self.path.unlink(missing_ok=True)
            return
        finished = self.path.with_name(self.path.name + ".finishing.mp4")
        try:
            self._rewrite(finished)
            if self._journal and not complete:
                os.replace(self.path, growing_path(self.path))
            os.replace(finished, self.path)
            if self._journal and complete:
                forget(self.path)
        except (OSError, av.error.FFmpegError) as error:
            raise self._explain("Cannot add a seek index to", error) from error
        finally:
            finished.unlink(missing_ok=True)

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(complete=kind is None)

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
        if self.frames_written and self._journal:
            kept += ", and the same run can go on from there"
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
