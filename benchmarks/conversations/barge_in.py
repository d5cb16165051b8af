"""How soon the page is mute when somebody interrupts the avatar, in a headless Chromium with a fake microphone.

    python -m benchmarks.conversations.barge_in --host ~/ComfyUI --work DIR [--times 5] [--json barge_in.json]

A real ComfyUI runs the shipped workflow of a conversation with the shipped talker on the CPU, and scripted services.
The browser's microphone hears espeak-ng say a sentence every 12 seconds, while an answer is being said. Times count
from the first loud piece of 20 ms that the page has of it, so what the browser needs before that is not in them. Needs
Chromium or Chrome, playwright, and espeak-ng (`tools/small_models.py`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import wave
from pathlib import Path
from typing import Any

import torch
from playwright.sync_api import Page, sync_playwright

from tools.caller import conversation_workflow
from tools.host import Host
from tools.scripted_services import Script, running_services
from tools.small_models import RATE, Voice

from ..common import environment, print_table
from ..player import FLAGS, QUEUE, load, open_page, prepared

NODE = "AvatarConversation"
SIZE, EVERY = (64, 64), 12.0
SENTENCE = "Wait a moment, please."
ANSWER = "This is a long answer of many words, which somebody interrupts. " * 12
LOUD = 1000  # of 32768
TRIES = 3
# What has happened, as [name, milliseconds]: a voice after half a second without, messages and states, volume.
MARK = f"""
() => {{
    const mark = (name) => window.marks.push([name, performance.now()]);
    const send = WebSocket.prototype.send;
    let heard = 0;
    const known = new Set();
    window.marks = [];
    WebSocket.prototype.send = function (data) {{
        if (this.url.includes("/liveavatar/talk/") && !known.has(this)) {{
            known.add(this);
            this.addEventListener("message", ({{ data }}) => mark(JSON.parse(data).state ?? JSON.parse(data).type));
        }}
        if (data instanceof ArrayBuffer && new Int16Array(data).some((sample) => Math.abs(sample) > {LOUD})) {{
            if (performance.now() - heard > 500) mark("voice");
            heard = performance.now();
        }}
        send.call(this, data);
    }};
    const wait = setInterval(() => {{
        const video = document.querySelector(".liveavatar-player video");
        if (!video) return;
        clearInterval(wait);
        video.addEventListener("volumechange", () => mark(video.volume ? "sound" : "mute"));
    }}, 10);
}}
"""
SAYS = "(word) => document.querySelector('.liveavatar-talk .word')?.textContent === word"


def microphone(path: Path) -> list[str]:
    """Write what the microphone hears: silence, and a sentence at its end. The browser's flags for it."""
    sound = Voice().say(SENTENCE, "English")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(bytes(round(EVERY * RATE) * 2 - len(sound)) + sound)
    return [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={path}",
    ]


def interruptions(page: Page, times: int) -> list[dict[str, float]]:
    """Let the microphone interrupt so many answers; each interruption is the next question. SystemExit where most of
    them are none."""
    page.get_by_role("button", name="Microphone").click()
    found: list[dict[str, float]] = []
    for _ in range(TRIES * times):
        page.wait_for_function(SAYS, arg="Speaking", timeout=120_000)
        page.evaluate("() => { window.marks.length = 0; }")
        page.wait_for_function("() => window.marks.some(([name]) => name === 'listening')", timeout=120_000)
        marks = dict(reversed(page.evaluate("() => window.marks")))  # the first of each name
        if not {"voice", "mute", "duck"} <= marks.keys():
            continue  # the answer was over before, or the sentence had begun before the answer
        told = {"mute": "mute", "duck": "server says", "listening": "answer stops"}
        found.append({name: (marks[event] - marks["voice"]) / 1000 for event, name in told.items()})
        print(found[-1], flush=True)
        if len(found) == times:
            return found
    raise SystemExit(
        f"{len(found)} of {TRIES * times} answers were interrupted: there is nothing to measure."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, required=True, help="folder of a ComfyUI")
    parser.add_argument("--work", type=Path, required=True, help="folder for the host's files")
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    program, base, folder = prepared(args.work, args.host)
    flags = [*FLAGS, *microphone(base / "microphone.wav")]
    with (
        running_services(Script(((60.0, SENTENCE),), {}, ANSWER)) as url,
        Host(Path(sys.executable), folder, base, cpu=True) as host,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=str(program), args=flags)
        page = open_page(browser, host.url, NODE)
        page.evaluate(MARK)
        load(page, conversation_workflow(url, "", SIZE), NODE)
        page.locator(QUEUE).first.click()
        page.wait_for_function(SAYS, arg="Listening", timeout=300_000)
        rows = interruptions(page, args.times)
        browser.close()
    figures: dict[str, Any] = {
        name: {
            "median": statistics.median(row[name] for row in rows),
            "worst": max(row[name] for row in rows),
        }
        for name in rows[0]
    }
    print_table(
        ("after the voice, s", "median", "worst"),
        [[name, *found.values()] for name, found in figures.items()],
    )
    if args.json:
        about = {"environment": environment(torch.device("cpu")), "size": list(SIZE), "times": rows}
        args.json.write_text(json.dumps(about | {"figures": figures}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
