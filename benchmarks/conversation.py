"""From the end of a person's speech to moving lips, simulated on a virtual clock with the real conversation and feed.

    python -m benchmarks.conversation [--turn-end 0.25] [--ears 0.10] [--mind 0.15] [--voice 0.12] [--json FILE]

The services take the stated times. A block of 0.48 s is made in the time that a GPU takes for it, and is shown as much
later as the player needs: 0.3 s with the page, 0.09 s with WebRTC. A silent block that is being made is abandoned when
speech arrives, and a block of speech when that is called off, as the sampler of one GPU does. The question begins at 8
different times within a block. Nothing is computed, so the figures are those of the waiting alone; they are read every
20 ms.
"""

from __future__ import annotations

import argparse
import json
import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.conversation.loop import Manners
from avatar.conversation.timings import PARTS

from tools.conversation_stage import BLOCK_SECONDS, on_stage
from tools.virtual_time import run_virtually

PHASES = 8
QUESTION, ANSWER = "What is", "It is a quarter past three, as far as I can see. Do you want to know more?"
SEVERAL = "several GPUs"
BLOCKS = {SEVERAL: 0.17, "one GPU, 3 steps": 0.38, "one GPU, 4 steps": 0.56}
PLAYERS = {"page": 0.3, "WebRTC": 0.09}
Pace = tuple[float, float, bool]
"""Seconds in which a block is made, and in which the player shows it; and whether blocks are abandoned."""
SPEECH_SECONDS = 1.2
INTERRUPTED_AFTER = 2.0


async def answered(phase: float, pace: Pace, options: argparse.Namespace) -> dict[str, float]:
    """The times of one answer, in seconds since the end of the question."""
    stage_options = {
        "manners": Manners(pause=options.turn_end - 0.03, longest_pause=1.0),
        "finished": lambda sound: 1.0,
    }
    async with on_stage({QUESTION: ANSWER}, *pace, **stage_options) as stage:
        stage.ears.delay, stage.mind.delay, stage.voice.delay = options.ears, options.mind, options.voice
        stage.mind.pace = 0.0  # the stated time is that of the first clause
        await stage.microphone.quiet(2.0 + phase)
        await stage.microphone.say(QUESTION, SPEECH_SECONDS)
        ended = stage.loop.time()
        while not stage.messages("timings"):
            await stage.microphone.quiet(0.1)
        (timings,) = stage.messages("timings")
        # The conversation counts from the last window of speech; the person knows exactly.
        shift = stage.when("timings") - ended - timings["lips"]
        return {part: timings[part] + shift for part in PARTS}


async def interrupted(phase: float, pace: Pace, options: argparse.Namespace) -> dict[str, float]:
    """How long after a person begins to speak the page is mute, and the lips rest; and for how long until then the
    picture stood still, since its next block was done anew."""
    async with on_stage({QUESTION: ANSWER * 4}, *pace) as stage:
        stage.type(QUESTION)
        await stage.until(lambda: stage.feed.taken > 0)
        await stage.microphone.quiet(INTERRUPTED_AFTER + phase)
        begun = stage.loop.time()
        await stage.microphone.say("Stop", 0.8)
        until = (stage.messages("interrupted") + stage.messages("void"))[-1]["until"]
        await stage.until(lambda: stage.shown[-1][1] >= until)
        times = [at for at, position in stage.shown if at >= begun and position <= until]
        return {
            "mute": stage.when("duck", on=True) - begun,
            "answer stops": stage.when("interrupted") - begun,
            "lips rest": next(at for at, position in stage.shown if position >= until) - begun,
            "stands still": max(after - before for before, after in pairwise(times)),
        }


def measure(scene: Any, pace: Pace, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Median and worst of a scene's times over the phases."""
    phases = [number * BLOCK_SECONDS / PHASES for number in range(PHASES)]
    found = [run_virtually(scene(phase, pace, options)) for phase in phases]
    return {
        part: {
            "median": round(statistics.median(times[part] for times in found), 3),
            "worst": round(max(times[part] for times in found), 3),
        }
        for part in found[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, seconds in (("turn-end", 0.25), ("ears", 0.10), ("mind", 0.15), ("voice", 0.12)):
        parser.add_argument(f"--{name}", type=float, default=seconds)
    parser.add_argument("--json", type=Path, help="write all figures into this file")
    options = parser.parse_args()
    rows = []
    for gpu, block in BLOCKS.items():
        for screen, player in PLAYERS.items():
            pace = block, player, gpu != SEVERAL
            times, stops = measure(answered, pace, options), measure(interrupted, pace, options)
            rows.append(
                {"gpu": gpu, "block": block, "player": screen, "answer": times, "interruption": stops}
            )
            lips = times["lips"]
            print(f"{gpu}, {block:.2f} s per block, {screen}:")
            print(f"   lips move after {lips['median']:.2f} s, at worst {lips['worst']:.2f} s")
            print("   answer:       " + _line(times))
            print("   interruption: " + _line(stops), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def _line(times: dict[str, dict[str, float]]) -> str:
    return ", ".join(f"{part} {values['median']:.2f}" for part, values in times.items())


if __name__ == "__main__":
    main()
