"""Speech that arrives: when speech is taken, when silence, and what becomes the video's sound."""

from __future__ import annotations

import pytest
import torch
from avatar.media.speech_feed import PATIENCE, Closed, Full, SpeechFeed

RATE = 1000
SIZE = 480


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def feed(clock):
    return SpeechFeed(RATE, limit_seconds=10, clock=clock)


def speech(samples: int, value: float = 0.5) -> torch.Tensor:
    return torch.full((samples,), value)


def loud(block: torch.Tensor) -> list[bool]:
    """Whether the first and the last sample are speech."""
    return [bool(block[0] != 0), bool(block[-1] != 0)]


def test_speech_is_taken_at_once_as_long_as_there_is_enough(feed):
    feed.write(torch.arange(1, 2 * SIZE + 1), RATE)
    assert torch.equal(torch.cat([feed.take(SIZE), feed.take(SIZE)]), torch.arange(1.0, 2 * SIZE + 1))


def test_silence_keeps_to_real_time(feed, clock):
    assert loud(feed.take(SIZE)) == [False, False]  # the first picture does not wait
    for _ in range(3):
        assert feed.take(SIZE) == pytest.approx(0.48)
        clock.now += 0.3
        assert feed.take(SIZE) == pytest.approx(0.18)
        clock.now += 0.18 + 1e-9
        assert loud(feed.take(SIZE)) == [False, False]


def test_after_speech_that_was_taken_early_silence_waits_until_it_was_heard(feed, clock):
    feed.write(speech(5 * SIZE), RATE)
    for _ in range(5):
        feed.take(SIZE)
    assert feed.take(SIZE) == pytest.approx(5 * 0.48)
    clock.now += 5 * 0.48 + 1e-9
    assert loud(feed.take(SIZE)) == [False, False]


def test_speech_during_silence_is_taken_without_waiting(feed, clock):
    feed.take(SIZE)
    clock.now += 0.1
    feed.write(speech(SIZE), RATE)
    assert loud(feed.take(SIZE)) == [True, True]


def test_the_beginning_of_speech_stands_at_the_end_of_its_block(feed, clock):
    feed.take(SIZE)
    clock.now += 0.4
    feed.write(speech(100), RATE)
    assert feed.take(SIZE) == pytest.approx(0.08)
    clock.now += 0.1
    block = feed.take(SIZE)
    assert (block[:-100] == 0).all() and (block[-100:] == 0.5).all()


def test_within_speech_a_late_piece_is_waited_for_a_little(feed, clock):
    feed.write(speech(SIZE + 100), RATE)
    feed.take(SIZE)
    clock.now += 0.5
    feed.write(speech(50), RATE)
    assert feed.take(SIZE) == pytest.approx(PATIENCE)
    clock.now += 0.1
    feed.write(speech(SIZE), RATE)
    assert loud(feed.take(SIZE)) == [True, True]


def test_the_end_of_an_utterance_is_filled_up_with_silence(feed, clock):
    feed.write(speech(SIZE + 100), RATE)
    feed.take(SIZE)
    clock.now += 0.5
    block = feed.take(SIZE)
    assert (block[:100] == 0.5).all() and (block[100:] == 0).all()
    clock.now += 0.5
    assert loud(feed.take(SIZE)) == [False, False]


@pytest.mark.parametrize("ahead", [0.0, 0.24])
def test_sound_in_real_time_is_heard_without_gaps(clock, ahead):
    """20 ms pieces at the pace of a microphone, with the model taking 0.3 s per block."""
    feed = SpeechFeed(RATE, ahead_seconds=ahead, clock=clock)
    sent, taken, busy_until, left = 0, [], 0.0, []
    for _ in range(500):
        clock.now += 0.02
        if clock.now > 101:
            feed.write(torch.arange(sent + 1, sent + 21), RATE)
            sent += 20
        if clock.now >= busy_until and isinstance(block := feed.take(SIZE), torch.Tensor):
            taken.append(block)
            left.append(len(feed.peek(9999)))
            busy_until = clock.now + 0.3
    heard = torch.cat(taken)
    heard = heard[heard > 0]
    assert torch.equal(heard, torch.arange(1.0, len(heard) + 1))
    after = torch.cat(taken)
    after = after[(after > 0).nonzero()[0, 0] :]
    assert (after > 0).all()  # no silence once it has begun
    assert sent - len(heard) < SIZE + (0.3 + ahead) * RATE
    assert min(left[-5:]) >= ahead * RATE


