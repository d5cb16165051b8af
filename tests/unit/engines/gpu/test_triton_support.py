"""Triton is tried once per device, and one that does not work costs a line in the log."""

from __future__ import annotations

import os

import pytest
import torch
from avatar.engines.gpu import fp8, triton_support
from avatar.engines.parts import regions
from avatar.engines.parts.kv import formats as kv_storage
from avatar.engines.parts.wan import vae_fused
from avatar.engines.personalive.fast import group_norm, temporal_attention

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = torch.device("cuda")


@pytest.fixture
def pretended(monkeypatch):
    """A GPU with Triton, as far as the trial can see."""
    monkeypatch.setattr(triton_support, "triton", object())
    monkeypatch.setattr(triton_support, "_tried", {})
    to = torch.Tensor.to
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device: x if device == CUDA else to(x, device))


def no_compiler(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    raise RuntimeError("Failed to find C compiler")


@pytest.mark.parametrize(
    ("trial", "problem"),
    [
        (no_compiler, "Failed to find C compiler"),
        (lambda x, y: (x @ y).float() + 1, "its result is off by"),
    ],
)
def test_a_triton_that_does_not_work_is_named_and_left_alone(pretended, monkeypatch, caplog, trial, problem):
    monkeypatch.setattr(triton_support, "_trial", trial)
    assert not triton_support.available(CUDA)
    assert not triton_support.available(CUDA)
    assert caplog.text.count(f"cannot be used, so sampling is slower: {problem}") == 1
    assert not regions.available(CUDA)


def test_a_device_is_tried_once(pretended, monkeypatch):
    tries = []
    monkeypatch.setattr(triton_support, "_trial", lambda x, y: tries.append(1) or (x @ y).float())
    assert triton_support.available(CUDA) and triton_support.available(torch.device("cuda"))
    assert len(tries) == 1


def test_the_kernel_of_the_trial():
    if triton_support.triton is None or not (INTERPRETED or torch.cuda.is_available()):
        pytest.skip("needs Triton and a GPU, or TRITON_INTERPRET=1")
    x, y = torch.randint(0, 5, (2, 16, 16), device="cpu" if INTERPRETED else "cuda").float()
    assert torch.equal(triton_support._trial(x, y), x @ y)


def test_no_trial_runs_inside_compiled_code():
    @torch.compile(backend="eager", fullgraph=True)
    def run(x):
        return x + 1 if triton_support.available(x.device) else x - 1

    assert torch.equal(run(torch.zeros(2)), torch.full((2,), -1.0))


@pytest.mark.parametrize("works", [True, False])
def test_both_engines_ask(monkeypatch, works):
    asked = []
    monkeypatch.setattr(triton_support, "_works", lambda device: asked.append(device) or works)
    monkeypatch.setattr(triton_support, "triton", object())
    monkeypatch.setattr(triton_support, "_tried", {})
    for module in (regions, kv_storage, vae_fused, fp8, group_norm, temporal_attention):
        assert module.available(CUDA) == works
    assert asked == [CUDA]


def test_compiling_without_triton_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeError, match="needs Triton, which is not installed; install triton"):
        triton_support.require_compiler(CUDA)
    triton_support.require_compiler(torch.device("cpu"))
