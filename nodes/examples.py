"""The shipped example files in ComfyUI's input folder, so that the demo runs at the first click."""

from __future__ import annotations

import logging
from pathlib import Path

import folder_paths

from ..loaders.liveavatar.folders import TALKER

PREFIX = "liveavatar_"
INSTALLED = Path("liveavatar") / "installed_examples.txt"
"""Below the host's user folder: names that were put there once, and are not again where somebody has deleted them."""

logger = logging.getLogger(__name__)


def install_examples() -> None:
    """Copy what is new; nothing is overwritten. A folder that cannot be written is said in the log."""
    noted = Path(folder_paths.get_user_directory()) / INSTALLED
    target = Path(folder_paths.get_input_directory())
    try:
        known = noted.read_text(encoding="utf-8").splitlines() if noted.is_file() else []
        new = [file for file in sorted((TALKER / "example").iterdir()) if file.name not in known]
        for file in new:
            _copy(file, target / f"{PREFIX}{file.name}")
        if new:
            noted.parent.mkdir(parents=True, exist_ok=True)
            noted.write_text("\n".join([*known, *(file.name for file in new)]) + "\n", encoding="utf-8")
    except OSError as error:
        logger.warning(
            "LiveAvatar: copy the files of %s to %s by hand, the demo needs them: %s.",
            TALKER / "example",
            target,
            error,
        )


def _copy(source: Path, target: Path) -> None:
    try:
        with target.open("xb") as file:
            file.write(source.read_bytes())
    except FileExistsError:
        pass  # somebody's own, or another host's that started at the same time
