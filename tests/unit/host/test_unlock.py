"""Locked memory that a host which loads weights dynamically holds beside them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from avatar.host.memory import unlock


def test_it_is_given_back_once_nothing_of_it_is_on_its_way(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: done.append(device))
    gpu = torch.device("cuda", 1)
    unlock(SimpleNamespace(load_device=gpu, partially_unload_ram=done.append))
    assert done == [gpu, float("inf")]


def test_hosts_and_devices_that_lock_none_are_left_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("there is no GPU"))
    unlock(SimpleNamespace(load_device=torch.device("cuda")))
    unlock(SimpleNamespace(load_device=torch.device("cpu"), partially_unload_ram=lambda size: 1 / 0))
