"""Who is let in: this machine, others where that is switched on, and those who know the key where there is one."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request
from avatar.jobs.access import KEY, NETWORK, Refusal
from avatar.serving import access
from avatar.serving.access import check_access


@pytest.fixture(autouse=True)
def nothing_is_switched_on(monkeypatch):
    monkeypatch.delenv(NETWORK, raising=False)
    monkeypatch.delenv(KEY, raising=False)


def ask(remote: str = "127.0.0.1", method: str = "GET", **headers: str) -> None:
    names = {"Host": "127.0.0.1:8188", **{name.replace("_", "-"): value for name, value in headers.items()}}
    check_access(make_mocked_request(method, "/liveavatar/health", headers=names).clone(remote=remote))


def refused(*arguments: str, **headers: str) -> int:
    with pytest.raises(Refusal) as raised:
        ask(*arguments, **headers)
    return raised.value.status


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.4.5.6", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1:8188", "localhost:8188", "[::1]:8188", "localhost"])
def test_programs_of_this_machine_are_let_in(remote, host):
    ask(remote, Host=host)


@pytest.mark.parametrize("remote", ["192.168.1.7", "203.0.113.5", "::ffff:203.0.113.5", "2001:db8::1", ""])
def test_other_machines_are_not(remote):
    assert refused(remote) == 403


@pytest.mark.parametrize("name", ["Forwarded", "X-Forwarded-For", "X-Real-IP"])
def test_what_a_proxy_brings_comes_from_elsewhere(name):
    assert refused(**{name: "203.0.113.5"}) == 403


@pytest.mark.parametrize(
    "host", ["rebound.example.org", "192.168.1.7:8188", "127.0.0.1.example.org", "localhost.example.org"]
)
def test_a_request_that_names_another_machine_is_refused(host):
    assert refused(Host=host) == 403


def test_other_machines_are_let_in_where_that_is_switched_on(monkeypatch):
    monkeypatch.setenv(NETWORK, "1")
    ask("203.0.113.5", Host="avatars.example.org", X_Forwarded_For="198.51.100.2")


@pytest.mark.parametrize("value", ["0", "", "true", "yes"])
def test_only_a_one_switches_it_on(monkeypatch, value):
    monkeypatch.setenv(NETWORK, value)
    assert refused("203.0.113.5") == 403


def test_a_key_is_asked_for_where_there_is_one(monkeypatch):
    monkeypatch.setenv(KEY, "sésame")
    ask(Authorization="Bearer sésame")
    for wrong in ("", "sésame", "Bearer", "Bearer sesame", "Basic sésame", "Bearer sésamé"):
        assert refused(Authorization=wrong) == 401
    assert refused() == 401


@pytest.mark.parametrize("headers", [{"Origin": "null"}, {"Sec_Fetch_Site": "cross-site"}], ids=str)
def test_pages_that_hide_where_they_come_from_change_nothing_unless_the_host_lets_others_in(
    monkeypatch, headers
):
    monkeypatch.setattr(access, "_others_are_let_in", lambda: False)
    for method in ("POST", "DELETE"):
        assert refused(method=method, **headers) == 403
    ask(method="GET", **headers)
    monkeypatch.setattr(access, "_others_are_let_in", lambda: True)
    ask(method="POST", **headers)


@pytest.mark.parametrize(
    "headers", [{}, {"Origin": "http://127.0.0.1:8188", "Sec_Fetch_Site": "same-origin"}], ids=str
)
def test_programs_and_pages_of_the_host_may_change_things(monkeypatch, headers):
    monkeypatch.setattr(access, "_others_are_let_in", lambda: False)
    ask(method="POST", **headers)
