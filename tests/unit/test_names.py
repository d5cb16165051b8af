"""What files of ours import from each other is there, also in scripts that no test runs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import tools.pack

ROOT = tools.pack.ROOT
BESIDE_THE_PACK = ("benchmarks", "pool", "tests", "tools", "training")
"""Packages of the repository by their own names; ``nodes`` is the host's."""
FILES = sorted(path for path in ROOT.rglob("*.py") if ".run" not in path.relative_to(ROOT).parts)


def bound(body: list[ast.stmt]) -> Iterator[str]:
    """Names that statements give a module, wherever in them."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                yield part.id
            elif isinstance(part, ast.alias):
                yield (part.asname or part.name).partition(".")[0]
            elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield part.name


@cache
def names(path: Path) -> frozenset[str]:
    return frozenset(bound(ast.parse(path.read_text(encoding="utf-8")).body))


def source(path: Path, node: ast.ImportFrom) -> Path | None:
    """The file or folder that an import names; None where it is none of ours."""
    parts = (node.module or "").split(".") if node.module else []
    if node.level:
        start = path.parents[node.level - 1]
    elif parts and parts[0] == tools.pack.NAME:
        start, parts = ROOT, parts[1:]
    elif parts and parts[0] in BESIDE_THE_PACK:
        start = ROOT
    else:
        return None
    return start.joinpath(*parts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_that_is_imported_is_there(path):
    absent = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ImportFrom) or (place := source(path, node)) is None:
            continue
        file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
        known = names(file) if file.is_file() else frozenset()
        if not place.is_dir() and not file.is_file():
            absent.append(str(place.relative_to(ROOT)))
        for alias in node.names:
            inside = place.is_dir() and (
                (place / alias.name).is_dir() or (place / f"{alias.name}.py").is_file()
            )
            if alias.name not in known and not inside and alias.name != "*":
                absent.append(f"{alias.name} of {place.relative_to(ROOT)}")
    assert not absent, absent
