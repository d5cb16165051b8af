"""Writes an mp4 that plays at every moment while it grows."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import av
import torch

from .file_lock import lock
from .fragments import FragmentEncoder
from .journal import Journal, finishing_path, forget, growing_path
from .speech_feed import SpeechFeed
from .unfinished import Claim, claim, take_back


class _Lost(OSError):
    """The file is not where it was written, or not what was written."""


class VideoWriter:
    """An mp4 file (H.264, AAC) to which blocks of frames are added.

    After every ``write`` the file holds that block and its sound, and plays, whatever happens to the process.
    ``close`` turns the fragmented file into an ordinary one with an index at its front, in which players can
    seek and whose length every reader knows; that copies the packets once (no encoding), so the disk holds the video
    twice meanwhile. For the audio rules see FragmentEncoder.

    With a ``fingerprint`` of what decides the video, a journal next to the file lets another writer go on with it
    after this one has ended early, by an error or with its process: given a path whose journal has the same
    fingerprint, a writer begins at ``frames_written`` frames, with a key frame. A file that is left by an error inside
    ``with`` becomes an ordinary one too, and its growing form is kept beside it until a writer goes on with it.
    ``about`` is written into the journal for people to read.

    ``metadata`` (such as the workflow and prompt) is stored as the core's Save Video stores it: text as it
    is, anything else as JSON. Errors say in one sentence what is wrong.

    Raises:
        ValueError: a side is odd, or the audio is bad; before the file is made.
        FileExistsError: there is a file that this writer cannot go on with; none is overwritten.
        OSError: the file cannot be written, or was deleted, moved or changed meanwhile.
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
        if self.path.exists() and not self.path.is_file():
            raise OSError(f"Cannot write the video {self.path}: that is no ordinary file.")
        claimed = None if fingerprint is None else claim(self.path, fingerprint)
        begun = claimed and claimed.journal
        self._digest = claimed.digest if claimed else hashlib.sha256()
        self._journal = begun
        if fingerprint is not None and begun is None:
            self._journal = Journal(fingerprint, digest=self._digest.hexdigest(), about=about or {})
        self.frames_written = begun.frames if begun else 0
        self._size = begun.size if begun else 0
        with ExitStack() as stack:
            if claimed:
                stack.callback(claimed.file.close)
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
            self._file = self._open(claimed)  # closed by close
            stack.pop_all()

    @property
    def size(self) -> int:
        """Bytes that the file holds."""
        return self._size

    @property
    def fingerprint(self) -> str | None:
        """The hash of everything that decides the video, if it has a journal."""
        return self._journal and self._journal.fingerprint

    @property
    def seconds_written(self) -> float:
        """Seconds of video in the file."""
        return float(self.frames_written / self._encoder.fps)

    @property
    def mime_type(self) -> str:
        """The file's media type with its codecs, for a browser; known after a ``write``."""
        return self._encoder.mime_type

    @property
    def joinable(self) -> bool:
        """Whether a player can begin with the newest block."""
        return self._encoder.joinable

    def write(self, frames: torch.Tensor) -> None:
        """Add a block, uint8 [F, H, W, 3]. Each call makes one fragment, so hand over whole blocks."""
        if self._file.closed:
            raise ValueError(f"The video {self.path} is closed; nothing can be added.")
        self._check_still_there()
        encoded = self._encoder.encode(frames)
        fragment = memoryview(encoded)
        try:
            while fragment:
                fragment = fragment[self._file.write(fragment) :]
            if self._journal:
                encoder, size = self._encoder, self._file.tell()
                self._digest.update(encoded)
                self._journal = replace(
                    self._journal,
                    frames=encoder.frames,
                    fragments=encoder.fragments,
                    size=size,
                    digest=self._digest.hexdigest(),
                )
                self._journal.write(self.path)
        except OSError as error:
            self._keep_whole_blocks()
            raise self._explain("Cannot go on writing", error) from error
        self._size = self._file.tell()
        self.frames_written = self._encoder.frames

    def close(self, *, complete: bool = True) -> None:
        """Finish the file. A file without any frame is removed. Calling it again does nothing.

        With ``complete=False`` a video with a journal keeps everything that a later run needs to go on.
        """
        if self._file.closed:
            return
        finished = finishing_path(self.path)
        try:
            self._check_still_there()
            if self.frames_written == 0:
                self._remove()
                return
            self._rewrite(finished)
            if os.name == "nt":
                self._file.close()  # it renames no open files; elsewhere nobody takes the file before all is done
            if self._journal and not complete:
                os.replace(self.path, growing_path(self.path))
            os.replace(finished, self.path)
            if self._journal and complete:
                forget(self.path)
        except _Lost as error:
            if complete:
                raise
            logging.warning("LiveAvatar: %s", error)  # whatever ended the run is told
        except (OSError, av.error.FFmpegError) as error:
            raise self._explain("Cannot add a seek index to", error) from error
        finally:
            finished.unlink(missing_ok=True)
            self._file.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self.close(complete=kind is None)

    def _open(self, claimed: Claim | None) -> BinaryIO:
        try:
            file = take_back(self.path, claimed) if claimed else self._create()
            file.truncate(self._size)
            file.seek(self._size)
        except OSError as error:
            kind = FileExistsError if isinstance(error, FileExistsError) else OSError
            raise kind(f"Cannot write the video {self.path}: {error.strerror}.") from error
        return file

    def _create(self) -> BinaryIO:
        """A new file. The journal is there before it, so that whatever a killed run leaves can be told from files of
        others, and gone on with or removed."""
        if self._journal and not self.path.exists():
            self._journal.write(self.path)
        file = self.path.open("xb", buffering=0)
        if not lock(file) or not self.path.exists():  # another run may have cleared it away before the lock
            file.close()
            raise FileExistsError(errno.EEXIST, "another run is writing it")
        return file

    def _check_still_there(self) -> None:
        """OSError when the file was changed or moved; nothing is written then, now or later."""
        held = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except OSError:
            there = None
        # Some network shares give a file another number each time.
        same = there is not None and (os.path.samestat(there, held) or there.st_size == self._size)
        if same and held.st_size == self._size:
            return
        what, left = "changed by another program", "it may not play"
        if not same:
            what = "deleted" if held.st_nlink == 0 else "renamed or moved"
            left = (
                "nothing of it is left"
                if held.st_nlink == 0
                else f"{self._made()} are where it is now and play"
            )
        self._file.close()
        forget(self.path)
        raise _Lost(
            f"Queue this again to make it anew: the video {self.path} was {what} while it was made; {left}."
        )

    def _keep_whole_blocks(self) -> None:
        """Cut off the part of a block that was written before an error, and write no more."""
        with self._file:
            self._file.truncate(self._size)
            if self.frames_written == 0:
                self._remove()

    def _remove(self) -> None:
        """Remove a file without frames."""
        if os.name == "nt":
            self._file.close()
        self.path.unlink(missing_ok=True)
        if self._journal:
            forget(self.path)

    def _made(self) -> str:
        return f"the first {self.seconds_written:.1f} s ({self.frames_written} frames)"

    def _explain(self, what: str, error: OSError | av.error.FFmpegError) -> OSError:
        kept = f"{self._made()} are kept there and play" if self.frames_written else "nothing was kept"
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
