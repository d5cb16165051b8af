"""When the frames and the sound of a live video are shown."""

from __future__ import annotations

import pytest
import torch
from avatar.serving.webrtc.pace import MOST_SECONDS, SPARE, TICKS, WINDOW, Pace

FPS, RATE, BLOCK = 25, 24_000, 12
SIZE = RATE // TICKS


def block(number: int, loud: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Frames that hold their numbers, and sound that holds the number of its frame, or is of one loudness."""
    frames = torch.arange(number * BLOCK, (number + 1) * BLOCK, dtype=torch.uint8)
    sound = torch.full((BLOCK * RATE // FPS,), loud)
    return frames[:, None, None, None].expand(BLOCK, 2, 2, 3), sound


def shown(steps) -> list[int]:
    return [int(step.frame[0, 0, 0]) for step in steps if step.frame is not None]


@pytest.fixture
def pace() -> Pace:
    pace = Pace(FPS, RATE)
    pace.watch(True)
    return pace


def test_a_block_is_shown_at_once_and_at_the_pace_of_real_time(pace):
    assert pace.next().frame is None and not pace.next().moving
    pace.put(*block(0, 0.5))
    steps = [pace.next() for _ in range(2 * BLOCK)]
    assert shown(steps) == list(range(BLOCK))
    assert [step.frame is not None for step in steps] == [True, False] * BLOCK
    assert all(step.moving and (step.sound == 0.5).all() for step in steps)
    assert steps[-1].seconds == pytest.approx(BLOCK / FPS)


def test_where_no_block_is_there_the_last_frame_stays_in_silence_and_comes_again(pace):
    pace.put(*block(0, 0.5))
    for _ in range(2 * BLOCK):
        pace.next()
    held = [pace.next() for _ in range(2 * TICKS)]
    assert not any(step.moving or step.sound.any() for step in held)
    assert shown(held) == [BLOCK - 1] * 2  # once a second, for who has lost it
    assert {step.seconds for step in held} == {BLOCK / FPS}
    pace.put(*block(1, 0.5))
    assert shown([pace.next()]) == [BLOCK]


def test_frame_and_sound_belong_together_whatever_waits_between():
    pace = Pace(FPS, RATE)
    pace.watch(True)
    for number, late in enumerate((0, 7, 0, 3)):
        frames, _ = block(number)
        sound = torch.arange(number * BLOCK, (number + 1) * BLOCK).repeat_interleave(RATE // FPS) / 1000
        pace.put(frames, sound)
        for _ in range(late):
            pace.next()
    frame = None
    for _ in range(100):
        step = pace.next()
        frame = frame if step.frame is None else int(step.frame[0, 0, 0])
        if step.moving:
            assert torch.allclose(step.sound, torch.tensor(frame / 1000))


def test_what_is_late_is_caught_up_with_in_silence_and_never_in_speech(pace):
    def minimum_after(loud: float) -> float:
        waited = []
        for number in range(30):
            pace.put(*block(number % 20, loud))
            for _ in range(2 * BLOCK):
                pace.next()
            waited.append(pace.waiting)
        return min(waited[-5:])

    pace.put(*block(0))
    pace.put(*block(1))  # a second block waits from now on
    assert minimum_after(0.5) == pytest.approx(2 * BLOCK / FPS)
    assert minimum_after(0.0) <= (SPARE + 1) / TICKS


def test_nothing_is_left_out_where_no_more_waits_than_has_to(pace):
    taken = 0
    for number in range(10):
        pace.put(*block(number))
        steps = [pace.next() for _ in range(2 * BLOCK)]
        taken += sum(step.moving for step in steps)
    assert 10 * 2 * BLOCK > WINDOW and taken == 10 * 2 * BLOCK


def test_sound_that_was_called_off_is_silent():
    goes_on = [0.0]
    pace = Pace(FPS, RATE, lambda: goes_on[0])
    pace.watch(True)
    pace.put(*block(0, 0.5))
    pace.put(*block(1, 0.5))
    assert pace.next().sound.all()
    goes_on[0] = None  # not known yet
    assert not pace.next().sound.any()
    goes_on[0] = BLOCK / FPS
    void = [pace.next() for _ in range(2 * BLOCK - 2)]
    assert not any(step.sound.any() for step in void) and all(step.moving for step in void)
    assert pace.next().sound.all()


def test_sound_goes_on_in_the_middle_of_a_step():
    pace = Pace(FPS, RATE, lambda: 0.03)
    pace.watch(True)
    pace.put(*block(0, 0.5))
    assert not pace.next().sound.any()
    step = pace.next()
    assert step.sound.count_nonzero() == SIZE // 2 and not step.sound[: SIZE // 2].any()


def test_while_nobody_watches_nothing_waits_and_who_comes_sees_the_last_frame():
    pace = Pace(FPS, RATE)
    for number in range(5):
        pace.put(*block(number))
        assert pace.waiting == 0
    pace.watch(True)
    step = pace.next()
    assert shown([step]) == [5 * BLOCK - 1] and not step.moving
    assert step.seconds == pytest.approx(5 * BLOCK / FPS)
    pace.put(*block(5))
    assert shown([pace.next()]) == [5 * BLOCK]


def test_what_waits_is_bounded(pace):
    for number in range(20):
        pace.put(*block(number))
        assert pace.waiting <= MOST_SECONDS
    assert shown([pace.next()])[0] >= 20 * BLOCK - MOST_SECONDS * FPS


@pytest.mark.parametrize("fps", [24, 30, 50])
def test_other_frame_rates_show_every_frame_in_order(fps):
    pace = Pace(fps, RATE)
    pace.watch(True)
    frames = torch.arange(fps, dtype=torch.uint8)[:, None, None, None].expand(fps, 2, 2, 3)
    pace.put(frames, torch.full((RATE,), 0.5))
    assert shown([pace.next() for _ in range(TICKS)]) == list(range(fps))


def test_a_rate_that_has_no_whole_steps_is_refused():
    with pytest.raises(ValueError, match="multiple of 50"):
        Pace(FPS, 11_025)
