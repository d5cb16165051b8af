"""A benchmark in GenBench's shape from a user's own portraits and voices, made by any engine.

    python -m evaluation genbench --portraits FOLDER --voices FOLDER --out bench --command \\
        'python -m tools.talk --portrait {portrait} --speech {speech} --out {video}'

The list has 100 clips of 10 seconds and 15 of 5 minutes; portraits and voices are paired anew until they are enough.
The command makes one video; it is run without a shell. Videos that are there are not made again, so a stopped run goes
on. Then measure them: python -m evaluation bench/videos.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..media.mapped_sound import map_audio
from ..media.sound import MonoSound
from .clip import open_file
from .metric import SOUND_RATE
from .subjects import FILE

SHORT, LONG = (100, 10.0), (15, 300.0)
"""How many clips, of how many seconds."""
PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
SOUNDS = {".wav", ".flac", ".ogg", ".mp3", ".m4a", ".opus"}
PLACE = re.compile(r"\{(portrait|speech|video|seconds)\}")
FADE = 0.02
"""Seconds over which a voice fades where it is cut or repeated."""
AT_ONCE = 1 << 20
KEEPER = """
import os, signal, subprocess, sys, threading

def end():
    if engine.poll() is None:
        os.killpg(engine.pid, signal.SIGKILL) if os.name == "posix" else engine.kill()

def watch():
    os.read(0, 1)
    end()

try:
    engine = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=os.name == "posix")
except OSError as error:
    sys.exit(str(error))
signal.signal(signal.SIGINT, signal.SIG_IGN)
threading.Thread(target=watch, daemon=True).start()
code = engine.wait()
sys.exit(code if code >= 0 else 128 - code)
"""
"""Runs a command that ends with the benchmark, even where that is killed: nobody writes here, and the input ends when
the benchmark does. An engine that ran on would slow the next run's videos and write into its files."""


@dataclass(frozen=True)
class Case:
    """One video of the list."""

    name: str
    portrait: Path
    voice: Path
    seconds: float


def cases(
    portraits: Sequence[Path], voices: Sequence[Path], kinds: Sequence[tuple[str, int, float]], seed: int
) -> list[Case]:
    """The list: each kind is a name, how many clips, and how long they are. Every portrait and every voice is used
    before one is used again; the same seed gives the same list."""
    draw = random.Random(seed)
    made = []
    for kind, count, seconds in kinds:
        chosen = [_shuffled(things, count, draw) for things in (portraits, voices)]
        made += [
            Case(f"{kind}_{number:03}", portrait, voice, seconds)
            for number, (portrait, voice) in enumerate(zip(*chosen, strict=True))
        ]
    return made


def _shuffled(things: Sequence[Path], count: int, draw: random.Random) -> list[Path]:
    found: list[Path] = []
    while len(found) < count:
        found += draw.sample(list(things), len(things))
    return found[:count]


def speech_of(voice: Path, seconds: float, out: Path) -> None:
    """Write a voice as a WAV of exactly this length at 16 kHz; a shorter voice is repeated."""
    sound = MonoSound(map_audio(voice), SOUND_RATE)
    length, part = round(seconds * SOUND_RATE), out.with_suffix(".part.wav")
    with wave.open(str(part), "wb") as file:
        file.setparams((1, 2, SOUND_RATE, 0, "NONE", "NONE"))
        while length > 0:
            some = sound.read(0, min(sound.samples, length, AT_ONCE))
            file.writeframes(
                (_faded(some) * 32767).round().clamp(-32768, 32767).numpy().astype("<i2").tobytes()
            )
            length -= len(some)
    os.replace(part, out)


