"""Speech as edges carry it: sounds, masks, what is remembered, and sound that arrives."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from avatar.loaders.identity import fingerprint
from avatar.media.audio import trim
from avatar.media.speech import LiveSpeech, Speech, assign_masks
from avatar.media.speech_feed import SpeechFeed


def constant(seconds: float, rate: int = 16000, channels: int = 1) -> dict:
    return {"waveform": torch.full((1, channels, round(seconds * rate)), 0.5), "sample_rate": rate}


def test_a_speech_lasts_until_the_last_one_has_finished_and_all_are_heard_in_its_audio():
    speech = Speech.of([constant(1.0, 8000), constant(3.0, 48000, channels=2)])
    assert (speech.speakers, speech.seconds) == (2, 3.0)
    assert speech.audio["sample_rate"] == 48000 and speech.audio["waveform"].shape == (1, 2, 144000)
    assert speech.audio["waveform"][..., 24000].max() > 0.9 > speech.audio["waveform"][..., 96000].max()


def test_one_speakers_own_sound_is_handed_on_unchanged():
    audio = constant(1.0, 44101, channels=2)
    speech = Speech.of([audio])
    assert speech.audio["waveform"] is audio["waveform"] and speech.audio["sample_rate"] == 44101


@pytest.mark.parametrize(
    "odd",
    [
        lambda wave: wave.transpose(1, 2).contiguous().transpose(1, 2),
        lambda wave: torch.stack((wave, wave), -1)[..., 0],
        lambda wave: wave.double(),
        lambda wave: (wave * 32768).to(torch.int16),
    ],
    ids=["interleaved", "every other sample", "float64", "int16"],
)
@pytest.mark.parametrize("rate", [np.int64(16_000), 16_000.0])
def test_sound_of_other_packs_is_the_same_speech_with_the_same_fingerprint(odd, rate):
    plain = constant(1.0, channels=2)
    audio = {"waveform": odd(plain["waveform"]), "sample_rate": rate, "path": object(), "tags": {"a"}}
    speech, expected = Speech.of([audio]), Speech.of([plain])
    one, two = (trim(spoken.audio, seconds=0.5) for spoken in (speech, expected))
    assert fingerprint(speech.sounds, one) == fingerprint(expected.sounds, two)


def test_a_video_without_sound_is_called_so():
    with pytest.raises(ValueError, match=r"^Load a video that has sound, .*: this video has no sound\.$"):
        Speech.of([None])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_broken_sound_is_refused(bad):
    broken = constant(1.0)
    broken["waveform"][..., 5] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        Speech.of([constant(1.0), broken])


def test_each_engine_listens_once_and_again_after_an_error():
    def fail():
        raise ValueError("deaf")

    speech, calls = Speech.of([constant(0.2)]), []
    with pytest.raises(ValueError, match="deaf"):
        speech.remember("one", fail)
    for engine in ("one", "other", "one"):
        assert speech.remember(engine, lambda engine=engine: calls.append(engine) or [engine]) == [engine]
    assert calls == ["one", "other"]


def test_live_speech_is_waited_for_and_fetched():
    now = [0.0]

    def wait(seconds):
        now[0] += seconds

    def poll():
        if now[0] >= 1:
            feed.write(torch.ones(100), 100)
            feed.end()

    feed = SpeechFeed(100, clock=lambda: now[0])
    feed.wait = wait
    speech, checks = LiveSpeech(feed, poll=lambda: feed.ended or poll()), []
    pieces = []
    while (piece := speech.take(100, lambda: checks.append(1))) is not None:
        pieces.append(piece.mean().item())
    assert pieces == [0, 1, 0], (
        "silence at once, the speech when it is there, silence so that the mouth closes"
    )
    assert len(checks) > 10 and speech.audio is feed


def test_an_interrupt_stops_the_waiting_for_live_speech():
    def stop():
        raise InterruptedError

    with pytest.raises(InterruptedError):
        LiveSpeech(SpeechFeed(100)).take(100, stop)


def test_only_one_engine_hears_live_speech():
    feed = SpeechFeed(100)
    feed.begin()
    with pytest.raises(RuntimeError, match=r"^Run the workflow again"):
        feed.begin()


def two_speakers():
    return Speech.of([constant(0.2), constant(0.2)])


def test_masks_are_brought_to_one_length():
    still, moving = torch.rand(16, 24), torch.rand(5, 16, 24)
    still[:, 12:], moving[..., :12] = 0, 0
    speech = assign_masks(two_speakers(), [still, moving])
    assert speech.masks.shape == (2, 5, 16, 24)
    assert all(torch.equal(mask, still) for mask in speech.masks[0])
    assert torch.equal(speech.masks[1], moving)
    shorter = assign_masks(two_speakers(), [still, moving[:2]])
    assert torch.equal(shorter.masks[1, 1], moving[1])


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 speakers but 1 masks"):
        assign_masks(two_speakers(), [torch.ones(16, 24)])
    with pytest.raises(ValueError, match=r"different sizes \(24x16, 16x24\)"):
        assign_masks(two_speakers(), [torch.ones(24, 16), torch.ones(16, 24)])


@pytest.mark.parametrize(("left", "right", "speaker"), [(0, 1, 1), (1, 0, 2), (1, 1, 1)])
def test_a_speaker_whose_mask_marks_nothing_is_named(left, right, speaker):
    masks = [torch.full((16, 24), float(value)) for value in (left, right)]
    with pytest.raises(ValueError, match=rf"mask of speaker {speaker} is empty.*paint"):
        assign_masks(two_speakers(), masks)


@pytest.mark.parametrize(
    "speech", [Speech.of([constant(0.2)]), LiveSpeech(SpeechFeed(100))], ids=["file", "live"]
)
def test_a_single_speaker_needs_no_mask(speech):
    with pytest.raises(ValueError, match="Only one person speaks"):
        assign_masks(speech, [torch.ones(16, 24)])
