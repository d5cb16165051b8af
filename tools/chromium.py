"""Finding a Chromium or Chrome for the tests that click through the page."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from .environment import logged, say

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FOLDERS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "{ProgramFiles}/Google/Chrome/Application/chrome.exe",
    "{LOCALAPPDATA}/Google/Chrome/Application/chrome.exe",
)
MISSING = (
    "No Chromium or Chrome was found, so the tests in the browser cannot run: "
    "install one or set CHROME_PATH to its program."
)


def find_chromium() -> Path | None:
    """The browser of this machine: ``CHROME_PATH``, else one on ``PATH``, else one in its usual folder."""
    named = os.environ.get("CHROME_PATH")
    if named:
        return Path(named) if Path(named).is_file() else None
    for program in PROGRAMS:
        found = shutil.which(program)
        if found:
            return Path(found)
    known = {"ProgramFiles": "", "LOCALAPPDATA": "", **os.environ}
    places = (Path(folder.format_map(known)) for folder in FOLDERS)
    return next((place for place in places if place.is_file()), None)


def ensure_chromium() -> Path | None:
    """The browser, installed with apt first where that is possible without asking (Debian as root)."""
    found = find_chromium()
    apt = shutil.which("apt-get")
    if found or os.environ.get("CHROME_PATH") or apt is None or os.name == "nt" or os.geteuid() != 0:
        return found
    say("installing Chromium")
    logged([apt, "update", "-q"])
    logged([apt, "install", "-y", "-q", "--no-install-recommends", "chromium"])
    return find_chromium()
