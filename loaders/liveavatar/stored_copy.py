"""The float8 copy on the disk: known by what it was made from, written once, read straight to where it computes."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from ...engines.gpu.offload import WaitingBlock, spread
from ...engines.liveavatar.costs import fp8_bytes
from ...engines.liveavatar.fp8_blocks import quantise_transformer
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.checked_tensors import CheckedTensors
from ...engines.parts.saved_tensors import write_tensors
from ...media.file_lock import abandoned, lock
from ..files import check_keys
from ..identity import file_identity, fingerprint
from .folders import COPIES
from .host_model import HostModel
from .model import Report, multiplies_fp8

FORMAT = 1
"""Raised when weights are quantised in another way, or lie in the file in another way."""
SUFFIX = ".float8.safetensors"
DRAFT = ".new"
SPARE_BYTES = 1 << 30
"""Disk space that is left to others."""
LONGEST = 24
"""Letters of a checkpoint's or a LoRA's name; file systems take 255 bytes in all, and a letter may have four."""


@dataclass(frozen=True)
class StoredCopy:
    """The place of a float8 copy, whether or not it is there.

    Attributes:
        path: of the file, whose name says checkpoint, LoRA, strength and the number format that it was made from.
        identity: a hash of everything that decides its values.
        bytes: about its size.
    """

    path: Path
    identity: str
    bytes: int

    def read(
        self, copy: S2VTransformer, blocks_on_cpu: int, device: torch.device, report: Report
    ) -> dict[int, WaitingBlock]:
        """Fill ``copy``, an empty transformer (device "meta"), and give its blocks that wait.

        Raises:
            OSError: the file is not there, or cannot be read.
            ValueError: it is damaged, or was made from something else.
        """
        quantise_transformer(copy)
        with CheckedTensors(self.path) as file:
            if file.metadata.get("identity") != self.identity:
                raise ValueError(f"{self.path.name} was made from other files, or by another version.")
            check_keys(file.tensors, copy, self.path.name)
            copy.load_state_dict(file.tensors, assign=True)
            chosen = spread(blocks_on_cpu, len(copy.blocks))
            waiting = {index: WaitingBlock(copy.blocks[index]) for index in chosen}
            for name, child in copy.named_children():
                if name != "blocks":
                    child.to_empty(device=device)
            for index, block in enumerate(copy.blocks):
                if index not in waiting:
                    block.to_empty(device=device)
            told = _counted("Reading the float8 copy", sum(t.nbytes for t in file.tensors.values()), report)
            file.read_into(copy.state_dict(), device, told)
        return waiting

    def write(self, copy: S2VTransformer, report: Report) -> None:
        """Write the file, which appears under its name once all of it is on the disk.

        Raises:
            OSError: there is too little space, another ComfyUI writes it, or the disk fails; one sentence says so.
        """
        tensors = copy.state_dict()
        size = sum(tensor.nbytes for tensor in tensors.values())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        for draft in _drafts(self.path.parent, self.path.name):
            with abandoned(draft) as left_behind:
                if not left_behind:
                    raise OSError("another ComfyUI is writing it")
            draft.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)  # the new one may need its room
        self.check_space(size)
        draft = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}{DRAFT}")
        try:
            with draft.open("xb") as file:
                lock(file)
                metadata = {"identity": self.identity}
                write_tensors(file, tensors, metadata, _counted("Writing the float8 copy", size, report))
                report("Writing the float8 copy: waiting for the disk")
                file.flush()
                os.fsync(file.fileno())
            os.replace(draft, self.path)
        finally:
            draft.unlink(missing_ok=True)

    def fits(self) -> bool:
        """Whether there is a copy of this identity; its values are compared with their checksum when it is read."""
        try:
            with CheckedTensors(self.path) as file:
                return file.metadata.get("identity") == self.identity
        except (OSError, ValueError):
            return False

    def check_space(self, size: int) -> None:
        """OSError when the disk has no room for ``size`` bytes."""
        folder = self.path.parent
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free
        if free < size + SPARE_BYTES:
            raise OSError(f"it takes {_gb(size)}, and {_gb(free)} of disk space are free")

    def described(self) -> str:
        """One sentence on whether the copy is there."""
        if self.fits():
            return f"Float8 copy on the disk: {self.path.name}, {_gb(self.path.stat().st_size)}."
        if self.path.exists():
            return f"{self.path.name} was made from other files, or by another version; the first video replaces it."
        try:
            self.check_space(self.bytes)
        except OSError as error:
            return f"The float8 copy cannot be kept on the disk: {error}."
        return f"The first video writes {self.path.name}, {_gb(self.bytes)}."


_wanted: WeakKeyDictionary[nn.Module, tuple[Any, StoredCopy]] = WeakKeyDictionary()
"""Copies that shall be on the disk, by the host's module, with the state of the model that they belong to."""


