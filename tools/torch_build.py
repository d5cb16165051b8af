"""Which build of torch a machine gets, and the one mixture of builds that needs a helping hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

TRIO = ("torch", "torchvision", "torchaudio")
# Known to work together; where an index also offers "+cpu" builds of these versions, pip prefers them.
CPU_TRIO = ("torch==2.13.0", "torchvision==0.28.0", "torchaudio==2.11.0")
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
WINDOWS_CUDA_INDEX = "https://download.pytorch.org/whl/cu130"  # PyPI's Windows wheels are CPU builds

MARK = "# Added by run.py of ComfyUI-LiveAvatar"


def brings_cuda(report: dict[str, Any]) -> bool:
    """Whether a pip installation report (``pip install --report``) contains CUDA packages."""
    names = (item["metadata"]["name"].lower() for item in report["install"])
    return any(name.startswith(("nvidia-", "cuda-", "triton")) for name in names)


def declare_missing_operators(site_packages: Path) -> None:
    """Let a torchvision and torchaudio that are linked against CUDA be imported beside a CPU build of torch.

    Some package mirrors offer torch as a CPU build and the other two only as CUDA builds, whose compiled
    parts cannot be loaded then. torchvision runs without them but describes two operators that nobody
    declared, which ends its import; torchaudio runs without them if the files are absent. Where torch has
    CUDA, or where nothing links against it, nothing is changed.
    """
    if not (site_packages / "torch" / "lib").is_dir() or _torch_has_cuda(site_packages):
        return
    vision = site_packages / "torchvision"
    if _links_cuda(vision.glob("_C*.so")):
        registrations = (vision / "_meta_registrations.py").read_text(encoding="utf-8")
        operators = re.findall(
            r'^@torch\.library\.register_fake\("(torchvision::q?nms)"\)', registrations, re.M
        )
        extension = vision / "extension.py"
        source = extension.read_text(encoding="utf-8")
        if operators and MARK not in source:
            schema = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            lines = "".join(f'    torch.library.define("{name}", "{schema}")\n' for name in operators)
            extension.write_text(f"{source}\n\n{MARK}\nif not _has_ops():\n{lines}", encoding="utf-8")
    libraries = list((site_packages / "torchaudio" / "lib").glob("*.so"))
    if _links_cuda(libraries):
        for library in libraries:
            library.unlink()


def _torch_has_cuda(site_packages: Path) -> bool:
    return any((site_packages / "torch" / "lib").glob("*c10_cuda*"))


def _links_cuda(libraries: Any) -> bool:
    return any(b"libc10_cuda.so" in library.read_bytes() for library in libraries)
