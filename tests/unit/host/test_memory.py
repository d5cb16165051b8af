"""Our modules beside others on the host's device."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from avatar.host.memory import memory_of, when_displaced


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


def test_only_models_that_leave_the_gpu_count_as_free_memory(loaded):
    """With --highvram ComfyUI's own stay there whatever happens."""
    gpu, cpu = torch.device("cuda", 0), torch.device("cpu")

    def entry(device, rest, size):
        return SimpleNamespace(
            device=device, model=SimpleNamespace(offload_device=rest), model_loaded_memory=lambda: size
        )

    management = sys.modules["comfy.model_management"]
    management.current_loaded_models = [entry(gpu, cpu, 20), entry(gpu, gpu, 300), entry(cpu, cpu, 4000)]
    management.get_total_memory = lambda device: 1000
    management.get_free_memory = lambda device: 500
    management.extra_reserved_memory = lambda: 7
    assert memory_of(gpu) == (1000, 500 + 20 - 7)
