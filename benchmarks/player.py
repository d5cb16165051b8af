"""The live player in a headless Chromium: how long after a block is complete its first frame is shown.

    python -m benchmarks.player --host ~/ComfyUI --work DIR --json player.json
    python -m benchmarks.player --host ~/ComfyUI --work DIR --runs conversation --size 448 256 --webrtc

A real host runs Avatar Stream to Video on a stream of numbered frames, whose blocks are complete at a given pace; the
page of the host plays it. Every frame that the browser shows is read back from its pixels; beeps tell how far sound and
picture are apart. Runs:

    conversation   live, a block of 12 frames every 0.48 s (the pace of real time), each up to 0.02 s early or late
    uneven         the same, up to 0.1 s
    ahead          24 s of video, made at 1.25 times real time
    behind         24 s of video, made at 0.7 times real time: how often the picture stands still, and for how long

All clocks are the machine's own. Needs Chromium or Chrome, and playwright.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Browser, Page, sync_playwright

import tools.pack  # noqa: F401  (registers the package `avatar`)
from tools.chromium import MISSING, find_chromium
from tools.comfyui import prepare_base
from tools.environment import ROOT
from tools.host import Host

from .common import environment, print_table

WRITER = "AvatarStreamToVideo"
FPS, BLOCK = 25, 12
LOADING = 8.0
"""Seconds before the first block, in which a page connects by WebRTC."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
QUEUE = '[data-testid="queue-button"]'
STALL = 0.25
"""Seconds without a new frame that count as standing still."""

# Remembers [number, milliseconds of the Unix clock] of every frame that a player shows.
READ_FRAMES = """
() => {
    window.shown = [];
    window.finished = false;
    window.app.api.addEventListener("execution_success", () => (window.finished = true));
    const [bits, cell] = [16, 16];
    const canvas = new OffscreenCanvas(bits * cell, cell);
    const pixels = canvas.getContext("2d", { willReadFrequently: true });
    function read(video) {
        pixels.drawImage(video, 0, 0, bits * cell, cell, 0, 0, bits * cell, cell);
        const { data } = pixels.getImageData(0, cell / 2, bits * cell, 1);
        let number = 0;
        for (let bit = 0; bit < bits; bit++) number = 2 * number + (data[4 * (bit * cell + cell / 2)] > 127);
        window.shown.push([number, performance.timeOrigin + performance.now()]);
        video.requestVideoFrameCallback(() => read(video));
    }
    const wait = setInterval(() => {
        const video = document.querySelector(".liveavatar-player video");
        if (!video) return;
        clearInterval(wait);
        video.requestVideoFrameCallback(() => read(video));
    }, 10);
}
"""
# Remembers when each beep is heard, in milliseconds of the Unix clock.
READ_SOUND = """
async () => {
    window.beeps = [];
    const worklet = `registerProcessor("beeps", class extends AudioWorkletProcessor {
        quiet = 0;
        process([[samples]]) {
            for (let index = 0; index < (samples?.length ?? 0); index++) {
                if (Math.abs(samples[index]) > 0.2) {
                    if (this.quiet > sampleRate / 2) this.port.postMessage(currentTime + index / sampleRate);
                    this.quiet = 0;
                } else this.quiet++;
            }
            return true;
        }
    });`;
    const context = new AudioContext();
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([worklet], { type: "text/javascript" })));
    const wait = setInterval(() => {
        const video = document.querySelector(".liveavatar-player video");
        if (!video?.videoWidth || video.paused) return;
        clearInterval(wait);
        const beeps = new AudioWorkletNode(context, "beeps");
        beeps.port.onmessage = ({ data }) =>
            window.beeps.push(performance.timeOrigin + performance.now() + 1000 * (data - context.currentTime));
        const source = video.srcObject
            ? context.createMediaStreamSource(video.srcObject)
            : context.createMediaElementSource(video);
        source.connect(beeps).connect(context.destination);
    }, 10);
}
"""
SHOW = """
(node) => {
    const { graph, canvas } = window.app;
    canvas.centerOnNode(graph.nodes.find(({ type }) => type === node));
    canvas.setDirty(true, true);
}
"""


@dataclass(frozen=True)
class Run:
    """A stream's pace: seconds from block to block, how early or late a block may be, number of blocks."""

    live: bool
    period: float
    jitter: float
    blocks: int


RUNS = {
    "conversation": Run(True, BLOCK / FPS, 0.02, 60),
    "uneven": Run(True, BLOCK / FPS, 0.1, 60),
    "ahead": Run(False, BLOCK / FPS / 1.25, 0.05, 50),
    "behind": Run(False, BLOCK / FPS / 0.7, 0.05, 50),
}


def workflow(name: str, run: Run, size: tuple[int, int], direct: bool = False) -> dict[str, Any]:
    """The run in API format; ``direct``: shown by WebRTC."""
    stream = {
        "live": run.live,
        "period": run.period,
        "jitter": run.jitter,
        "blocks": run.blocks,
    }
    stream |= {"block_frames": BLOCK, "width": size[0], "height": size[1], "seed": 7, "direct": direct}
    stream |= {"delay": LOADING if direct else 0.0}
    writer = {"stream": ["1", 0], "filename_prefix": f"video/{name}", "save_output": False, "resume": False}
    return {
        "1": {"class_type": "NumberedStream", "inputs": stream},
        "2": {"class_type": WRITER, "inputs": {**writer, "crf": 18, "snapshot_gb": 0}},
    }


