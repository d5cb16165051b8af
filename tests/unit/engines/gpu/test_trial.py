"""What is tried before it is used."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.gpu.trial import passes, require_close


def test_results_are_as_close_as_asked():
    expected = torch.tensor([3.0, 4.0])
    require_close(expected + torch.tensor([0.0, 0.05]), expected, 0.011)
    with pytest.raises(RuntimeError, match=r"its result is off by 1\.0%"):
        require_close(expected + torch.tensor([0.0, 0.05]), expected, 0.009)
    with pytest.raises(RuntimeError, match="off by nan"):
        require_close(expected * float("nan"), expected, 1.0)


def test_a_trial_that_fails_is_named_in_the_log(caplog):
    def broken() -> None:
        raise ValueError("no such instruction")

    assert passes(lambda: None, "not used: %s") and not caplog.text
    assert not passes(broken, "not used: %s")
    assert "not used: no such instruction" in caplog.text


def test_a_full_gpu_is_no_verdict(monkeypatch, caplog):
    given_back = []
    monkeypatch.setattr("avatar.engines.gpu.trial.give_back", lambda: given_back.append(1))

    def full(times: int) -> None:
        if len(given_back) < times:
            raise torch.OutOfMemoryError("CUDA out of memory")

    assert passes(lambda: full(1), "not used: %s") and given_back == [1]
    with pytest.raises(torch.OutOfMemoryError):
        passes(lambda: full(9), "not used: %s")
    assert not caplog.text
