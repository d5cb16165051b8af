"""Reading weight files, with one clear sentence for everything that can be wrong with them.

Nothing here runs code from a file: safetensors, or torch's zip and pickle formats with ``weights_only``.
"""

from __future__ import annotations

import json
import operator
import pickle
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

SAFETENSORS = (".safetensors", ".sft")
PICKLES = (".pth", ".pt", ".bin", ".ckpt")
STEM = "diffusion_pytorch_model"
"""What names of a transformer's weight files begin with."""
MOST_JSON = 100_000_000
"""Bytes of a JSON file, or of the header of a safetensors file (that format's own limit)."""


def load_state_dict(
    path: str | Path, device: str | torch.device = "cpu", part: str | None = None
) -> dict[str, Tensor]:
    """All tensors of one weight file (.safetensors, or .pth/.pt/.bin/.ckpt read without running code).

    On the CPU the tensors are mapped from the file where the format allows it, so that loading costs no
    second copy. FileNotFoundError when the file is missing; ValueError, naming the file, when it is not
    usable.

    Args:
        part: the entry that holds the weights, or in a flat file what their names begin with; a file without it
            holds them at its top level.
    """
    path = Path(path)
    check_file(path)
    if path.suffix in SAFETENSORS:
        try:
            state = load_file(path, device=str(device))
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}); download it again") from error
        inside = {key[len(part) + 1 :]: state[key] for key in state if key.startswith(f"{part}.")}
        return inside or state
    if path.suffix not in PICKLES:
        raise ValueError(f"{path} is no weight file: expected {', '.join(SAFETENSORS + PICKLES)}")
    zipped = zipfile.is_zipfile(path)
    if zipped and _is_packed(path):
        raise ValueError(
            f"{path} is compressed; save it again with torch.save, or use a .safetensors version of it"
        )
    try:
        # Only the zip format can be mapped.
        state = torch.load(path, map_location=device, weights_only=True, mmap=zipped)
    except pickle.UnpicklingError:
        # torch's own message explains how to load it all the same, which nobody should do with an unknown file.
        doubt = "" if zipped and _says_what_was_written(path) else "is damaged, or "
        raise ValueError(
            f"{path} {doubt}contains Python code or objects besides weights and is not loaded; "
            "use a .safetensors version of it"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError) as error:
        raise ValueError(f"{path} is damaged or no weight file; download it again") from error
    if isinstance(state, Mapping) and part in state:
        state = state[part]
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        found = ", ".join(map(str, list(state)[:5])) if isinstance(state, Mapping) else type(state).__name__
        raise ValueError(f"{path} holds no weights at its top level (found: {found})")
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    hollow = [key for key, value in tensors.items() if not _is_filled(value)]
    if hollow:
        raise ValueError(
            f"{path} is damaged ({_some(hollow)}: larger than what is stored of it); download it again"
        )
    return tensors


def _is_filled(tensor: Tensor) -> bool:
    """Whether every value is stored: a view in a pickle may be of any size, and would take memory when it is copied."""
    return tensor.layout == torch.strided and tensor.nbytes <= tensor.untyped_storage().nbytes()