def test_holding_back_never_makes_silence_of_speech(clock):
    feed = SpeechFeed(RATE, ahead_seconds=0.24, clock=clock)
    feed.take(SIZE)
    feed.write(torch.arange(1, SIZE + 101), RATE)
    assert feed.take(SIZE) == pytest.approx(0.48)  # more might come
    clock.now += 0.48 + 1e-9
    assert torch.equal(feed.take(SIZE), torch.arange(1.0, SIZE + 1))  # it has not
    clock.now += 0.48 + 1e-9
    block = feed.take(SIZE)
    assert block[99] == SIZE + 100 and (block[100:] == 0).all()
    clock.now += 0.48 + 1e-9
    feed.write(speech(100), RATE)
    assert loud(feed.take(SIZE)) == [False, False]  # held back
    clock.now += 0.48 + 1e-9
    assert loud(feed.take(SIZE)) == [False, True]


def test_replacing_drops_what_waits_but_not_what_was_taken(feed, clock):
    feed.write(speech(3 * SIZE, 0.1), RATE)
    feed.take(SIZE)
    feed.write(speech(SIZE, 0.9), RATE, replace=True)
    assert (feed.take(SIZE) == 0.9).all()
    feed.write(speech(SIZE), RATE)
    feed.write(torch.zeros(0), RATE, replace=True)
    assert feed.waiting_seconds == 0


def test_at_the_end_everything_is_spoken_and_the_mouth_closes(feed):
    feed.write(speech(SIZE + 100), RATE)
    feed.end()
    assert loud(feed.take(SIZE)) == [True, True]
    assert loud(feed.take(SIZE)) == [True, False]
    assert feed.ready == 2 * SIZE
    assert loud(feed.take(SIZE)) == [False, False]
    assert feed.ready == float("inf")
    assert feed.take(SIZE) is None
    with pytest.raises(Closed):
        feed.write(speech(1), RATE)


def test_finishing_ends_without_what_waits(feed):
    feed.write(speech(9 * SIZE), RATE)
    feed.finish()
    assert loud(feed.take(SIZE)) == [False, False]
    assert feed.take(SIZE) is None


def test_too_much_is_refused_and_nothing_of_it_taken(feed):
    feed.write(speech(8000), RATE)
    with pytest.raises(Full, match=r"8\.0 s are waiting .* 3\.0 s more would exceed 10 s") as refused:
        feed.write(speech(3000), RATE)
    assert refused.value.ever and feed.waiting_seconds == 8
    with pytest.raises(Full) as refused:
        feed.write(speech(11_000), RATE, replace=True)
    assert not refused.value.ever and feed.waiting_seconds == 8
    feed.write(speech(9000), RATE, replace=True)


