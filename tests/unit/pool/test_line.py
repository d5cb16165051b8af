"""Who waits is counted in the order of coming, and the bound says when to come again."""

from __future__ import annotations

import pytest
from avatar.jobs.access import Refusal

from pool.line import FIRST_GUESS, LONGEST_RETRY, Line, Place


def refusal(line: Line) -> Refusal:
    with pytest.raises(Refusal) as raised:
        line.check_room()
    assert raised.value.status == 503
    return raised.value


def served(line: Line) -> Place:
    place = line.wait(Place())
    line.begin(place)
    return place


def test_places_move_up_when_those_before_them_are_served_or_leave():
    line = Line(9)
    first, second, third = (line.wait(Place()) for _ in range(3))
    assert [line.ahead(place) for place in (first, second, third)] == [0, 1, 2]
    line.begin(first)
    assert [line.ahead(place) for place in (first, second, third)] == [0, 0, 1]
    assert (line.running, line.waiting) == (1, 2)
    line.leave(third)
    assert line.waiting == 1
    line.begin(first)
    assert line.running == 1, "said again, it changes nothing"
    for place in (first, second, second):
        line.leave(place)
    assert (line.running, line.waiting) == (0, 0)
    line.begin(second)
    assert line.running == 0, "whoever has left is not served"


def test_who_has_lost_an_avatar_waits_at_the_end():
    line = Line(9)
    lost = served(line)
    other = line.wait(Place())
    line.wait(lost)
    assert (line.ahead(other), line.ahead(lost), line.running) == (0, 1, 0)


def test_a_request_that_is_still_read_has_a_place():
    line = Line(1)
    with line.coming() as place:
        assert "1 are waiting" in str(refusal(line)) and not line.open
        line.wait(place)
    assert line.waiting == 1, "it waits now"
    line.leave(place)
    with pytest.raises(KeyError), line.coming():
        raise KeyError
    assert line.open, "an error gives the place back"


def test_a_full_line_says_when_a_place_is_likely_to_be_free():
    now = 0.0
    line = Line(1, clock=lambda: now)
    place = line.wait(Place())
    assert refusal(line).headers["Retry-After"] == str(int(FIRST_GUESS)), "nobody has ended yet"
    line.leave(place)
    for seconds in (10.0, 30.0):
        place = served(line)
        now += seconds
        line.leave(place)
    served(line), served(line)
    line.wait(Place())
    assert "1 are waiting" in str(refusal(line))
    assert line.retry_seconds() == 10, "20 s each, and two are served"


def test_the_advice_stays_within_reason():
    now = 0.0
    line = Line(1, clock=lambda: now)
    for seconds, advised in ((0.001, 1), (1e6, LONGEST_RETRY)):
        place = served(line)
        now += seconds
        line.leave(place)
        assert line.retry_seconds() == advised


def test_a_closed_line_lets_nobody_in():
    line = Line(9)
    line.closed = True
    assert "this pool is ending" in str(refusal(line)) and not line.open