def _faded(samples: Tensor) -> Tensor:
    edge = min(round(FADE * SOUND_RATE), len(samples) // 2)
    if edge:
        ramp = torch.linspace(0, 1, edge)
        samples = samples.clone()
        samples[:edge] *= ramp
        samples[-edge:] *= ramp.flip(0)
    return samples


def command_of(template: str, case: Case, speech: Path, video: Path) -> list[str]:
    """The command's words with {portrait}, {speech}, {video} and {seconds} filled in; no shell reads them."""
    values = {
        "portrait": str(case.portrait),
        "speech": str(speech),
        "video": str(video),
        "seconds": f"{case.seconds:g}",
    }
    words = shlex.split(template)
    if not any("{video}" in word for word in words):
        raise ValueError("Put {video} into --command: the engine has to know where its video goes.")
    # In one go, so that a file called {video} stays what it is.
    return [PLACE.sub(lambda match: values[match[1]], word) for word in words]


def make(case: Case, folder: Path, template: str, blocks: list[int] | None) -> str:
    """Make one video unless it is there, and note what is known of it; returns what happened, in a sentence."""
    videos = folder / "videos"
    video, speech = videos / f"{case.name}.mp4", folder / "speech" / f"{case.name}.wav"
    if video.is_file():
        return "is there already"
    if not speech.is_file():
        speech_of(case.voice, case.seconds, speech)
    part = folder / "making" / f"{case.name}.mp4"
    part.unlink(missing_ok=True)
    begin = time.monotonic()
    code = _run(command_of(template, case, speech, part))
    took = time.monotonic() - begin
    if code or not part.is_file():
        raise RuntimeError(f"Run the command by hand to see why {case.name} fails: it ended with {code}.")
    frames = open_file(part).length
    portrait = videos / f"{case.name}{case.portrait.suffix.lower()}"
    shutil.copyfile(case.portrait, portrait)
    entry = {"reference": portrait.name, "made": [[round(took, 3), frames]]}
    _note(videos / FILE, video.name, entry | ({"blocks": blocks} if blocks else {}))
    os.replace(part, video)
    return f"{frames} frames in {took:.1f} s"


def _run(command: Sequence[str]) -> int:
    with subprocess.Popen([sys.executable, "-c", KEEPER, *command], stdin=subprocess.PIPE) as keeper:
        return keeper.wait()


def _note(path: Path, name: str, entry: dict) -> None:
    known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps({**known, name: entry}, indent=1), encoding="utf-8")
    os.replace(part, path)


def main(arguments: Sequence[str]) -> int:
    """Make the list's videos; 2 when some of them failed."""
    parser = argparse.ArgumentParser(
        "evaluation genbench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--portraits", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--voices", type=Path, required=True, help="folder of speech")
    parser.add_argument("--out", type=Path, default=Path("bench"))
    parser.add_argument("--command", required=True, help="makes one video; see above")
    parser.add_argument("--blocks", type=lambda text: [int(part) for part in text.split(",")])
    parser.add_argument("--short", type=int, default=SHORT[0], help="clips of --short-seconds")
    parser.add_argument("--short-seconds", type=float, default=SHORT[1])
    parser.add_argument("--long", type=int, default=LONG[0], help="clips of --long-seconds")
    parser.add_argument("--long-seconds", type=float, default=LONG[1])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    if min(args.short_seconds, args.long_seconds) <= 0 or min(args.short, args.long) < 0:
        raise ValueError("Give seconds above 0, and counts from 0 on.")
    kinds = [("short", args.short, args.short_seconds), ("long", args.long, args.long_seconds)]
    listed = cases(_files(args.portraits, PICTURES), _files(args.voices, SOUNDS), kinds, args.seed)
    for name in ("speech", "making", "videos"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    failed = 0
    for number, case in enumerate(listed, 1):
        try:
            said = make(case, args.out, args.command, args.blocks)
        except RuntimeError as error:
            failed, said = failed + 1, str(error)
        print(f"[{number}/{len(listed)}] {case.name}: {said}", flush=True)
    if failed:
        print(f"{failed} of {len(listed)} videos could not be made; run the command again.", file=sys.stderr)
    return 2 if failed else 0


def _files(folder: Path, endings: set[str]) -> list[Path]:
    found = (
        sorted(path for path in folder.iterdir() if path.suffix.lower() in endings) if folder.is_dir() else []
    )
    if not found:
        raise ValueError(f"Put files ({', '.join(sorted(endings))}) into {folder}: there are none.")
    return found
