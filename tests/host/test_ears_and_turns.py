"""Ears and the end of a turn by real models in the host's own process. Optional: packages carry the models
(`tools/small_models.py`)."""

from __future__ import annotations

import asyncio
import shutil

import pytest

from benchmarks.conversations.scenarios import CALLERS, PINYIN, SHORT, alike
from benchmarks.conversations.turn_ends import CUT as UNFINISHED
from benchmarks.conversations.turn_ends import FINISHED
from tools.caller import RATE, Caller
from tools.host import Host
from tools.small_models import HALVES, installed, join_whisper_base, smart_turn_file

from .test_conversation import script, talk, url  # noqa: F401
from .workflows import Api, add, change, only

BASE = "Systran/faster-whisper-base (0.1 GB, MIT)"
_, CUT, *_ = UNFINISHED["English"]
_, _, WHOLE, *_ = FINISHED["English"]
PAUSE, LONGEST = 0.2, 4.0


@pytest.fixture(scope="module")
def ears(ready: Host) -> Host:
    """The host with Whisper base."""
    if not installed("faster_whisper", *HALVES):
        pytest.skip(f"faster-whisper and {' and '.join(HALVES)} are not installed.")
    folder = ready.models_dir / "avatar_conversation" / "faster-whisper-base"
    folder.mkdir(parents=True, exist_ok=True)
    join_whisper_base(folder)
    return ready


@pytest.fixture(scope="module")
def turns(ears: Host) -> Host:
    """The host with Smart Turn."""
    file = smart_turn_file()
    if file is None or not installed("onnxruntime"):
        pytest.skip("pipecat-ai, which carries Smart Turn's file, or onnxruntime is not installed.")
    folder = ears.models_dir / "avatar_conversation" / "smart-turn-v3"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, folder)
    return ears


def hears_here(workflow: Api, language: str) -> str:
    """Let the conversation hear by itself, in a language; its id."""
    own = add(workflow, "AvatarEarsHere", model=BASE, download=False, language=language, device="cpu")
    change(workflow, "AvatarConversation", ears=[own, 0])
    del workflow[only(workflow, "AvatarEars")]
    return workflow[only(workflow, "AvatarConversation")]["inputs"]["id"]


def converse(host: Host, workflow: Api, id_: str, sounds: list[bytes]) -> list[tuple[str, dict]]:
    """Say one thing after another, each after the answer to the one before; what was heard, and the timings."""
    prompt = host.submit(workflow)

    async def speak() -> list[tuple[str, dict]]:
        found = []
        async with Caller(host.url, id_) as caller:
            listening = {"type": "state", "state": "listening"}
            await caller.until(lambda: listening in caller.told, 120)
            for number, sound in enumerate(sounds, start=1):
                await caller.say(sound + bytes(2 * RATE))
                quiet = asyncio.create_task(caller.say(bytes(2 * RATE * 60)))
                await caller.until(lambda number=number: len(caller.of("timings")) == number, 60)
                await caller.until(lambda: caller.told[-1] == listening, 60)
                quiet.cancel()
                heard = [said["text"] for said in caller.of("heard") if said["final"]]
                found.append((heard[-1], caller.of("timings")[-1]))
            await caller.send(type="end")
            await caller.until(lambda: caller.of("end"))
        return found

    found = asyncio.run(speak())
    assert host.errors(host.wait(prompt)) == []
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("language", "name"), [("Spanish", "Spanish"), ("Chinese", "Mandarin")])
def test_ears_of_this_process_hear_other_languages(ears, talk, voice, language, name):  # noqa: F811
    words = SHORT[name].words
    text = words.translate(PINYIN) if name == "Mandarin" else words
    if name == "Mandarin" and not installed("pypinyin"):
        pytest.skip("pypinyin, which compares Mandarin, is not installed.")
    sound = voice.say(text, name, CALLERS[name])
    ((heard, _),) = converse(ears, talk, hears_here(talk, language), [sound])
    print(heard)
    assert alike(words, heard) >= 0.6, heard


@pytest.mark.slow
def test_smart_turn_ends_a_whole_sentence_early_and_waits_after_a_cut_one(turns, talk, voice):  # noqa: F811
    change(talk, "AvatarConversation", turn="smart", pause=PAUSE, longest_pause=LONGEST, max_seconds=600.0)
    id_ = hears_here(talk, "English")
    (whole, early), (cut, late) = converse(
        turns, talk, id_, [voice.say(text, "English") for text in (WHOLE, CUT)]
    )
    print(whole, early, cut, late)
    assert alike(WHOLE, whole) >= 0.6 and alike(CUT, cut) >= 0.6
    assert early["turn_end"] < 2.0 and late["turn_end"] >= LONGEST - 0.1