def load_sharded(
    folder: str | Path, stem: str = STEM, device: str | torch.device = "cpu"
) -> dict[str, Tensor]:
    """All tensors of a Hugging Face folder: ``<stem>.safetensors`` (or .bin/.pth), or the shards of its
    index.

    FileNotFoundError lists absent shards; ValueError names a broken index or a shard without the promised
    tensors.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder {folder} does not exist")
    for suffix in (*SAFETENSORS, *PICKLES):
        single = folder / f"{stem}{suffix}"
        index = folder / f"{stem}{suffix}.index.json"
        if index.is_file():
            return _load_shards(index, device)
        if single.is_file():
            return load_state_dict(single, device)
    raise FileNotFoundError(f"{folder} has neither {stem}.safetensors nor {stem}.safetensors.index.json")


def weight_files(folder: str | Path, *stems: str) -> list[Path]:
    """The files that `load_sharded` may read for one of ``stems``, whatever their format."""
    weights = (path for path in Path(folder).iterdir() if path.suffix in (*SAFETENSORS, *PICKLES))
    return sorted(path for path in weights if path.name.startswith(stems))


def _is_packed(path: Path) -> bool:
    """Whether anything in a zip file grows when it is read; torch writes none like that."""
    with zipfile.ZipFile(path) as file:
        return any(entry.compress_type != zipfile.ZIP_STORED for entry in file.infolist())


def _says_what_was_written(path: Path) -> bool:
    """Whether the objects in a file of torch's are those that were saved; their weights are not looked at."""
    try:
        with zipfile.ZipFile(path) as file:
            (objects,) = (name for name in file.namelist() if name.endswith("/data.pkl"))
            return bool(file.read(objects))  # which compares the checksum
    except (zipfile.BadZipFile, ValueError):
        return False


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; FileNotFoundError or ValueError, naming the file."""
    check_file(path)
    found = _parsed(path.read_bytes())
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged (no JSON object); download it again")
    return found


def _parsed(text: bytes) -> Any:
    """ValueError for everything that is wrong with JSON."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def shard_names(index: Path) -> dict[str, str]:
    """The ``weight_map`` (tensor -> shard file name) of an index file; ValueError when it is not a valid
    one."""
    content = read_json(index)
    try:
        names = content["weight_map"]
        plain = all(isinstance(name, str) and Path(name).name == name for name in names.values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is no valid index of weight shards; download it again") from error
    if not names or not plain:
        raise ValueError(f"{index} names no shards, or shards outside its own folder")
    return names


def _load_shards(index: Path, device: str | torch.device) -> dict[str, Tensor]:
    names = shard_names(index)
    shards = sorted(set(names.values()))
    absent = [shard for shard in shards if not (index.parent / shard).is_file()]
    if absent:
        raise FileNotFoundError(
            f"{index.parent} lacks {len(absent)} of {len(shards)} weight shards: {', '.join(absent)}; "
            "download them"
        )
    for shard in shards:
        check_file(index.parent / shard)
    state: dict[str, Tensor] = {}
    for shard in shards:
        state.update(load_state_dict(index.parent / shard, device))
    missing = [f"{key} ({shard})" for key, shard in names.items() if key not in state]
    if missing:
        raise ValueError(
            f"the shards in {index.parent} lack {_some(missing)}, which {index.name} promises; "
            "the files are of different versions, download them again"
        )
    return state


def check_file(path: str | Path) -> None:
    """Reject an absent, empty or cut off file, a web page or a Git-LFS pointer, by its first bytes and its
    size.

    Reads a few kilobytes at most, so it is also the test for a finished download.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a folder, empty, cut off, a web page or a pointer.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; a file is needed")
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        raise ValueError(f"{path} is empty; download it again")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path} is a Git-LFS pointer, not the file; run 'git lfs pull' in its folder or download it"
        )
    if start.lstrip(b"\xef\xbb\xbf \r\n\t")[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(
            f"{path} is a web page saved under a wrong name (a failed download); download it again"
        )
    if path.suffix in SAFETENSORS:
        _check_safetensors(path, size)
    elif path.suffix in PICKLES and start.startswith(b"PK") and not zipfile.is_zipfile(path):
        # The table of contents is at a zip's end.
        raise ValueError(f"{path} is cut off at {size:,} bytes; download it again")
    elif path.suffix == ".json":
        if size > MOST_JSON:
            raise ValueError(f"{path} is no file of a model, at {size:,} bytes; download it again")
        try:
            _parsed(path.read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is damaged (no valid JSON); download it again") from error


def _check_safetensors(path: Path, size: int) -> None:
    with path.open("rb") as file:
        length = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))[0]
        if length > MOST_JSON or (size > 8 and file.read(1) != b"{"):
            raise ValueError(f"{path} is not a safetensors file")
        if size < 8 + length:
            raise ValueError(f"{path} is cut off at {size:,} bytes; download it again")
        file.seek(8)
        try:
            header = _parsed(file.read(length))
            ends = [
                operator.index(entry["data_offsets"][1])
                for key, entry in header.items()
                if key != "__metadata__"
            ]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ValueError(f"{path} is damaged (unreadable header); download it again") from error
    promised = 8 + length + max(ends, default=0)
    if size < promised:
        raise ValueError(f"{path} is cut off at {size:,} of {promised:,} bytes; download it again")


def check_keys(
    state: Mapping[str, Tensor],
    expected: nn.Module | Mapping[str, Tensor] | Iterable[str],
    what: str,
) -> None:
    """Compare a state dict with a model's needs; ValueError naming the first keys that disagree.

    ``expected`` is a module (also one on the meta device) or a mapping of tensors, whose shapes are compared
    too, or just names. ``what`` opens the sentence, e.g. "the VAE file wan.pth".
    """
    if isinstance(expected, nn.Module):
        expected = expected.state_dict()
    names = set(expected)
    missing = sorted(names - set(state))
    unexpected = sorted(set(state) - names)
    faults = []
    if missing:
        faults.append(f"{len(missing)} weights missing ({_some(missing)})")
    if unexpected:
        faults.append(f"{len(unexpected)} unexpected ({_some(unexpected)})")
    if isinstance(expected, Mapping):
        wrong = [
            f"{key} {list(state[key].shape)} instead of {list(expected[key].shape)}"
            for key in sorted(names & set(state))
            if state[key].shape != expected[key].shape
        ]
        if wrong:
            faults.append(f"{len(wrong)} of another shape ({_some(wrong)})")
    if not faults:
        return
    guess = ""
    if len(missing) == len(names):
        guess = "; no name agrees, so this is a file of another model"
    elif not missing and not unexpected:
        guess = "; the names agree, so this is the same kind of model in another size"
    raise ValueError(f"{what} does not fit the model: {', '.join(faults)}{guess}")


def _some(names: list[str], limit: int = 3) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
