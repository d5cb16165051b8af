"""Finds checkpoints and LoRAs in ``models/liveavatar`` and in ComfyUI's own folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..hub import LIVE_AVATAR, WAN_S2V, known_files, resolve_snapshot

FOLDER = "liveavatar"
COPIES = "liveavatar_float8"
"""ComfyUI's name of the folder of float8 copies, and the folder's own."""
NO_LORA = "none"
SHIPPED = "tiny talker (shipped)"
"""Name of the small checkpoint that comes with the pack, and of its LoRA."""
TALKER = Path(__file__).parents[2] / "talker"


def register() -> None:
    """Tell the host about ``models/liveavatar`` and ``models/liveavatar_float8``; entries of ``extra_model_paths.yaml``
    stay in front."""
    import folder_paths

    for name in (FOLDER, COPIES):
        folder_paths.add_model_folder_path(name, str(Path(folder_paths.models_dir) / name))


def checkpoint_names() -> list[str]:
    """Checkpoint folders that can be chosen: the published one first, then the shipped one and those on the disk."""
    published = WAN_S2V.partition("/")[2]
    local = {folder.name for folder in _checkpoints() if folder.name != published}
    return [WAN_S2V, *_shipped(), *sorted(local)]


def lora_names() -> list[str]:
    """LoRA files that can be chosen: the published one, the shipped one, those in ``models/liveavatar`` and in
    ``models/loras``."""
    import folder_paths

    published = LIVE_AVATAR.partition("/")[2]
    local = {
        f"{folder.name}/{path.name}"
        for folder in _subfolders()
        if folder.name != published and not (folder / "config.json").is_file()
        for path in folder.glob("*.safetensors")
    }
    return [LIVE_AVATAR, NO_LORA, *_shipped(), *sorted(local), *folder_paths.get_filename_list("loras")]


def find_checkpoint(name: str, download: bool, progress: Callable[[int, int], None]) -> Path:
    """The folder of a checkpoint from `checkpoint_names`; downloads the published one only on consent."""
    if name == WAN_S2V:
        return resolve_snapshot(WAN_S2V, known_files(WAN_S2V), _roots(), download, progress)
    if name in _shipped():
        return TALKER / "base"
    for folder in _checkpoints():
        if folder.name == name:
            return folder
    raise FileNotFoundError(f"The checkpoint folder {name} is no longer in models/{FOLDER}; reload the page.")


def find_lora(name: str, download: bool, progress: Callable[[int, int], None]) -> Path | None:
    """The file of a LoRA from `lora_names`, or None for "none"; downloads the published one only on consent."""
    import folder_paths

    if name == NO_LORA:
        return None
    if name in _shipped():
        return TALKER / "lora" / "liveavatar.safetensors"
    if name == LIVE_AVATAR:
        files = known_files(LIVE_AVATAR)
        return resolve_snapshot(LIVE_AVATAR, files, _roots(), download, progress) / files[0]
    for folder in _subfolders():
        if name in {f"{folder.name}/{path.name}" for path in folder.glob("*.safetensors")}:
            return folder / name.partition("/")[2]
    return Path(folder_paths.get_full_path_or_raise("loras", name))


def find_both(
    checkpoint: str, lora: str, download: bool, progress: Callable[[int, int], None]
) -> tuple[Path, Path | None]:
    """`find_checkpoint` and `find_lora`; one FileNotFoundError names all that is missing."""
    found: list[Path | None] = []
    missing: list[str] = []
    for find, name in ((find_checkpoint, checkpoint), (find_lora, lora)):
        try:
            found.append(find(name, download, progress))
        except FileNotFoundError as error:
            missing.append(str(error))
    if missing:
        if _shipped():
            missing.append(
                f"To try it without a download, choose '{SHIPPED}' as checkpoint and lora; it knows drawn faces only."
            )
        raise FileNotFoundError(" ".join(missing))
    return found[0], found[1]


def _shipped() -> list[str]:
    """The name of the shipped checkpoint and LoRA, where the pack was installed with its folder ``talker``."""
    return [SHIPPED] if (TALKER / "base" / "config.json").is_file() else []


def _roots() -> list[Path]:
    """All registered folders; downloads go to the first one."""
    import folder_paths

    return [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]


def _checkpoints() -> list[Path]:
    return [folder for folder in _subfolders() if (folder / "config.json").is_file()]


def _subfolders() -> list[Path]:
    return [path for root in _roots() if root.is_dir() for path in sorted(root.iterdir()) if path.is_dir()]
