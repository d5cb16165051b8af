"""Model folders from the Hugging Face hub: found on disk, or downloaded on explicit consent and verified."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import build_hf_headers

from .download import AccessDenied, fetch, partial_path
from .files import check_file

Progress = Callable[[int, int], None]

WAN_S2V = "Wan-AI/Wan2.2-S2V-14B"
LIVE_AVATAR = "Quark-Vision/Live-Avatar"
LONGCAT_1_0 = "meituan-longcat/LongCat-Video-Avatar"
LONGCAT_1_5 = "meituan-longcat/LongCat-Video-Avatar-1.5"

# repository -> part -> file (or alternatives "a|b") -> about how many bytes
FILE_SETS: dict[str, dict[str, dict[str, int]]] = {
    WAN_S2V: {
        "transformer": {
            "config.json": 1_000,
            "diffusion_pytorch_model.safetensors.index.json": 100_000,
            **{f"diffusion_pytorch_model-0000{i}-of-00004.safetensors": 8_150_000_000 for i in range(1, 5)},
        },
        "vae": {"Wan2.1_VAE.pth": 508_000_000},
        "text": {
            "models_t5_umt5-xxl-enc-bf16.pth": 11_362_000_000,
            "google/umt5-xxl/spiece.model": 4_500_000,
            "google/umt5-xxl/tokenizer.json": 17_000_000,
            "google/umt5-xxl/tokenizer_config.json": 60_000,
            "google/umt5-xxl/special_tokens_map.json": 7_000,
        },
        "audio": {
            "wav2vec2-large-xlsr-53-english/config.json": 2_000,
            "wav2vec2-large-xlsr-53-english/preprocessor_config.json": 1_000,
            "wav2vec2-large-xlsr-53-english/vocab.json": 1_000,
            "wav2vec2-large-xlsr-53-english/model.safetensors"
            "|wav2vec2-large-xlsr-53-english/pytorch_model.bin": 1_262_000_000,
        },
    },
    LIVE_AVATAR: {"lora": {"liveavatar.safetensors": 1_350_000_000}},
    LONGCAT_1_0: {
        **{
            part: {f"{part}/config.json": 1_000, f"{part}/diffusion_pytorch_model*": 31_750_000_000}
            for part in ("avatar_single", "avatar_multi")
        },
        "audio": {
            "chinese-wav2vec2-base/config.json": 2_000,
            "chinese-wav2vec2-base/preprocessor_config.json": 1_000,
            "chinese-wav2vec2-base/pytorch_model.bin": 380_000_000,
        },
    },
    LONGCAT_1_5: {
        "base_model": {
            "base_model/config.json": 1_000,
            "base_model/diffusion_pytorch_model.safetensors.index.json": 200_000,
            **{
                f"base_model/diffusion_pytorch_model-0000{i}-of-00006.safetensors": 5_284_000_000
                for i in range(1, 7)
            },
        },
        "base_model_int8": {
            "base_model_int8/config.json": 1_000,
            "base_model_int8/quantization_config.json": 1_000,
            "base_model_int8/quantized_model.safetensors.index.json": 300_000,
            **{
                f"base_model_int8/quantized_model-0000{i}-of-00004.safetensors": 3_970_000_000
                for i in range(1, 5)
            },
        },
        "lora": {"lora/dmd_lora.safetensors": 2_520_000_000},
        "audio": {
            "whisper-large-v3/config.json": 2_000,
            "whisper-large-v3/model.safetensors|whisper-large-v3/model.safetensors.index.json": 3_090_000_000,
        },
    },
}

SHORT_LIST = 6

# Bytes of the disk that a download leaves free.
SPARE_BYTES = 256 << 20


def known_files(repo: str, *parts: str) -> list[str]:
    """The files of a repository in FILE_SETS, for the parts named ("transformer", "vae", ...) or for all."""
    sets = FILE_SETS[repo]
    return [name for part in parts or sets for name in sets[part]]


def resolve_snapshot(
    repo_or_folder: str,
    files: Sequence[str],
    roots: Path | Sequence[Path],
    download: bool,
    progress: Progress | None = None,
) -> Path:
    """The folder that holds ``files`` of a hub repository ("owner/name") or of a local folder.

    A repository lives in ``<root>/<name>`` of any of the ``roots``; complete, it is used without network, and it
    is completed where most of it is, in the first one when it is nowhere. ``files`` are paths inside it, each a
    name, a pattern ("google/umt5-xxl/*") or alternatives ("model.safetensors|pytorch_model.bin": the first that
    exists). With ``download`` missing and half-written files are fetched: an interrupted download is continued,
    every file is checked by size and hash. ``progress(done_bytes, total_bytes)`` is called from this thread and may
    raise to interrupt.

    Raises:
        FileNotFoundError: the folder or a file is absent; the message says what to do.
        ConnectionError: there is no network.
        PermissionError: the repository is gated, and a login is needed.
        OSError: the disk is too small.
        RuntimeError: the download stopped half-way; another call continues it.
        ValueError: the repository has no such file, or a hash is wrong.
    """
    local = Path(repo_or_folder).expanduser()
    if local.is_dir():
        if faults := _faults(local, files):
            raise FileNotFoundError(f"the folder {local} is not complete: {_listed(faults.values())}")
        return local
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", repo_or_folder):
        raise FileNotFoundError(
            f"{repo_or_folder} is neither an existing folder nor a hub repository (owner/name)"
        )
    places = [
        root / repo_or_folder.partition("/")[2] for root in ([roots] if isinstance(roots, Path) else roots)
    ]
    lacking = [_faults(place, files) for place in places]
    faults = min(lacking, key=len)
    folder = places[lacking.index(faults)]
    if not faults:
        return folder
    if not download:
        raise FileNotFoundError(_what_to_do(repo_or_folder, folder, faults))
    _download(repo_or_folder, folder, files, progress or (lambda done, total: None))
    if faults := _faults(folder, files):
        raise RuntimeError(f"{folder} is still not complete after the download: {_listed(faults.values())}")
    return folder


@dataclass(frozen=True)
class _Remote:
    name: str
    size: int
    identity: str  # SHA-256 (large files) or git's SHA-1


def _download(repo: str, folder: Path, files: Sequence[str], progress: Progress) -> None:
    revision, wanted = _remote_files(repo, files)
    absent = [file for file in wanted if not _is_there(folder, file)]
    total = sum(file.size for file in wanted)
    done = total - sum(file.size for file in absent)
    _check_disk(repo, folder, absent)
    headers = build_hf_headers(library_name="comfyui-liveavatar")
    for file in absent:
        url = hf_hub_url(repo, file.name, revision=revision, endpoint=HfApi().endpoint)
        before = done
        try:
            fetch(
                url,
                folder / file.name,
                file.size,
                file.identity,
                headers,
                lambda count, before=before: progress(before + count, total),
            )
        except AccessDenied as error:
            raise PermissionError(_login_sentence(repo)) from error
        done += file.size
        progress(done, total)
    # The leftovers of an interrupted command-line download are obsolete now.
    for pattern in files:
        for leftover in _leftovers(folder, pattern):
            leftover.unlink()


def _remote_files(repo: str, files: Sequence[str]) -> tuple[str, list[_Remote]]:
    api = HfApi()
    try:
        info = api.model_info(repo, files_metadata=True)
    except GatedRepoError as error:
        raise PermissionError(_login_sentence(repo)) from error
    except RepositoryNotFoundError as error:
        raise PermissionError(
            f"{repo} does not exist on {api.endpoint}, or is private: check the name, or run 'hf auth login'"
        ) from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError(
            f"{repo} cannot be downloaded because HF_HUB_OFFLINE is set; unset it, or copy the files by hand"
        ) from error
    except HfHubHTTPError as error:
        raise ConnectionError(f"{api.endpoint} refused to list {repo} ({error}); try again later") from error
    except (
        Exception
    ) as error:  # the hub client's HTTP library, and with it the error class, depends on its version
        raise ConnectionError(
            f"{api.endpoint} cannot be reached ({type(error).__name__}), so {repo} cannot be downloaded; "
            "check the network, or copy the files by hand"
        ) from error
    remote = {
        entry.rfilename: _Remote(
            entry.rfilename, entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id
        )
        for entry in info.siblings
    }
    wanted: dict[str, _Remote] = {}
    for pattern in files:
        found = next((hits for option in pattern.split("|") if (hits := _matching(remote, option))), [])
        if not found:
            raise ValueError(
                f"{repo} has no file {pattern}; its files were renamed or this is another repository"
            )
        wanted.update((name, remote[name]) for name in found)
    return info.sha, list(wanted.values())


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    """Names that fit; ``*`` stays within one folder. Names that would leave the folder never fit."""
    return [
        name
        for name in names
        if fnmatchcase(name, pattern)
        and name.count("/") == pattern.count("/")
        and ".." not in PurePosixPath(name).parts
        and "\\" not in name
    ]


def _is_there(folder: Path, file: _Remote) -> bool:
    path = folder / file.name
    return path.is_file() and path.stat().st_size == file.size and _fault(path) is None


def _faults(folder: Path, files: Sequence[str]) -> dict[str, str]:
    """The files that are missing, cut off or half downloaded: pattern -> one phrase. Needs no network."""
    faults = {}
    for pattern in files:
        phrases = []
        for option in pattern.split("|"):
            # Half-written files of our own (.partial) match no name, and are left out of patterns.
            hits = [path for path in folder.glob(option) if path.is_file() and path.suffix != ".partial"]
            found = [phrase for path in hits if (phrase := _fault(path))]
            if "*" in option and (left := _leftovers(folder, option)):
                found.append(f"{left[0]} is an unfinished download")
            if hits and not found:
                break
            phrases += found
        else:
            faults[pattern] = phrases[0] if phrases else f"{pattern.replace('|', ' or ')} is missing"
    return faults


def _fault(path: Path) -> str | None:
    try:
        check_file(path)
    except (ValueError, OSError) as error:
        return str(error)
    return None


def _leftovers(folder: Path, pattern: str) -> list[Path]:
    """Unfinished files of a download of ``pattern``'s folder, by ``hf download`` or by this module."""
    if "*" not in pattern:
        return []
    inside = PurePosixPath(pattern).parent
    scratch = folder / ".cache" / "huggingface" / "download" / inside
    return sorted([*scratch.glob("*.incomplete"), *(folder / inside).glob("*.partial")])


