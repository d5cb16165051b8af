"""Speed, from times at which blocks came that are known."""

from __future__ import annotations

import pytest
import torch
from avatar.evaluation.metric import Observed, score
from avatar.evaluation.metrics import BY_NAME
from avatar.evaluation.metrics.speed import buffer
from avatar.evaluation.tracks import Track


def seen(*made: tuple[float, int]) -> Observed:
    """Blocks as pairs of seconds and frames that are done, at 25 frames a second."""
    times, frames = zip(*made, strict=True)
    track = Track(torch.tensor(times, dtype=torch.float64), torch.tensor(frames, dtype=torch.float64))
    return Observed(25, frames[-1] / 25, tracks={"made": track})


def value(name: str, found: Observed) -> float | None:
    return score(BY_NAME[name], found).value


def test_speed_counts_from_the_start_of_the_pass():
    found = seen((1.0, 25), (2.0, 50), (4.0, 100))
    assert value("FPS", found) == 25 and value("RTF", found) == 1
    assert value("first frame", found) == 1
    slow = seen((4.0, 25), (8.0, 50))
    assert value("RTF", slow) == 4 and score(BY_NAME["RTF"], slow).verdict == "warn"
    assert score(BY_NAME["first frame"], slow).verdict == "fail"


def test_a_buffer_is_what_came_less_what_was_played():
    found = seen(
        (2.0, 50), (3.0, 75), (4.5, 100)
    )  # 2 s of video in hand, then 1 s for each 1 s, then a late block
    assert buffer(found.tracks["made"], 25).values.tolist() == [1.0, 0.5]
    assert value("least buffer", found) == 0.5
    late = seen((1.0, 25), (2.5, 50))  # played out after one second, the next comes half a second later
    assert value("least buffer", late) == pytest.approx(-0.5)
    assert score(BY_NAME["least buffer"], late).verdict == "warn"


@pytest.mark.parametrize("name", ["first frame", "least buffer"])
def test_one_time_for_the_whole_video_says_nothing_of_blocks(name):
    assert score(BY_NAME[name], seen((5.0, 100))).skipped == "Only the time of the whole video is known."