def open_page(browser: Browser, url: str, node: str) -> Page:
    """The page of a host that has a node of this type, ready to be clicked."""
    # The host's content policy with --disable-api-nodes, which forbids Media Source, is not looked at here.
    page = browser.new_context(viewport={"width": 1600, "height": 1000}, bypass_csp=True).new_page()
    page.goto(url)
    page.wait_for_function("(node) => window.LiteGraph?.registered_node_types[node]", arg=node)
    page.locator(QUEUE).first.wait_for()
    page.wait_for_function("() => !document.querySelector('.p-blockui-mask')")
    return page


def load(page: Page, prompt: dict[str, Any], node: str) -> None:
    """Load a workflow in API format, and bring its node of this type into view."""
    page.evaluate("(prompt) => window.app.loadApiJson(prompt, 'benchmark')", prompt)
    page.wait_for_function("(count) => window.app.graph.nodes.length === count", arg=len(prompt))
    page.evaluate(SHOW, node)


def play(page: Page, prompt: dict[str, Any], seconds: float) -> tuple[list[tuple[int, float]], list[float]]:
    """Run a workflow from the page; the number of every frame that was shown, and when (Unix, seconds); and when each
    beep was heard."""
    load(page, prompt, WRITER)
    page.evaluate(READ_FRAMES)
    page.evaluate(READ_SOUND)
    page.locator(QUEUE).first.click()
    page.wait_for_function("() => window.finished", timeout=seconds * 1000)
    page.wait_for_function(
        "() => document.querySelector('.liveavatar-player video').src.includes('/view?')", timeout=60_000
    )  # the finished file, after all was shown
    shown = [(number, at / 1000) for number, at in page.evaluate("() => window.shown")]
    return shown, [at / 1000 for at in page.evaluate("() => window.beeps")]


def skews(shown: list[tuple[int, float]], beeps: list[float]) -> list[float]:
    """How much later than its frame each beep was heard, in seconds, where the frame was shown."""
    begun = {number: at for number, at in reversed(shown) if number % FPS == 0}
    late = [min((beep - at for at in begun.values()), key=abs, default=1.0) for beep in beeps]
    return [seconds for seconds in late if abs(seconds) < 0.5]  # further away is another beep's frame


def figures(
    completed: list[tuple[int, float]], shown: list[tuple[int, float]], beeps: list[float]
) -> dict[str, Any]:
    """Seconds from a block's completion to its first frame, how smoothly the frames were shown, and how much later than
    its frame a sound was heard."""
    delays = [
        min((at for number, at in shown if first <= number < first + BLOCK), default=float("inf")) - complete
        for first, complete in completed
    ]
    seen = [delay for delay in delays if delay != float("inf")]
    later = sorted(seen[1:])
    begun = dict(reversed(shown))  # a frame that stays may be shown again
    gaps = [after - before for before, after in pairwise(sorted(begun.values()))]
    late = skews(shown, beeps)
    still = [gap for gap in gaps if gap > STALL]
    return {
        "first block s": delays[0],
        "median s": statistics.median(later),
        "90 % s": later[int(len(later) * 0.9)],
        "greatest s": later[-1],
        "blocks": len(delays),
        "blocks not seen": len(delays) - len(seen),
        "frames shown": len({number for number, _ in shown}) / (len(delays) * BLOCK),
        "stalls": len(still),
        "longest stall s": max(still, default=0.0),
        "stalled s": sum(still),
        "beeps": len(late),
        "sound later s": statistics.median(late) if late else None,
        "at most s": max(late, key=abs, default=None),
    }


def prepared(work: Path, host: Path) -> tuple[Path, Path, Path]:
    """The browser, the host's base directory, which is made ready, and its folder; SystemExit where no browser is."""
    program = find_chromium()
    if program is None:
        raise SystemExit(MISSING)
    base, folder = work.expanduser().resolve(), host.expanduser().resolve()
    prepare_base(base, folder, [ROOT])
    return program, base, folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, required=True, help="folder of a ComfyUI")
    parser.add_argument("--work", type=Path, required=True, help="folder for the host's files")
    parser.add_argument("--page", type=Path, help="folder of another page that the host serves")
    parser.add_argument("--webrtc", action="store_true", help="show live runs by WebRTC, which needs aiortc")
    parser.add_argument("--runs", nargs="*", choices=RUNS, default=list(RUNS))
    parser.add_argument(
        "--size", nargs=2, type=int, default=(448, 256), help="of the video, 256 wide at least"
    )
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    program, base, folder = prepared(args.work, args.host)
    probe = base / "custom_nodes" / "player_probe"
    shutil.copytree(Path(__file__).parent / "player_probe", probe, dirs_exist_ok=True)
    further = ["--front-end-root", str(args.page.resolve())] if args.page else []
    rows = []
    with (
        Host(
            Path(sys.executable), folder, base, cpu=not torch.cuda.is_available(), arguments=further
        ) as host,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=str(program), args=FLAGS)
        for name in args.runs:
            page, run = open_page(browser, host.url, "NumberedStream"), RUNS[name]
            shown, beeps = play(
                page, workflow(name, run, tuple(args.size), args.webrtc), 60 + 2 * run.blocks * run.period
            )
            rows.append({"run": name, **figures(host.get("/player_probe"), shown, beeps)})
            page.context.close()
        browser.close()
    columns = list(rows[0])
    print_table(columns, [[row[column] for column in columns] for row in rows])
    if args.json:
        about = {"environment": environment(torch.device("cpu")), "size": list(args.size)}
        args.json.write_text(json.dumps(about | {"runs": rows}, indent=1))


if __name__ == "__main__":
    main()
