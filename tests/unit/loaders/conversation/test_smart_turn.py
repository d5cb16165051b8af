"""The published Smart Turn decides as its makers' own code does. Optional: pipecat's package carries the file."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from avatar.conversation.activity import Loudness
from avatar.conversation.roles import EARS_RATE
from avatar.conversation.turns import Ended, Turns
from avatar.loaders.conversation.smart_turn import SECONDS, SmartTurn

from benchmarks.conversations.turn_ends import CUT as UNFINISHED
from benchmarks.conversations.turn_ends import FINISHED
from tools.small_models import Voice, for_ears, smart_turn_file

_, CUT, *_ = UNFINISHED["English"]
*_, WHOLE, _, REST = FINISHED["English"]
LONG = "At first I thought that it would rain, then it snowed for many hours, and now the sun shines. "
PAUSE, LONGEST = 0.2, 3.0


@pytest.fixture(scope="module")
def file() -> Path:
    pytest.importorskip("onnxruntime")
    found = smart_turn_file()
    if found is None:
        pytest.skip("pipecat-ai, which carries Smart Turn's file, is not installed.")
    return found


def spoken(voice: Voice, text: str) -> torch.Tensor:
    """A sentence in English without the silence at its ends."""
    sound = for_ears(voice.say(text, "English"))
    loud = (sound.abs() > 0.01).nonzero()
    return sound[loud.min() : loud.max() + 1]


def makers_features(file: Path, sound: torch.Tensor) -> np.ndarray:
    """What the makers' own code gives to the network, [1, 80, 800]."""
    place = file.parents[1] / "_whisper_features.py"
    about = importlib.util.spec_from_file_location("whisper_features", place)
    code = importlib.util.module_from_spec(about)
    about.loader.exec_module(code)  # the package itself wants more than this file
    size = SECONDS * EARS_RATE
    end = sound.numpy()[-size:]
    padded = np.pad(end, (size - len(end), 0))
    return code.compute_whisper_log_mel_features(padded, do_normalize=True)[None]


@pytest.mark.parametrize("text", [CUT, WHOLE, "My name is", 2 * LONG], ids=["cut", "whole", "short", "long"])
def test_the_published_file_is_asked_as_its_makers_ask_it(file, voice, text, monkeypatch):
    """Sound of less than eight seconds, and of more. In 8 bits the network is so rough that noise of a hundred
    thousandth moves an undecided answer by 0.2, so what it is given is compared, and what it decides."""
    import onnxruntime

    sound, turn, given = spoken(voice, text), SmartTurn(file), []
    assert (len(sound) > SECONDS * EARS_RATE) == (text == 2 * LONG)
    graph = turn._graph
    monkeypatch.setattr(turn, "_graph", lambda features: given.append(features.numpy()) or graph(features))
    likely, wanted = turn(sound), makers_features(file, sound)
    np.testing.assert_allclose(given[0], wanted, atol=1e-4)
    session = onnxruntime.InferenceSession(str(file))
    theirs = session.run(None, {"input_features": wanted})[0].item()
    assert session.run(None, {"input_features": given[0]})[0].item() == pytest.approx(likely, abs=1e-4)
    assert (likely > 0.5) == (theirs > 0.5)


def test_a_sentence_that_is_cut_is_waited_for_and_a_whole_one_is_not(file, voice):
    """Nobody says so but the file: without it, both would end after the longest pause."""
    asked = []
    decide = SmartTurn(file)

    def finished(sound: torch.Tensor) -> float:
        asked.append(decide(sound))
        return asked[-1]

    turns = Turns(Loudness(), EARS_RATE, PAUSE, LONGEST, finished)
    quiet = torch.zeros(EARS_RATE)
    sounds = [
        quiet,
        spoken(voice, CUT),
        quiet[: EARS_RATE // 2],
        spoken(voice, REST),
        quiet[: EARS_RATE // 5],
    ]
    early = [event for sound in sounds for event in turns.hear(sound) if isinstance(event, Ended)]
    assert early == [] and asked and max(asked) < 0.5
    turns.reset()
    found = [turns.hear(sound) for sound in (quiet, spoken(voice, WHOLE), quiet)]
    (ended,) = [event for event in found[-1] if isinstance(event, Ended)]
    assert ended.silence == pytest.approx(PAUSE, abs=0.05) and asked[-1] > 0.5
