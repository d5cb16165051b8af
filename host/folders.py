"""Files in the folders that ComfyUI gives and takes."""

from __future__ import annotations

from pathlib import Path

import folder_paths

SHOWN_LETTERS = 80


def inside(name: str) -> Path:
    """A file of the host's input, output or temporary folder; ValueError for one elsewhere."""
    plain, folder = folder_paths.annotated_filepath(name)
    root = Path(folder or folder_paths.get_input_directory()).resolve()
    shown = f"{name!r:.{SHOWN_LETTERS}}"
    try:
        path = (root / plain).resolve()
        if path.is_relative_to(root):
            path.is_file()  # raises where the name is too long
            return path
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Name a file inside ComfyUI's input folder: {shown} is no name of a file."
        ) from error
    raise ValueError(f"Name a file inside ComfyUI's input folder: {shown} leads out.")
