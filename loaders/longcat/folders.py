"""Finds LongCat's checkpoints, LoRAs and speech encoders in ``models/longcat`` and in ComfyUI's own folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..files import PICKLES, SAFETENSORS
from ..gguf_file import GGUF
from ..hub import LONGCAT_1_0, LONGCAT_1_5, known_files, resolve_snapshot
from ..wan.wav2vec2 import AudioEncoder
from .encoders import WhisperAudioEncoder, load_wav2vec2

FOLDER = "longcat"
MARK = "longcat"
"""What single files in ``models/diffusion_models`` have in their names."""
AUTO, NO_LORA = "auto", "none"
DMD = "dmd_lora"
Progress = Callable[[int, int], None]

PUBLISHED = {
    "LongCat-Video-Avatar-1.5/base_model": LONGCAT_1_5,
    "LongCat-Video-Avatar-1.5/base_model_int8": LONGCAT_1_5,
    "LongCat-Video-Avatar/avatar_single": LONGCAT_1_0,
    "LongCat-Video-Avatar/avatar_multi": LONGCAT_1_0,
}
"""Checkpoints by the names that are chosen, and their repositories on the hub."""
ENCODERS = {"1.0": (LONGCAT_1_0, "chinese-wav2vec2-base"), "1.5": (LONGCAT_1_5, "whisper-large-v3")}


def checkpoint_names() -> list[str]:
    """Checkpoints that can be chosen: the published ones, folders in ``models/longcat``, and single files, GGUF
    as well, whose name has longcat in it in ``models/diffusion_models``."""
    import folder_paths

    files = [name for name in folder_paths.get_filename_list("diffusion_models") if _is_single(name)]
    return [*PUBLISHED, *sorted(_folders().keys() - PUBLISHED.keys()), *files, *_gguf_files()]


def lora_names() -> list[str]:
    """LoRAs that can be chosen: by the checkpoint, none, the published one, and files of ``models/longcat/*/lora`` and
    of ``models/loras``."""
    import folder_paths

    return [AUTO, NO_LORA, *sorted({DMD, *_loras()}), *folder_paths.get_filename_list("loras")]


def find_checkpoint(name: str, download: bool, progress: Progress) -> Path:
    """The folder or file of a checkpoint from `checkpoint_names`; downloads a published one only on consent.

    FileNotFoundError says what is missing and what to do.
    """
    import folder_paths

    if name in PUBLISHED:
        part = name.partition("/")[2]
        files = known_files(PUBLISHED[name], part)
        return resolve_snapshot(PUBLISHED[name], files, _roots(), download, progress) / part
    if found := _folders().get(name):
        return found
    if path := _gguf_files().get(name) or folder_paths.get_full_path("diffusion_models", name):
        return Path(path)
    raise FileNotFoundError(
        f"Reload the page: {name} is no longer in models/{FOLDER} or models/diffusion_models."
    )


def find_lora(name: str, version: str, download: bool, progress: Progress) -> Path | None:
    """The file of a LoRA from `lora_names`, or None without one; "auto" is the one that a version is distilled with.

    FileNotFoundError says what is missing and what to do.
    """
    import folder_paths

    if name == NO_LORA or (name == AUTO and version != "1.5"):
        return None
    found = _loras()
    if name in (AUTO, DMD):
        if DMD in found:
            return found[DMD]
        files = known_files(LONGCAT_1_5, "lora")
        return resolve_snapshot(LONGCAT_1_5, files, _roots(), download, progress) / files[0]
    return found.get(name) or Path(folder_paths.get_full_path_or_raise("loras", name))


def load_encoder(
    version: str, checkpoint: Path, download: bool, progress: Progress
) -> AudioEncoder | WhisperAudioEncoder:
    """The speech encoder of a version: beside its checkpoint, else in ``models/longcat``, else from the hub on
    consent."""
    repo, name = ENCODERS[version]
    places = [place / name for place in (checkpoint.parent, *_subfolders())]
    folder = next((place for place in places if _is_encoder(place)), None)
    if folder is None:
        folder = resolve_snapshot(repo, known_files(repo, "audio"), _roots(), download, progress) / name
    return load_wav2vec2(folder) if version == "1.0" else WhisperAudioEncoder.from_folder(folder)


def _roots() -> list[Path]:
    """``models/longcat``, made known to the host, behind the entries of ``extra_model_paths.yaml``."""
    import folder_paths

    folder_paths.add_model_folder_path(FOLDER, str(Path(folder_paths.models_dir) / FOLDER))
    return [Path(root) for root in folder_paths.get_folder_paths(FOLDER)]


def _subfolders() -> list[Path]:
    return [path for root in _roots() if root.is_dir() for path in sorted(root.iterdir()) if path.is_dir()]


def _folders() -> dict[str, Path]:
    """Folders with a transformer, by the names that are chosen."""
    return {
        f"{folder.name}/{path.name}": path
        for folder in _subfolders()
        for path in sorted(folder.iterdir())
        if (path / "config.json").is_file() and _has_transformer(path)
    }


def _has_transformer(folder: Path) -> bool:
    stems = ("diffusion_pytorch_model", "quantized_model")
    # The VAE of LongCat-Video has such a file as well.
    return folder.name != "vae" and any(next(folder.glob(f"{stem}*.safetensors"), None) for stem in stems)


def _is_encoder(folder: Path) -> bool:
    """Whether a speech encoder is in a folder, rather than an unfinished download of one."""
    weights = (path for path in folder.glob("*model*") if path.suffix in (*SAFETENSORS, *PICKLES))
    return (folder / "config.json").is_file() and any(weights)


def _loras() -> dict[str, Path]:
    """LoRAs in ``models/longcat/*/lora`` by their names without ending."""
    return {
        path.stem: path
        for folder in _subfolders()
        for path in sorted((folder / "lora").glob("*.safetensors"))
    }


def _gguf_files() -> dict[str, Path]:
    """GGUF files with longcat in their names in ``models/diffusion_models``, where the host lists none by itself."""
    import folder_paths

    roots = map(Path, folder_paths.get_folder_paths("diffusion_models"))
    found = ((root, path) for root in roots for path in sorted(root.rglob(f"*{GGUF}")))
    return {path.relative_to(root).as_posix(): path for root, path in found if MARK in path.name.lower()}


def _is_single(name: str) -> bool:
    return MARK in Path(name).name.lower() and Path(name).suffix in SAFETENSORS
