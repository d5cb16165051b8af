"""Our modules beside others on the host's device."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from avatar.host.memory import when_displaced


class Patcher:
    def __init__(self, size: int) -> None:
        self.size = size

    def loaded_size(self) -> int:
        return self.size


@pytest.fixture
def loaded(monkeypatch):
    """What the host says is loaded."""
    found, host, management = [], ModuleType("comfy"), ModuleType("comfy.model_management")
    management.loaded_models = lambda: found
    host.model_management = management
    monkeypatch.setitem(sys.modules, "comfy", host)
    monkeypatch.setitem(sys.modules, "comfy.model_management", management)
    return found


def test_models_come_back_only_when_something_has_pushed_them_out(loaded):
    model, vae, calls = Patcher(100), Patcher(10), []
    loaded += [model, vae]
    check = when_displaced([model, vae], lambda: calls.append(1))
    check()
    assert not calls
    model.size = 60  # in part
    check()
    assert len(calls) == 1
    model.size = 100
    loaded.remove(vae)
    check()
    assert len(calls) == 2
    loaded.append(vae)
    check()
    assert len(calls) == 2