def keep_on_disk(model: Any, folder: Path, lora: Path | None, strength: float) -> str:
    """Have the float8 copy of a MODEL on the disk from now on: one made from a folder and a LoRA by `load_host_model`.

    Returns a sentence on what is there already.
    """
    known = HostModel.of(model)
    if not multiplies_fp8(known.device):
        return "No float8 copy is kept: this computer multiplies no float8 matrices."
    stored = _place(known, folder, lora, strength)
    _wanted[known.module] = model.patches_uuid, stored
    return f"{stored.described()} {_all_in_all()}".strip()


def stored_copy(model: HostModel) -> StoredCopy | None:
    """Where the copy of a MODEL is to be kept; None where it is not, as after another LoRA was put on it."""
    state, stored = _wanted.get(model.module, (None, None))
    return stored if state == model.patcher.patches_uuid else None


def delete_copies() -> str:
    """Delete all copies, and drafts that nobody writes any more; a sentence says how many."""
    count, size, left = 0, 0, []
    for path in _copies():
        try:
            found = path.stat().st_size
            path.unlink()
            count, size = count + 1, size + found
        except OSError as error:
            left.append(f"{path.name} is still there: {error.strerror}.")
    for root in _roots():
        for draft in _drafts(root):
            with abandoned(draft) as left_behind:
                pass
            if left_behind:
                draft.unlink(missing_ok=True)
    copies = "copy" if count == 1 else "copies"
    return " ".join([f"{count} float8 {copies} deleted, {_gb(size)}.", *left])


def _place(model: HostModel, folder: Path, lora: Path | None, strength: float) -> StoredCopy:
    stored = model.patcher.model.get_dtype()
    weights = sorted(path for path in folder.glob("diffusion_pytorch_model*") if path.is_file())
    files = [folder / "config.json", *weights, *([] if lora is None else [lora])]
    # A file that was written anew in its place has another time, wherever in it the difference is.
    sources = [[*file_identity(path), path.stat().st_mtime_ns] for path in files]
    identity = fingerprint(FORMAT, model.architecture, sources, strength, str(stored), str(model.host_dtype))
    parts = [folder.resolve().name[:LONGEST]]
    if lora is not None:
        parts.append(f"{lora.stem[:LONGEST]} {strength:g}")
    name = ", ".join([*parts, str(stored).removeprefix("torch.")]) + SUFFIX
    roots = _roots()
    path = next((root / name for root in roots if (root / name).is_file()), roots[0] / name)
    whole, _ = fp8_bytes(model.architecture, model.host_dtype)
    return StoredCopy(path, identity, whole)


def _counted(what: str, total: int, report: Report) -> Callable[[int], None]:
    """Reports ``what`` with the bytes that it is told of, added up, whenever the text changes."""
    done, said = 0, ""

    def told(size: int) -> None:
        nonlocal done, said
        done += size
        text = f"{what}: {done / 1e9:.1f} of {_gb(total)}"
        if text != said:
            said = text
            report(text)

    return told


def _roots() -> list[Path]:
    """All registered folders; copies are written into the first one."""
    import folder_paths

    return [Path(root) for root in folder_paths.get_folder_paths(COPIES)]


def _copies() -> list[Path]:
    return [path for root in _roots() for path in sorted(root.glob(f"*{SUFFIX}"))]


def _drafts(folder: Path, name: str = "") -> list[Path]:
    """Files that are being written, or that an ended process has left behind; those of one copy, or all."""
    return [path for path in folder.glob(f"*{SUFFIX}.*{DRAFT}") if path.name.startswith(name)]


def _all_in_all() -> str:
    """What all copies take, where there are several."""
    sizes = [path.stat().st_size for path in _copies()]
    return f"{len(sizes)} copies in models/{COPIES} take {_gb(sum(sizes))}." if len(sizes) > 1 else ""


def _gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
