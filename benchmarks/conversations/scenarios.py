"""Ten conversations in English, Spanish and Mandarin, from a caller's voice to the avatar's, split into their parts.

    python -m benchmarks.conversations.scenarios --host ~/ComfyUI --work DIR [--json scenarios.json] [--only NAME ...]

A real ComfyUI runs the shipped workflow of a conversation with the shipped talker on the CPU. The caller speaks by
espeak-ng, and so does the avatar, Mandarin from pinyin. English is heard by Whisper tiny.en and answered by SmolLM2,
Spanish and Mandarin are heard by Whisper base, where their packages are installed (`tools/small_models.py`). Elsewhere,
and for Spanish and Mandarin answers, scripted services stand in; the tables say who did the work. A frame that is in
the video counts as shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any
from unicodedata import combining, normalize

import torch

from tools.caller import RATE, Caller, conversation_workflow
from tools.comfyui import prepare_base
from tools.environment import ROOT
from tools.host import Host
from tools.scripted_services import Script, running_services
from tools.small_models import Voice, ears, english_mind, installed

from ..common import environment, print_table

SIZE = (64, 64)
QUIET = bytes(2 * RATE)  # a second
CHINESE = re.compile(r"[\u4e00-\u9fff]")
PARTS = ("turn_end", "ears", "mind", "voice", "written", "block", "lips")
SCRIPTED = "scripted"
RUN = 3  # letters


@dataclass(frozen=True)
class Turn:
    """A question, and what a scripted mind answers."""

    language: str
    words: str
    answer: str


SHORT = {
    "English": Turn("English", "What time is it?", "It is half past three."),
    "Spanish": Turn("Spanish", "Por favor, ¿dónde está la estación?", "Está detrás de la plaza."),
    "Mandarin": Turn("Mandarin", "明天会下雨吗?", "明天是晴天。"),
}
"""Whisper base understands these from espeak-ng; of "¿Qué hora es?" it makes "Ok", of "现在几点了?" "先开键键"."""
MEDIUM = {
    "English": Turn(
        "English",
        "I would like to visit the mountains this weekend, but I do not know what the weather will be like there.",
        "It will be sunny on Saturday. On Sunday it may rain a little, so take a coat with you.",
    ),
    "Spanish": Turn(
        "Spanish",
        "Este fin de semana quiero ir a la montaña, pero no sé qué tiempo va a hacer allí.",
        "El sábado hará sol. El domingo puede llover un poco, así que lleva un abrigo.",
    ),
    "Mandarin": Turn(
        "Mandarin",
        "这个周末我想去爬山,可是我不知道那里的天气怎么样。",
        "星期六是晴天。星期天可能会下一点雨,请带上外套。",
    ),
}
_READINGS = {
    "明天会下雨吗": "ming2 tian1 hui4 xia4 yu3 ma5",
    "这个周末我想去爬山": "zhe4 ge5 zhou1 mo4 wo3 xiang3 qu4 pa2 shan1",
    "可是不知道那里的天气怎么样": "ke3 shi4 bu4 zhi1 dao4 na4 li3 de5 tian1 qi4 zen3 me5 yang4",
    "星期六晴": "xing1 qi1 liu4 qing2",
    "能一点请带上外套": "neng2 yi4 dian3 qing3 dai4 shang4 wai4 tao4",
}
PINYIN = str.maketrans(
    {
        character: f"{sound} "
        for characters, sounds in _READINGS.items()
        for character, sound in zip(characters, sounds.split(), strict=True)
    }
    | {"。": ". "}
)
"""How the characters of these conversations are read; each has one reading here."""
CALLERS = {"English": "", "Spanish": "", "Mandarin": "+f2"}
"""espeak-ng's variant that asks. Of its plain Mandarin Whisper base understands about a fifth less."""
ANSWERS = "+f2"
SCENARIOS: dict[str, tuple[Turn, ...]] = {
    "English, short": (SHORT["English"],),
    "English, medium": (MEDIUM["English"],),
    "Spanish, short": (SHORT["Spanish"],),
    "Spanish, medium": (MEDIUM["Spanish"],),
    "Mandarin, short": (SHORT["Mandarin"],),
    "Mandarin, medium": (MEDIUM["Mandarin"],),
    "English to Spanish": (SHORT["English"], SHORT["Spanish"]),
    "Spanish to Mandarin": (SHORT["Spanish"], SHORT["Mandarin"]),
    "Mandarin to English": (SHORT["Mandarin"], SHORT["English"]),
    "all three": (SHORT["English"], SHORT["Spanish"], SHORT["Mandarin"]),
}


class Cast:
    """Who hears, thinks and speaks: real models where there are any."""

    def __init__(self) -> None:
        self.voice, self.mind = Voice(), english_mind()
        self.ears = {language: ears(language) for language in SHORT}
        if not installed("pypinyin"):
            self.ears["Mandarin"] = None  # nothing could compare what they hear
        self.script = Script(speak=lambda text: self.say(text, self._language, ANSWERS))

    def say(self, text: str, language: str, variant: str = "") -> bytes:
        """A text of these conversations as `Voice` says it, which reads Mandarin from pinyin."""
        return self.voice.say(text.translate(PINYIN) if language == "Mandarin" else text, language, variant)

    def prepare(self, turn: Turn) -> dict[str, str]:
        """Let the services expect a turn; who does the work."""
        self._language = turn.language
        self.script.transcripts, self.script.answer = ((60.0, turn.words),), turn.answer
        hears, self.script.hear = self.ears[turn.language] or (SCRIPTED, None)
        self.script.think = self.mind if turn.language == "English" else None
        return {
            "hears": hears,
            "thinks": SCRIPTED if self.script.think is None else "SmolLM2 135M",
        }


