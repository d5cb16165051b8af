"""What Ditto hears in finished and in live speech. A stand-in takes the place of the speech network."""

from __future__ import annotations

import pytest
import torch
from avatar.loaders.ditto import speech as ditto_speech
from avatar.loaders.ditto.speech import listen, video_frames
from avatar.media.speech import LiveSpeech, Speech
from avatar.media.speech_feed import SpeechFeed

RATE = 24_000


class Clock:
    """A clock that goes on by itself whenever it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.05
        return self.now


class Encoder:
    """Rows that say how loud 400 samples are; counts the windows."""

    calls = 0

    def __call__(self, sound):
        self.calls += 1
        return sound[0].unfold(0, 400, 320).abs().mean(1)[None, :, None].expand(1, -1, 1024)


def noise(seconds, rate=RATE):
    return torch.rand(round(seconds * rate), generator=torch.Generator().manual_seed(1)) - 0.5


def finished(sound, rate=RATE):
    return Speech.of([{"waveform": sound[None, None], "sample_rate": rate}])


def live(sound, **options):
    feed = SpeechFeed(RATE, clock=Clock())
    feed.wait = lambda seconds: None
    feed.write(sound, RATE)
    feed.end()
    return LiveSpeech(feed, **options)


def test_a_row_for_every_frame_of_a_speech():
    for seconds in (0.1, 1.0, 2.345):
        speech = finished(noise(seconds))
        assert len(torch.cat(list(listen(speech, Encoder())))) == video_frames(speech)


def test_a_speech_is_heard_once():
    speech, encode = finished(noise(2)), Encoder()
    first = torch.cat(list(listen(speech, encode)))
    calls = encode.calls
    assert torch.equal(torch.cat(list(listen(speech, encode))), first)
    assert encode.calls == calls


def test_another_network_hears_for_itself():
    speech, other = finished(noise(2)), Encoder()
    list(listen(speech, Encoder()))
    list(listen(speech, other))
    assert other.calls


def test_a_pass_that_was_stopped_is_not_remembered():
    speech = finished(noise(2))
    features = listen(speech, Encoder())
    next(features)
    features.close()
    assert speech.heard == {}


def test_long_speech_is_heard_again(monkeypatch):
    monkeypatch.setattr(ditto_speech, "MOST_REMEMBERED", 10)
    speech = finished(noise(2))
    assert len(torch.cat(list(listen(speech, Encoder())))) == 50
    assert speech.heard == {}


def test_live_features_are_those_of_the_finished_speech():
    sound = noise(3)
    whole = torch.cat(list(listen(finished(sound), Encoder())))
    arrived = torch.cat(list(listen(live(sound), Encoder())))
    assert len(arrived) >= len(whole)
    # within what the converter of a rate loses where the sound behind a frame has not come yet
    assert (arrived[: len(whole)] - whole).abs().mean() < 0.01 * whole.mean()
    assert (arrived[len(whole) + 3 :] == 0).all()


def test_live_speech_ends_after_its_longest_time_and_closes_its_feed():
    speech = live(noise(10), max_seconds=2.0)
    assert len(torch.cat(list(listen(speech, Encoder())))) == 50
    assert speech.feed.closed


def test_an_interrupt_stops_before_the_next_window():
    class Stop(Exception):
        pass

    def check():
        raise Stop

    encode = Encoder()
    with pytest.raises(Stop):
        list(listen(finished(noise(2)), encode, check))
    assert encode.calls == 0
