"""When FlashAttention-4 is used: only where it is installed, fits the device and agrees with PyTorch."""

from __future__ import annotations

import sys
import types

import pytest
import torch
from avatar.engines.parts.attention import flash
from avatar.engines.parts.attention.product import attention


@pytest.fixture(autouse=True)
def forget():
    flash.flash_attention.cache_clear()
    yield
    flash.flash_attention.cache_clear()


@pytest.fixture
def installed(monkeypatch):
    """Pretends a Hopper GPU, whose tensors lie on the CPU, and an installation that computes what the test says."""

    def install(function) -> flash.Product | None:
        module = types.ModuleType("flash_attn.cute")
        module.flash_attn_func = function
        monkeypatch.setitem(sys.modules, "flash_attn.cute", module)
        monkeypatch.setattr(flash, "_installed", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        randn = torch.randn
        monkeypatch.setattr(torch, "randn", lambda *shape, device, dtype: randn(*shape, dtype=dtype))
        return flash.flash_attention(torch.device("cuda"), torch.bfloat16, 16)

    return install


def test_a_cpu_uses_pytorch():
    assert flash.flash_attention(torch.device("cpu"), torch.bfloat16, 128) is None
    q, k = torch.randn(1, 2, 1, 8), torch.randn(1, 2000, 1, 8)
    assert torch.equal(attention(q, k, k), flash.plain(q, k, k))


def test_an_installation_that_agrees_is_used(installed):
    product = installed(lambda q, k, v: (flash.plain(q, k, v), "log-sum-exp"))
    values = [torch.randn(1, 4, 1, 8, device="cpu", dtype=torch.float32) for _ in range(3)]
    assert torch.equal(product(*values), flash.plain(*values))


def test_one_that_computes_something_else_is_named_and_left_alone(installed, caplog):
    assert installed(lambda q, k, v: 1.1 * flash.plain(q, k, v)) is None
    assert "installed but not used: its result is off by" in caplog.text


def test_one_that_breaks_is_named_and_left_alone(installed, caplog):
    def broken(q, k, v):
        raise ImportError("libcute is missing")

    assert installed(broken) is None
    assert "libcute is missing" in caplog.text
