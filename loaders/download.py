"""Downloading one large file so that it can be interrupted and continued, and is right when it is there.

huggingface_hub's own client no longer continues an interrupted file (since its 2.x versions each attempt
starts a new temporary file and removes it on failure), which for 10 GB shards is the difference that matters.
"""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

CHUNK = 1 << 20
ATTEMPTS = 5
TIMEOUT = 30.0
PAUSE = 1.0


class DownloadStopped(RuntimeError):
    """The connection failed for good; the part that arrived is kept, and the next call continues from there."""


class AccessDenied(RuntimeError):
    """The server wants a login, or the account has no access."""


def partial_path(target: Path, identity: str) -> Path:
    """The path of the unfinished ``target``; ``identity`` (its hash) keeps two versions of a file apart."""
    return target.with_name(f"{target.name}.{identity[:12]}.partial")


def fetch(
    url: str,
    target: Path,
    size: int,
    identity: str,
    headers: Mapping[str, str],
    progress: Callable[[int], None],
) -> None:
    """Download ``url`` to ``target``, going on where an earlier attempt stopped.

    ``identity`` is the expected SHA-256, or for small files git's SHA-1 of the blob. ``progress(bytes)``
    counts this file's bytes and may raise to interrupt. The target appears only when size and hash are right.

    Raises:
        DownloadStopped: the connection failed for good.
        AccessDenied: the server wants a login.
        OSError: the disk is full.
        ValueError: the hash is wrong, or more comes than the file has.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = partial_path(target, identity)
    failures = 0
    while (done := part.stat().st_size if part.exists() else 0) != size:
        if done > size:
            part.unlink()
            continue
        reason: Exception | None = None
        with closing(_receive(url, part, done, size, headers)) as chunks:
            while reason is None:
                try:
                    count = next(chunks)
                except StopIteration:
                    break
                except HTTPError as error:
                    _refuse(error, target.name)
                    reason = error
                except (OSError, HTTPException) as error:
                    if getattr(error, "errno", None) == errno.ENOSPC:
                        raise OSError(
                            errno.ENOSPC,
                            f"the disk is full; free some space and start again to continue: {part}",
                        ) from error
                    reason = error
                else:
                    progress(count)
        failures = 0 if part.exists() and part.stat().st_size > done else failures + 1
        if failures >= ATTEMPTS:
            raise DownloadStopped(
                f"the download of {target.name} stopped after {done:,} of {size:,} bytes "
                f"({reason or 'the server sent nothing'}); start again to continue from there"
            ) from reason
        if failures:
            time.sleep(PAUSE * failures)
    if _hash(part, size, identity, progress) != identity:
        part.unlink()
        raise ValueError(f"{target.name} arrived damaged (its hash is wrong) and was removed; start again")
    part.replace(target)


def _receive(
    url: str, part: Path, start: int, size: int, headers: Mapping[str, str]
) -> Generator[int, None, None]:
    request = Request(url)
    for name, value in headers.items():
        # "Unredirected" keeps the token away from the storage server that the hub redirects to.
        request.add_unredirected_header(name, value)
    if start:
        request.add_header("Range", f"bytes={start}-")
    with urlopen(request, timeout=TIMEOUT) as response:
        if response.status != 206:
            start = 0
        with part.open("ab" if start else "wb") as file:
            while chunk := response.read(CHUNK):
                start += len(chunk)
                if start > size:
                    raise ValueError(f"{response.url:.200} gives another file: more than {size:,} bytes")
                file.write(chunk)
                yield start


def _refuse(error: HTTPError, name: str) -> None:
    """Raise for answers that another attempt would not change."""
    if error.code in (401, 403):
        raise AccessDenied(f"the server denies access to {name} (HTTP {error.code})") from error
    if error.code < 500 and error.code not in (408, 416, 429):
        raise DownloadStopped(f"the server does not give out {name} (HTTP {error.code})") from error


def _hash(path: Path, size: int, identity: str, progress: Callable[[int], None]) -> str:
    # Git names a blob by the SHA-1 of a short header and the content.
    digest = hashlib.sha256() if len(identity) == 64 else hashlib.sha1(b"blob %d\0" % size)
    with path.open("rb") as file:
        while chunk := file.read(16 * CHUNK):
            digest.update(chunk)
            progress(size)
    return digest.hexdigest()
