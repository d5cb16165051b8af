"""The simulated line gives what queueing theory knows in closed form."""

from __future__ import annotations

import math

import pytest

from benchmarks.capacity import fewest, simulate


def erlang_b(load: float, servers: int) -> float:
    """The share that is refused where nobody may wait (M/M/c/c)."""
    blocked = 1.0
    for number in range(1, servers + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked


def erlang_c(load: float, servers: int) -> float:
    """The share that has to wait (M/M/c)."""
    blocked = erlang_b(load, servers)
    return blocked / (1 - load / servers * (1 - blocked))


@pytest.mark.parametrize(("load", "servers"), [(0.5, 1), (3.2, 4), (17.0, 20)])
def test_random_sessions_wait_as_erlang_says(load, servers):
    # Waits of neighbours are alike where nearly all servers are busy, so it takes many to know their mean.
    line = simulate(load, lambda random: random.exponential(1.0), servers, arrivals=1_000_000)
    assert line.mean == pytest.approx(erlang_c(load, servers) / (servers - load), rel=0.08)
    # Those who wait do so for a random time of this mean, which gives the percentile.
    p95 = max(0.0, math.log(erlang_c(load, servers) / 0.05) / (servers - load))
    assert line.p95 == pytest.approx(p95, rel=0.08, abs=0.01)
    assert line.busy == pytest.approx(load / servers, rel=0.02) and line.refused == 0


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_sessions_of_one_length_wait_as_pollaczek_and_khinchine_say(load):
    line = simulate(load, lambda random: 1.0, 1, arrivals=200_000)
    assert line.mean == pytest.approx(load / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize(("load", "servers"), [(1.0, 1), (5.0, 4)])
def test_who_may_not_wait_is_refused_as_erlang_says(load, servers):
    line = simulate(load, lambda random: random.exponential(1.0), servers, places=0)
    assert line.refused == pytest.approx(erlang_b(load, servers), rel=0.03)
    assert line.mean == 0


def test_a_line_of_one_place_refuses_as_theory_says():
    load = 0.7  # M/M/1/2: the share of time in which both server and place are taken
    expected = load**2 * (1 - load) / (1 - load**3)
    line = simulate(load, lambda random: random.exponential(1.0), 1, places=1)
    assert line.refused == pytest.approx(expected, rel=0.04)


def test_the_fewest_servers_are_enough_and_one_less_is_not():
    def draw(random):
        return random.exponential(300.0)

    servers, line = fewest(10 / 3600, draw, 300.0, 2.0)
    assert line.p95 <= 2.0 and line.refused <= 0.01
    fewer = simulate(10 / 3600, draw, servers - 1, 32)
    assert fewer.p95 > 2.0 or fewer.refused > 0.01
