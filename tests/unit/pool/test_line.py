"""Who waits is counted in the order of coming, and the bound says when to come again."""

from __future__ import annotations

import pytest
from avatar.jobs.access import Refusal

from pool.line import FIRST_GUESS, LONGEST_RETRY, Line


def refusal(line: Line) -> Refusal:
    with pytest.raises(Refusal) as raised:
        line.check_room()
    assert raised.value.status == 503
    return raised.value


def test_places_move_up_when_those_before_them_are_served_or_leave():
    line = Line(9)
    with line.place() as first, line.place() as second:
        with line.place() as third:
            assert [line.ahead(place) for place in (first, second, third)] == [0, 1, 2]
            line.begin(first)
            assert [line.ahead(place) for place in (first, second, third)] == [0, 0, 1]
            assert (line.running, line.waiting) == (1, 2)
        assert line.waiting == 1, "the third has left"
        line.begin(first)
        assert line.running == 1, "said again, it changes nothing"
    assert (line.running, line.waiting) == (0, 0)


def test_a_place_is_given_back_by_an_error():
    line = Line(1)
    with pytest.raises(KeyError), line.place():
        assert not line.open
        raise KeyError
    line.check_room()


def test_a_full_line_says_when_a_place_is_likely_to_be_free():
    now = 0.0
    line = Line(1, clock=lambda: now)
    with line.place():
        assert refusal(line).headers["Retry-After"] == str(int(FIRST_GUESS)), "nobody has ended yet"
    for seconds in (10.0, 30.0):
        with line.place() as place:
            line.begin(place)
            now += seconds
    with line.place() as one, line.place() as two:
        line.begin(one)
        line.begin(two)
        with line.place():
            assert "1 are waiting" in str(refusal(line))
            assert line.retry_seconds() == 10, "20 s each, and two are served"


def test_the_advice_stays_within_reason():
    now = 0.0
    line = Line(1, clock=lambda: now)
    for seconds, advised in ((0.001, 1), (1e6, LONGEST_RETRY)):
        with line.place() as place:
            line.begin(place)
            now += seconds
        assert line.retry_seconds() == advised


def test_a_closed_line_lets_nobody_in():
    line = Line(9)
    line.closed = True
    assert "this pool is ending" in str(refusal(line)) and not line.open
