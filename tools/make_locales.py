"""Writes the English texts of all nodes for pages, and says what translations lack.

    python -m tools.make_locales

English comes from the nodes themselves, through a running host. In the other languages, entries of nodes and inputs
that are gone are removed; what is missing there is printed, and pages show it in English.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .environment import ROOT
from .make_workflows import write_json

FOLDER = ROOT / "locales"
LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "ru", "zh")
FILE = "nodeDefs.json"

Texts = dict[str, Any]


def english(nodes: Mapping[str, Mapping[str, Any]]) -> Texts:
    """The texts of nodes, as pages read them; ``nodes`` are entries of /object_info by id."""
    return {name: _texts(about) for name, about in sorted(nodes.items())}


def _texts(about: Mapping[str, Any]) -> Texts:
    texts: Texts = {
        "display_name": about["display_name"],
        "description": about["description"],
        "inputs": {
            name: {"name": name, "tooltip": options["tooltip"]}
            for part in ("required", "optional")
            for name, (_, options) in about["input"].get(part, {}).items()
        },
    }
    # An output that is called like its type keeps that name in every language.
    outputs = {
        str(slot): {"name": name}
        for slot, name in enumerate(about["output_name"])
        if name != about["output"][slot]
    }
    return {**texts, "outputs": outputs} if outputs else texts


def paths(texts: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Where the texts are, as ``node/inputs/seed/tooltip``."""
    for key, value in texts.items():
        if isinstance(value, str):
            yield above + key
        else:
            yield from paths(value, f"{above}{key}/")


def read(language: str) -> Texts:
    """The texts of a language."""
    return json.loads((FOLDER / language / FILE).read_text(encoding="utf-8"))


def without_stale(texts: Texts, wanted: Texts) -> Texts:
    """Those texts that are ``wanted`` too, in the order of ``wanted``."""
    kept = {}
    for key, value in wanted.items():
        if key in texts:
            kept[key] = texts[key] if isinstance(value, str) else without_stale(texts[key], value)
    return kept


def main() -> int:
    from tests.host.client import Host

    with tempfile.TemporaryDirectory() as folder, Host(Path(folder)) as host:
        wanted = english(host.pack_nodes())
    for language in LANGUAGES:
        texts = wanted if language == "en" else without_stale(read(language), wanted)
        (FOLDER / language).mkdir(parents=True, exist_ok=True)
        write_json(FOLDER / language / FILE, texts)
        for path in sorted({*paths(wanted)} - {*paths(texts)}):
            print(f"{language} lacks {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
