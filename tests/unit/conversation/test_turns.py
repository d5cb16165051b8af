"""When a person speaks, pauses, and has finished."""

from __future__ import annotations

import math

import pytest
import torch
from avatar.conversation.activity import WINDOW, Loudness
from avatar.conversation.roles import EARS_RATE
from avatar.conversation.turns import LONGEST_TURN, Ended, Paused, Speaking, Turns

RATE = 24_000


def speech(seconds, loudness=0.2):
    times = torch.arange(round(seconds * RATE)) / RATE
    return loudness * torch.sin(2 * math.pi * 200 * times)


def silence(seconds, loudness=0.0):
    return loudness * torch.randn(round(seconds * RATE))


def turns(**options):
    return Turns(Loudness(), RATE, **({"pause": 0.2, "longest_pause": 0.6} | options))


def heard(listener, *sounds):
    """The events of sounds that arrive in pieces of 20 ms."""
    events = []
    for piece in torch.cat(sounds).split(RATE // 50):
        events += listener.hear(piece)
    return events


def kinds(events):
    return [type(event) for event in events if not isinstance(event, Speaking)]


def test_a_turn_begins_pauses_and_ends_after_the_longest_pause():
    events = heard(turns(), silence(1), speech(1.0), silence(0.55))
    assert kinds(events) == [Paused]
    events = heard(turns(), silence(1), speech(1.0), silence(0.7))
    assert kinds(events) == [Paused, Ended]
    assert events[0].seconds < 0.1
    paused, ended = events[-2:]
    spoken = [event.seconds for event in events if isinstance(event, Speaking)]
    assert spoken[-1] == pytest.approx(1.0, abs=0.07) and ended.silence == pytest.approx(0.6, abs=0.04)
    # The sound begins before the speech, and loses nothing of it.
    assert 1.1 < len(paused.sound) / EARS_RATE < 1.5
    assert paused.sound.abs().max() == pytest.approx(0.2, abs=0.01)


def test_a_pause_within_a_turn_ends_nothing():
    events = heard(turns(), speech(0.5), silence(0.3), speech(0.5), silence(0.7))
    assert kinds(events) == [Paused, Paused, Ended]
    first = next(event for event in events if isinstance(event, Paused))
    assert len(events[-1].sound) > len(first.sound)


def test_a_turn_that_sounds_finished_ends_after_the_short_pause_and_is_asked_once_per_pause():
    asked = []

    def finished(sound):
        asked.append(len(sound))
        return 0.9 if len(asked) > 1 else 0.1

    events = heard(turns(finished=finished), speech(0.5), silence(0.4), speech(0.5), silence(0.4))
    assert kinds(events) == [Paused, Paused, Ended]
    assert len(asked) == 2 and events[-1].silence == pytest.approx(0.2, abs=0.04)


def test_a_click_is_no_speech():
    assert heard(turns(), silence(0.5), speech(0.01, 0.9), silence(0.5)) == []


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.02])
def test_steady_noise_is_soon_no_speech_and_a_voice_above_it_is(noise):
    listener = turns()
    heard(listener, silence(12, noise))
    assert heard(listener, silence(2, noise)) == []
    events = heard(listener, speech(0.6, 0.3), silence(0.8, noise))
    assert kinds(events)[-1] is Ended


def test_a_turn_without_end_is_cut():
    listener = Turns(lambda window: 1.0, RATE, 0.2, 0.6)
    (ended,) = [event for event in heard(listener, silence(LONGEST_TURN + 1)) if isinstance(event, Ended)]
    assert len(ended.sound) / EARS_RATE == pytest.approx(LONGEST_TURN, abs=0.1)


def test_a_turn_can_be_ended_from_outside_and_dropped():
    listener = turns()
    heard(listener, speech(0.5))
    assert len(listener.finish().sound) / EARS_RATE > 0.4
    assert listener.finish() is None
    heard(listener, speech(0.5))
    listener.reset()
    assert listener.finish() is None


def test_silero_tells_a_voice_from_noise():
    pytest.importorskip("silero_vad")
    from avatar.conversation.activity import Silero

    activity = Silero()
    noise = torch.randn(EARS_RATE * 2) * 0.1
    assert max(activity(window) for window in noise.split(WINDOW) if len(window) == WINDOW) < 0.5
