"""How soon an avatar answers a voice at ComfyUI's own page, in parts, with the growing file or by WebRTC.

    python -m benchmarks.conversations.page --host ~/ComfyUI --work DIR [--players file webrtc] [--json page.json]

A real ComfyUI runs the shipped workflow of a conversation with the shipped talker on the CPU; scripted services take
the stated times. The microphone of a headless Chromium hears espeak-ng say a sentence every 12 seconds. The server
counts the parts from the end of the speech, and lips by what the page says it has shown. "heard" is the page's own
measure: from its last loud piece of the microphone to the first sound of the answer that it plays, which is the sum of
all parts. Needs Chromium or Chrome, playwright, espeak-ng (`tools/small_models.py`), and aiortc for WebRTC.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Browser, sync_playwright

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.conversation.timings import PARTS

from tools.caller import conversation_workflow
from tools.host import Host
from tools.scripted_services import Script, running_services

from ..common import environment, print_table
from ..player import FLAGS, QUEUE, SHOW, WRITER, load, open_page, prepared
from .barge_in import EVERY, LOUD, NODE, SAYS, SENTENCE, SIZE, microphone

PLAYERS = {"file": "growing file", "webrtc": "WebRTC"}
ANSWER = "It is a quarter past three."
HEARD = "heard"
# Collects timings, with the time from the microphone's last loud piece to the first sound that is played after it.
MEASURE = f"""
() => {{
    const send = WebSocket.prototype.send;
    const known = new Set();
    let spoken = 0, heard = null;
    window.timings = [];
    WebSocket.prototype.send = function (data) {{
        if (this.url.includes("/liveavatar/talk/") && !known.has(this)) {{
            known.add(this);
            this.addEventListener("message", ({{ data }}) => {{
                const told = JSON.parse(data);
                if (told.type === "timings") setTimeout(() => window.timings.push({{ ...told, {HEARD}: heard }}), 2000);
            }});
        }}
        if (data instanceof ArrayBuffer && new Int16Array(data).some((sample) => Math.abs(sample) > {LOUD}))
            [spoken, heard] = [performance.now(), null];
        send.call(this, data);
    }};
    const context = new AudioContext();
    const analyser = new AnalyserNode(context, {{ fftSize: 1024 }});
    const samples = new Float32Array(analyser.fftSize);
    let source = null;
    setInterval(() => {{
        const video = document.querySelector(".liveavatar-player video");
        if (!video?.videoWidth) return;
        if (source !== (video.srcObject ?? video)) {{
            source = video.srcObject ?? video;
            const node = video.srcObject
                ? context.createMediaStreamSource(source)
                : context.createMediaElementSource(source);
            node.connect(analyser);
        }}
        analyser.getFloatTimeDomainData(samples);
        if (spoken && heard === null && samples.some((sample) => Math.abs(sample) > 0.02))
            heard = (performance.now() - spoken) / 1000;
    }}, 10);
}}
"""
CONNECTED = """
() => {
    const video = document.querySelector(".liveavatar-player video");
    return Boolean(video?.srcObject) && video.currentTime > 0;
}
"""


def answers(
    browser: Browser, host: Host, url: str, player: str, pause: float, times: int
) -> list[dict[str, float]]:
    """The parts of so many answers, in seconds; a turn ends after ``pause`` seconds of silence."""
    page = open_page(browser, host.url, NODE)
    try:
        page.evaluate(MEASURE)
        workflow = conversation_workflow(url, "", SIZE)
        (node,) = [node for node in workflow.values() if node["class_type"] == NODE]
        node["inputs"].update(player=PLAYERS[player], barge_in=False, longest_pause=pause)
        load(page, workflow, NODE)
        page.locator(QUEUE).first.click()
        page.wait_for_function(SAYS, arg="Listening", timeout=300_000)
        if player == "webrtc":
            page.wait_for_function(CONNECTED, timeout=60_000)
        page.get_by_role("button", name="Microphone").click()
        page.evaluate(SHOW, WRITER)
        wait = 3 * EVERY * (times + 2) * 1000
        page.wait_for_function("(times) => window.timings.length > times", arg=times, timeout=wait)
        if player == "webrtc" and not page.evaluate(CONNECTED):
            raise SystemExit("The page has lost its connection by WebRTC, and went on with the growing file.")
        _, *found = page.evaluate("() => window.timings")  # the first sentence may have been heard in part
    finally:
        page.context.close()
        host.interrupt()
    return [{part: row[part] for part in (*PARTS, HEARD)} for row in found]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, required=True, help="folder of a ComfyUI")
    parser.add_argument("--work", type=Path, required=True, help="folder for the host's files")
    parser.add_argument("--players", nargs="*", choices=PLAYERS, default=list(PLAYERS))
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--pause", type=float, default=0.25, help="seconds of silence that end a turn")
    parser.add_argument(
        "--services", nargs=3, type=float, default=(0.10, 0.15, 0.12), help="ears, mind, voice: seconds"
    )
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    program, base, folder = prepared(args.work, args.host)
    flags = [*FLAGS, *microphone(base / "microphone.wav")]
    script = Script(((60.0, SENTENCE),), {}, ANSWER, tuple(args.services))
    rows: list[dict[str, Any]] = []
    with (
        running_services(script) as url,
        Host(Path(sys.executable), folder, base, cpu=True) as host,
        sync_playwright() as playwright,
    ):
        for player in args.players:
            browser = playwright.chromium.launch(executable_path=str(program), args=flags)
            found = answers(browser, host, url, player, args.pause, args.times)
            browser.close()
            parts = {}
            for part in found[0]:
                seconds = [row[part] for row in found if row[part] is not None]
                if seconds:
                    parts[part] = {
                        "median": statistics.median(seconds),
                        "worst": max(seconds),
                        "of": len(seconds),
                    }
            rows.append({"player": player, "parts": parts, "answers": found, "load": os.getloadavg()})
            columns = ("after the speech, s", "median", "worst", "of")
            print(f"{player}, load {rows[-1]['load'][0]:.1f}:")
            print_table(columns, [[part, *values.values()] for part, values in parts.items()])
    if args.json:
        about = {
            "environment": environment(torch.device("cpu")),
            "size": list(SIZE),
            "services": args.services,
        }
        args.json.write_text(json.dumps(about | {"players": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