async def hold(host: Host, url: str, cast: Cast, name: str) -> tuple[list[dict[str, Any]], Path]:
    """Hold one conversation in a host; what was heard, said and measured in each turn, and the video.

    RuntimeError where the host or the conversation has an error.
    """
    id_ = "a-scenario-" + re.sub("[^a-z]+", "-", name.lower())
    place = {"extra_pnginfo": {"workflow": {"id": id_}}}
    prompt = await asyncio.to_thread(host.submit, conversation_workflow(url, id_, SIZE), extra_data=place)
    found, begun = [], asyncio.Event()
    async with Caller(host.url, id_) as caller:
        watching = asyncio.create_task(_watch(host, caller, id_, begun))
        await asyncio.wait_for(begun.wait(), 300)
        for number, turn in enumerate(SCENARIOS[name], start=1):
            who, said = cast.prepare(turn), len(caller.of("said"))
            sound = cast.say(turn.words, turn.language, CALLERS[turn.language])
            await caller.say(sound + QUIET)
            await caller.until(lambda number=number: len(caller.of("timings")) == number, 120)
            await caller.until(lambda: caller.told[-1] == {"type": "state", "state": "listening"}, 120)
            heard = [message["text"] for message in caller.of("heard") if message["final"]][-1]
            answer = " ".join(message["text"] for message in caller.of("said")[said:])
            about = {"scenario": name, "turn": number, "language": turn.language, **who}
            about |= {"asked": turn.words, "heard": heard, "said": answer}
            about |= {"right": right(turn.words, heard), "alike": alike(turn.words, heard)}
            timings = {part: caller.of("timings")[-1][part] for part in PARTS}
            found.append(about | {"question s": len(sound) / (2 * RATE), "seconds": timings})
        if watching.done():
            watching.result()  # which raises: the host did not answer
        watching.cancel()
        await caller.send(type="end")
        await caller.until(lambda: caller.of("end"), 120)
        if caller.of("error"):
            raise RuntimeError(f"{name}: {caller.of('error')}")
    entry = await asyncio.to_thread(host.wait, prompt)
    if errors := host.errors(entry):
        raise RuntimeError(f"{name}: {errors}")
    return found, next(path for path in host.files(entry) if path.suffix == ".mp4")


async def _watch(host: Host, caller: Caller, id_: str, begun: asyncio.Event) -> None:
    """Tell how much of the video is there, as a page tells how much it has shown."""
    while True:
        for stream in await asyncio.to_thread(host.get, f"/liveavatar/streams?workflow={id_}"):
            if stream["frames"]:
                await caller.send(type="played", seconds=stream["frames"] / stream["fps"])
                begun.set()
        await asyncio.sleep(0.2)


def right(asked: str, heard: str) -> float:
    """How much of what was asked was heard, from 0 to 1: words without their accents; of Chinese, syllables without
    their tones, so that what sounds alike and both ways of writing count as the same. Characters without pypinyin."""
    one, other = (spoken(text) for text in (asked, heard))
    same = sum(
        block.size for block in SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    )
    return round(same / len(one), 3)


def alike(asked: str, heard: str) -> float:
    """How much of the sound of what was asked was heard, from 0 to 1: letters in common runs of three or more, wherever
    words begin. Ears that write "donde estará estaión" have heard "dónde está la estación"."""
    one, other = ("".join(spoken(text)) for text in (asked, heard))
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return round(sum(block.size for block in blocks if block.size >= RUN) / len(one), 3)


def spoken(text: str) -> list[str]:
    """The words of a text, and the syllables of its Chinese characters, as they are compared."""
    if CHINESE.search(text) and installed("pypinyin"):
        from pypinyin import lazy_pinyin

        text = CHINESE.sub(lambda found: f" {lazy_pinyin(found[0])[0]} ", text)
    text = CHINESE.sub(r" \g<0> ", text)
    plain = "".join(letter for letter in normalize("NFD", text.lower()) if not combining(letter))
    return re.sub(r"[^\w\s]", "", plain).split()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", type=Path, required=True, help="folder of a ComfyUI")
    parser.add_argument("--work", type=Path, required=True, help="folder for the host's files")
    parser.add_argument("--only", nargs="*", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--json", type=Path, help="where to write the results")
    args = parser.parse_args()
    base, folder, cast = args.work.expanduser().resolve(), args.host.expanduser().resolve(), Cast()
    prepare_base(base, folder, [ROOT])
    rows = []
    with (
        running_services(cast.script) as url,
        Host(Path(sys.executable), folder, base, cpu=True) as host,
    ):
        for name in args.only:
            rows += asyncio.run(hold(host, url, cast, name))[0]
    columns = ("scenario", "turn", "hears", "thinks", "right", "alike")
    table = [[*(row[column] for column in columns), *row["seconds"].values()] for row in rows]
    print_table((*columns, *PARTS), table)
    if args.json:
        about = {"environment": environment(torch.device("cpu")), "size": list(SIZE), "turns": rows}
        args.json.write_text(json.dumps(about, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