def _check_disk(repo: str, folder: Path, absent: list[_Remote]) -> None:
    need = SPARE_BYTES
    for file in absent:
        part = partial_path(folder / file.name, file.identity)
        need += file.size - (part.stat().st_size if part.exists() else 0)
    place = folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < need:
        raise OSError(
            f"{repo} needs {_size(need)} more on the disk of {place}, which has {_size(free)} free; "
            "free some space or choose another models folder"
        )


def _what_to_do(repo: str, folder: Path, faults: dict[str, str]) -> str:
    sizes = {name: size for part in FILE_SETS.get(repo, {}).values() for name, size in part.items()}
    known = all(pattern in sizes for pattern in faults)
    amount = f" (about {_size(sum(sizes[pattern] for pattern in faults))})" if known else ""
    names = [pattern.partition("|")[0] for pattern in faults]
    if any("*" in name for name in names):
        names = [f'--include "{name}"' for name in names]
    # A command that names many files is not read: then the whole repository.
    wanted = "".join(f" {name}" for name in names) if len(names) <= SHORT_LIST else ""
    return (
        f"Turn on the loader's download option{amount}, or run: hf download {repo}{wanted} --local-dir "
        f'"{folder}". {repo} is not complete there: {_listed(faults.values())}.'
    )


def _login_sentence(repo: str) -> str:
    return (
        f"{repo} needs a login: accept its terms on {HfApi().endpoint}/{repo}, run 'hf auth login' with your "
        "access token, then try again"
    )


def _listed(phrases: Iterable[str]) -> str:
    phrases = list(phrases)
    more = f" and {len(phrases) - 3} more" if len(phrases) > 3 else ""
    return ", ".join(phrases[:3]) + more


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
