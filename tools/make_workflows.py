"""Writes the shipped workflows: for the page, for the API, their pictures in the templates browser, and the blueprint.

    VHS_PATH=/path/to/ComfyUI-VideoHelperSuite python -m tools.make_workflows

A workflow is described once, as a table of nodes (`workflows.graphs`) with a note (`workflows.notes`); the running host
tells in which order a node shows its widgets. Run it after a change to a node's inputs.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
from PIL import Image, ImageDraw, ImageFont

from .demo_media import EXAMPLE
from .environment import ROOT
from .workflows.blueprint import NAME, blueprint
from .workflows.catalogue import WORKFLOWS, page_name
from .workflows.layout import api_format, page_format
from .workflows.looks import NEWER

FOLDER = ROOT / "workflows"
BLUEPRINTS = ROOT / "subgraphs"
OLDEST_HOST = "0.3.75"
VHS = "VHS_VideoCombine"


def draw_picture(path: Path, source: Path, caption: str) -> None:
    """A picture for the templates browser: an example that the workflow uses, with a caption."""
    if source.suffix == ".mp4":
        with av.open(str(source)) as film:
            pictures = [frame.to_image() for frame in film.decode(video=0)]
        shown = pictures[len(pictures) // 3]
    else:
        shown = Image.open(source).convert("RGB")
    shown.thumbnail((512, 440), Image.Resampling.LANCZOS)
    shown = shown.resize((512, round(shown.height * 512 / shown.width)), Image.Resampling.LANCZOS)
    card = Image.new("RGB", (512, 512), (24, 32, 44))
    card.paste(shown, (0, (440 - shown.height) // 2))
    band = ImageDraw.Draw(card)
    band.rectangle((0, 440, 512, 512), fill=(24, 32, 44))
    band.text((256, 476), caption, fill="white", anchor="mm", font=ImageFont.load_default(size=22))
    card.save(path, quality=88)


def versions() -> dict[str, str]:
    """The versions that the workflows name, by the packs' names in the registry."""
    own = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    return {"comfyui-liveavatar": own[1], "comfy-core": OLDEST_HOST, "comfyui-videohelpersuite": "1.7.9"}


def main() -> int:
    # The host of the tests is the one with VideoHelperSuite linked in.
    from tests.host.client import Host

    with tempfile.TemporaryDirectory() as folder, Host(Path(folder)) as host:
        info = NEWER | host.get("/object_info")
    if VHS not in info:
        print("VHS_PATH must name a ComfyUI-VideoHelperSuite folder.", file=sys.stderr)
        return 1
    titles = {name: about["display_name"] for name, about in info.items()}
    (FOLDER / "api").mkdir(parents=True, exist_ok=True)
    for name, workflow in WORKFLOWS.items():
        file = page_name(name)
        write_json(FOLDER / f"{file}.json", page_format(workflow, info, versions()))
        draw_picture(FOLDER / f"{file}.jpg", EXAMPLE / workflow.picture, workflow.caption)
        write_json(FOLDER / "api" / f"{name}.json", api_format(workflow.make(), titles))
    BLUEPRINTS.mkdir(exist_ok=True)
    write_json(BLUEPRINTS / f"{NAME}.json", blueprint(info, versions()))
    return 0


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
