"""Makes this repository importable as the package ``avatar``, for tests, benchmarks and training scripts.

ComfyUI loads a custom node folder under a module name of its own choice, so the pack uses relative imports
only, and the folder's name is no Python identifier. Importing this module registers the folder as ``avatar``.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = "avatar"


def register(folder: Path, name: str) -> None:
    """Make a folder of this pack importable as the package ``name``, once."""
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules[name] = package
    spec.loader.exec_module(package)


register(ROOT, NAME)
