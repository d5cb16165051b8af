"""Checks names of files that come with a workflow."""

from __future__ import annotations

import os
import re
from pathlib import Path

from .values import shown

FORBIDDEN = '<>:"|?*'
"""Windows allows these in no name of a file, and a page that takes a name for HTML would run it."""
PLACEHOLDER = re.compile(r"%[\w:. -]+%")
"""Replaced before the file is made, as in %date:yyyy-MM-dd%."""
LONGEST = 200
"""Bytes of a name, of the 255 that file systems allow: a number and an ending follow."""


def check_prefix(prefix: str) -> None:
    """ValueError, in one sentence, for a ``filename_prefix`` that no file can be named by."""
    if "\0" in prefix or any(0xD800 <= ord(letter) < 0xE000 for letter in prefix):
        raise ValueError(
            f"Take NUL and the halves of characters out of filename_prefix: no file can be called {shown(prefix)}."
        )
    if found := "".join(sorted(set(FORBIDDEN) & set(PLACEHOLDER.sub("", os.path.splitdrive(prefix)[1])))):
        raise ValueError(f"Take {' '.join(found)} out of filename_prefix: {shown(prefix)}.")
    *folders, name = Path(os.path.normpath(prefix)).parts or ("",)
    if folders and folders[0] == "..":
        raise leads_out(prefix)
    if not prefix.strip() or name in ("", ".", "..", os.sep):
        raise ValueError(f"End filename_prefix with a name for the file: it is {shown(prefix)}.")
    if any(len(part.encode()) > LONGEST for part in Path(prefix).parts) or len(prefix.encode()) > 2 * LONGEST:
        raise ValueError(
            f"Shorten filename_prefix: a name may have {LONGEST} bytes, with its folders {2 * LONGEST}."
        )


def leads_out(prefix: str) -> ValueError:
    """The error for a prefix that would write elsewhere."""
    return ValueError(f"Choose a filename_prefix inside ComfyUI's output folder: {shown(prefix)} leads out.")
