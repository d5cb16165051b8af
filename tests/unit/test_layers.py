"""The order of the house: which folder may import which, read from the import statements."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAY_IMPORT = {
    "nodes": (
        "nodes",
        "serving",
        "sessions",
        "loaders",
        "host",
        "engines",
        "conversation",
        "evaluation",
        "media",
        "jobs",
    ),
    "serving": ("serving", "sessions", "loaders", "host", "engines", "conversation", "media", "jobs"),
    "pool": ("pool", "sessions", "engines", "media", "jobs"),
    "jobs": ("jobs",),
    "sessions": ("sessions", "loaders", "host", "engines", "media"),
    "loaders": ("loaders", "host", "engines", "conversation", "media"),
    "conversation": ("conversation", "media"),
    "host": ("host", "media"),
    "media": ("media",),
    "evaluation": ("evaluation", "engines/parts", "media"),
    "evaluation/metrics": ("evaluation", "engines/parts", "media"),
    "evaluation/readers": ("evaluation", "engines/parts", "media"),
    "engines/liveavatar": ("engines/liveavatar", "engines/parts", "engines/gpu"),
    "engines/ditto": ("engines/ditto", "engines/parts", "engines/gpu"),
    "engines/personalive": ("engines/personalive", "engines/parts", "engines/gpu"),
    "engines/longcat": ("engines/longcat", "engines/parts", "engines/gpu"),
    "engines/parts": ("engines/parts", "engines/gpu"),
    "engines/gpu": ("engines/gpu",),
}
"""The ground (`host`, `media`) is open to all but the engines; engines know neither each other nor ComfyUI."""
COMFYUI = {
    "comfy",
    "comfy_api",
    "comfy_execution",
    "comfy_extras",
    "folder_paths",
    "nodes",
    "server",
    "execution",
}
KNOWS_COMFYUI = ("nodes", "serving", "sessions", "loaders", "host")
MOST_FILES = 22
WHEN_CALLED = {
    ("__init__.py", "nodes"): "ComfyUI's modules may be imported when it asks for the nodes, not before",
    ("engines/parts/wan/fast_decoder.py", "engines/parts/wan/vae_layers"): "brings diffusers in",
    ("engines/personalive/runtime.py", "engines/personalive/fast/table"): "names layers of diffusers",
    ("host/memory.py", "host/whole_patcher"): "a class of ComfyUI's is its base, and the pool has none",
    ("loaders/wan/vae.py", "engines/parts/wan/vae"): "brings diffusers in",
    ("nodes/personalive/load.py", "loaders/personalive/networks"): "brings diffusers in",
    ("pool/__main__.py", "pool/start"): "brings Ray in, which reads the environment once",
    ("serving/webrtc/route.py", "serving/webrtc/peer"): "brings aiortc in, which may be absent",
}
"""Files of ours that a function imports when it is called, and why; none because two files know each other."""


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def imported(path: Path, within: ast.AST | None = None) -> list[str]:
    """What a file, or a part of it, imports: absolute names, and paths in the repository for relative ones and those of
    the pack."""
    found = []
    for node in ast.walk(within or ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module.startswith("avatar."):
            found.append(node.module.removeprefix("avatar.").replace(".", "/"))
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.append(node.module)
        elif isinstance(node, ast.ImportFrom):
            base = path.parent
            for _ in range(node.level - 1):
                base = base.parent
            place = base.joinpath(*(node.module or "").split("."))
            found += [str((place / alias.name).relative_to(ROOT)) for alias in node.names]
    return found


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_imports_run_one_way(folder):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(folder)
        for name in imported(path)
        if "/" in name and not any(name.startswith(f"{allowed}/") for allowed in MAY_IMPORT[folder])
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("folder", [folder for folder in MAY_IMPORT if folder not in KNOWS_COMFYUI])
def test_engines_and_media_know_no_comfyui(folder):
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(folder)
        for name in imported(path)
        if "/" not in name and name.partition(".")[0] in COMFYUI
    ]
    assert not wrong, wrong


def when_called(path: Path) -> set[str]:
    """Files of ours that functions of a file import."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    functions = [node for node in tree if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    names = {name for function in functions for name in imported(path, function) if "/" in name}
    return {name if (ROOT / f"{name}.py").is_file() else name.rpartition("/")[0] for name in names}


def test_files_know_each_other_one_way():
    """A function that imports is how a circle is hidden, so each one that does has a reason."""
    paths = [ROOT / "__init__.py", *(path for folder in MAY_IMPORT for path in files(folder))]
    found = {(str(path.relative_to(ROOT)), name) for path in paths for name in when_called(path)}
    assert found == set(WHEN_CALLED)


def test_every_folder_of_python_belongs_to_the_order():
    outside = {"benchmarks", "clients", "deploy", "tests", "tools", "training"}
    folders = {path.parent.relative_to(ROOT) for path in ROOT.rglob("*.py") if ".run" not in path.parts}
    for folder in folders - {Path(".")}:
        if folder.parts[0] not in outside:
            assert folder == Path("engines") or any(
                folder == Path(known) or Path(known) in folder.parents for known in MAY_IMPORT
            ), f"{folder} has no place in MAY_IMPORT"
            assert len(folder.parts) <= 3, f"{folder} lies too deep"


def test_no_folder_is_a_heap():
    counts = {folder: len(list((ROOT / folder).glob("*.py"))) for folder in MAY_IMPORT}
    for path in ROOT.glob("engines/parts/*/"):
        counts[str(path.relative_to(ROOT))] = len(list(path.glob("*.py")))
    assert {folder: count for folder, count in counts.items() if count > MOST_FILES} == {}


def test_unit_tests_mirror_the_tree():
    unit = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(unit) for path in unit.rglob("test_*.py")}
    assert [str(folder) for folder in folders if not (ROOT / folder).is_dir()] == []