@pytest.mark.parametrize("rate", [8000, 22_050, 44_101, 96_000])
def test_other_rates_are_converted_without_seams(rate, clock):
    feed = SpeechFeed(24_000, clock=clock)
    tone = torch.sin(torch.arange(rate) * (6.2831853 * 440 / rate))
    for piece in tone.split(rate // 7):
        feed.write(piece, rate)
    feed.end()
    assert feed.waiting_seconds == pytest.approx(1, abs=0.02)
    heard = feed.take(24_000)
    expected = torch.sin(torch.arange(24_000) * (6.2831853 * 440 / 24_000))
    assert (heard - expected)[500:-500].abs().max() < 3e-3


def test_the_videos_sound_is_what_was_taken(feed, clock):
    feed.write(torch.arange(1, 701), RATE)
    first = feed.take(SIZE)
    clock.now += 1
    second = feed.take(SIZE)
    assert feed.ready == 2 * SIZE and feed.spoken_seconds == 0.96
    assert torch.equal(feed.read(0, 2 * SIZE)[0], torch.cat((first, second)))
    assert feed.read(900, 1000).shape == (1, 100) and (feed.read(960, 1000) == 0).all()


def test_what_was_spoken_long_ago_is_not_kept(feed, clock):
    for _ in range(30):
        feed.write(speech(SIZE), RATE)
        feed.take(SIZE)
    assert feed.read(14_000, 14_400).shape == (1, 400)
    with pytest.raises(LookupError, match="only once"):
        feed.read(0, 100)


def test_loudness_is_that_of_the_speech_without_the_silence_between(feed, clock):
    assert feed.statistics() == (0, 0)
    feed.take(SIZE)
    feed.write(torch.tensor([0.1, 0.3]).repeat(100), RATE)
    clock.now += 1
    feed.take(SIZE)
    assert feed.statistics() == pytest.approx((0.2, 0.01))


def test_it_is_known_which_speech_a_position_of_the_video_holds(feed, clock):
    feed.take(SIZE)
    clock.now += 0.48
    feed.write(speech(100), RATE)
    feed.take(SIZE)  # 380 of silence, then the 100
    assert (feed.taken, feed.written) == (100, 100)
    feed.write(speech(700), RATE)
    assert feed.written == 800
    feed.take(SIZE)
    feed.write(torch.zeros(0), RATE, replace=True)  # 220 are never heard
    assert (feed.taken, feed.written) == (580, 580)
    begins = (480 + 380) / RATE
    assert [feed.taken_before(begins + part) for part in (-0.5, 0, 0.05, 0.1, 0.3, 9)] == [
        0,
        0,
        50,
        100,
        300,
        580,
    ]
    assert feed.place_of(0) == begins and feed.place_of(300) == begins + 0.3
    assert feed.place_of(580) is None


def test_a_video_is_heard_at_the_pace_of_real_time(feed, clock):
    feed.write(speech(2 * SIZE), RATE)
    feed.take(SIZE)
    feed.take(SIZE)
    assert feed.heard_seconds == pytest.approx(0.0)
    clock.now += 0.5
    assert feed.heard_seconds == pytest.approx(0.5)
    clock.now += 5
    assert feed.heard_seconds == pytest.approx(0.96)


def test_a_video_of_speech_that_may_be_taken_back_does_not_run_far_ahead(clock):
    feed = SpeechFeed(RATE, lead_seconds=0.1, clock=clock)
    feed.take(SIZE)
    feed.write(speech(5 * SIZE), RATE)
    assert loud(feed.take(SIZE)) == [True, True]  # at once, though silence is still to be heard
    assert feed.take(SIZE) == pytest.approx(0.86)
    clock.now += 0.86 + 1e-9
    assert loud(feed.take(SIZE)) == [True, True]
    assert feed.take(SIZE) == pytest.approx(0.48)


def test_silence_is_taken_back_for_speech_that_is_heard_sooner_in_its_place(feed, clock):
    feed.take(SIZE)
    clock.now += 0.1
    assert not feed.take_back()  # nothing has arrived
    feed.write(speech(90), RATE)
    assert not feed.take_back()  # it joins on behind as soon: less of it than time has passed
    feed.write(speech(300), RATE)
    assert feed.take_back() and feed.spoken_seconds == 0
    assert not feed.take_back()
    block = feed.take(SIZE)
    assert loud(block) == [False, True] and (block != 0).sum() == 390
    assert torch.equal(feed.read(0, SIZE)[0], block)
    # Time counts from when the block was taken at last.
    assert feed.take(SIZE) == pytest.approx(0.48)


def test_neither_speech_nor_the_end_is_taken_back(feed, clock):
    feed.write(speech(SIZE), RATE)
    feed.take(SIZE)
    feed.write(speech(SIZE), RATE)
    assert not feed.take_back()
    feed.take(SIZE)
    feed.finish()
    feed.take(SIZE)
    assert not feed.take_back() and feed.take(SIZE) is None


@pytest.fixture
def talking(clock):
    """A feed whose speech may be called off."""
    return SpeechFeed(RATE, lead_seconds=0.1, clock=clock)


def test_a_block_of_speech_that_is_called_off_while_it_is_made_is_taken_back(talking, clock):
    talking.write(speech(3 * SIZE), RATE)
    first = talking.take(SIZE)
    clock.now += 0.4
    talking.take(SIZE)
    assert talking.ready == SIZE  # of what may be taken back, no sound is in the video
    assert not talking.take_back()
    talking.write(torch.zeros(0), RATE, replace=True)
    assert talking.goes_on is None
    clock.now += 0.2
    assert talking.take_back() and not talking.take_back()
    assert talking.goes_on == talking.spoken_seconds == 0.48
    assert talking.taken_before(9) == SIZE and talking.place_of(SIZE) is None
    assert not talking.take(SIZE).any()  # at once: nothing else is waited for
    assert torch.equal(talking.read(0, 2 * SIZE)[0], torch.cat((first, torch.zeros(SIZE))))


def test_speech_that_was_called_off_is_said_again_under_new_numbers(talking, clock):
    talking.write(speech(SIZE), RATE)
    talking.take(SIZE)
    talking.write(torch.zeros(0), RATE, replace=True)
    again = talking.written
    talking.write(speech(SIZE), RATE)
    assert talking.take_back()
    assert loud(talking.take(SIZE)) == [True, True]
    assert talking.place_of(0) is None and talking.place_of(again) == 0


def test_a_block_that_was_made_before_its_speech_was_called_off_stays(talking, clock):
    talking.write(speech(2 * SIZE), RATE)
    talking.take(SIZE)
    talking.write(torch.zeros(0), RATE, replace=True)
    clock.now += 0.48
    assert not talking.take(SIZE).any() and talking.goes_on == 0.48
    assert not talking.take_back() and talking.spoken_seconds == 0.96
    talking.write(torch.zeros(0), RATE, replace=True)
    assert talking.goes_on == 0.96  # silence is nothing to call off


def test_sound_that_is_held_back_does_not_take_the_place_of_silence(clock):
    feed = SpeechFeed(RATE, ahead_seconds=0.24, clock=clock)
    feed.take(SIZE)
    feed.write(speech(240), RATE)
    assert not feed.take_back()
    feed.write(speech(1), RATE)
    assert feed.take_back() and feed.take(SIZE).count_nonzero() == 1


def test_silence_that_can_be_taken_back_is_not_final(feed):
    feed.write(speech(SIZE), RATE)
    feed.take(SIZE)
    feed._clock.now += 1
    feed.take(SIZE)
    assert feed.ready == SIZE and feed.spoken_seconds == 0.96


def test_a_mood_begins_with_the_sound_it_came_with(feed):
    feed.moods = ("neutral", "happy")
    feed.write(speech(SIZE), RATE)
    feed.write(speech(SIZE), RATE, mood="happy")
    feed.write(speech(SIZE), RATE)
    feed.write(speech(0), RATE, mood="neutral")
    found = []
    for _ in range(3):
        feed.take(SIZE)
        found.append(feed.mood)
    assert found == ["", "happy", "happy"]
    feed.end()
    feed.take(SIZE)
    assert feed.mood == "neutral"


def test_a_mood_without_sound_is_taken_with_the_next_silence(feed):
    feed.moods = ("neutral", "happy")
    feed.write(speech(0), RATE, mood="happy")
    feed.take(SIZE)
    assert feed.mood == "happy"


def test_speech_that_is_dropped_takes_its_mood_along(feed):
    feed.moods = ("neutral", "happy", "sad")
    feed.write(speech(SIZE), RATE)
    feed.write(speech(SIZE), RATE, mood="happy")
    feed.write(speech(SIZE), RATE, replace=True, mood="sad")
    feed.take(SIZE)
    assert feed.mood == "sad"


def test_a_mood_that_is_not_there_is_refused_and_nothing_is_taken(feed):
    with pytest.raises(ValueError, match="Connect LiveAvatar Mood"):
        feed.write(speech(SIZE), RATE, mood="happy")
    feed.moods = ("neutral", "happy")
    with pytest.raises(ValueError, match=r"Choose a mood of neutral, happy\."):
        feed.write(speech(SIZE), RATE, mood="<b>")
    assert feed.waiting_seconds == 0
