"""The demo of ``python run.py demo``: a portrait and a voice go into a real ComfyUI, a video comes out."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from .connection import HostError
from .environment import ROOT
from .host import Host
from .host_events import HostEvents

# The workflow in API format. It reads the example files that the pack puts into the input folder, and writes an .mp4.
WORKFLOW = ROOT / "workflows" / "api" / "demo.json"

NEXT = """
This was the tiny talker that comes with the pack: a drawn face of 192 pixels that a small model animates on
any computer. For photographs take a GPU and the real checkpoint: Wan-AI/Wan2.2-S2V-14B and the LoRA of
Quark-Vision/Live-Avatar (both on Hugging Face; the README says where the files go), then choose them in
the workflow's loader.
"""


def main() -> int:
    """Run the demo in a host of its own and say where the video is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", type=Path, required=True, help="folder of ComfyUI")
    parser.add_argument("--base", type=Path, required=True, help="the host's base directory")
    parser.add_argument("--cpu", action="store_true", help="the machine has no accelerator")
    options = parser.parse_args()
    if not WORKFLOW.is_file():
        print(f"The workflow {WORKFLOW} is missing: restore it from the repository.", file=sys.stderr)
        return 1
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    print("[demo] starting ComfyUI", flush=True)
    try:
        with Host(Path(sys.executable), options.host, options.base, cpu=options.cpu) as host:
            videos = generate(host, workflow)
    except HostError as error:
        print(f"\n{error}\nThe log of ComfyUI is {options.base / 'host.log'}.", file=sys.stderr)
        return 1
    if not videos:
        print(f"The workflow {WORKFLOW} wrote no .mp4 file.", file=sys.stderr)
        return 1
    print(NEXT)
    print("\n".join(f"The video: {video}" for video in videos), flush=True)
    return 0


def generate(host: Host, workflow: dict[str, dict]) -> list[Path]:
    """Run the workflow with a line of progress and return the videos that it wrote."""
    start = time.monotonic()
    shown = ""

    def show(events: HostEvents) -> None:
        nonlocal shown
        report = events.progress()
        if report is None:
            return
        node, value, total = report
        title = workflow.get(node, {}).get("class_type", "node")
        line = f"[demo] {title}: {value:.0f} of {total:.0f} ({time.monotonic() - start:.0f} s)"
        if line != shown:
            print(f"\r{line:<80}", end="", flush=True)
            shown = line

    with HostEvents(host) as events:
        prompt = host.submit(workflow, events.client_id)
        entry = host.wait(prompt, timeout=3600, watch=lambda: show(events))
        show(events)
    if shown:
        print()
    if problems := host.errors(entry):
        raise HostError("\n".join(problems))
    return [f for f in host.files(entry) if f.suffix == ".mp4" and f.is_relative_to(host.output_dir)]


if __name__ == "__main__":
    sys.exit(main())
