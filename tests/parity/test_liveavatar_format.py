"""How far bfloat16 is from float32: in the engine's format, which `quality` has, and in the reference's."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from avatar.engines.liveavatar import transformer as network
from avatar.engines.liveavatar.condition import encode_reference
from avatar.engines.liveavatar.config import FLOAT32_PARTS
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.speech_timing import block_features
from avatar.engines.parts import regions
from torch import Tensor

from tests.parity.liveavatar_cases import transformer
from tests.parity.test_liveavatar_runs import clip_count, config, fixtures, portrait, speech_track, vae

AS_NEAR = 1.1
"""The engine's format may be so many times as far from float32 as the reference's."""


def latents(dtype: torch.dtype) -> Tensor:
    """The streaming run, with weights as they are published, in bfloat16."""
    model = copy.deepcopy(transformer())
    for name, parameter in model.named_parameters():
        kept = torch.float32 if name.startswith(FLOAT32_PARTS) else dtype
        parameter.data = parameter.data.bfloat16().to(kept)
    reference, motion = (x.to(dtype) for x in encode_reference(vae(), portrait()))
    context = fixtures()["context"].to(dtype)
    sampler = BlockSampler(model, config(), context=context, reference=reference, motion=motion)
    blocks = range(clip_count() * config().clip_blocks)
    made = [sampler.next_block(block_features([speech_track()], block)) for block in blocks]
    return torch.cat(made, 2).float()


def rounded_norm(x: Tensor, eps: float) -> Tensor:
    """A norm whose result the reference rounds to its input's format before it is modulated."""
    return F.layer_norm(x.float(), x.shape[-1:], eps=eps).to(x.dtype).float()


def modulate(x: Tensor, shift: Tensor, scale: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    return (rounded_norm(x, eps) * (1 + scale) + shift).to(dtype)


@torch.inference_mode()
def test_quality_is_as_near_to_float32_as_the_references_format(monkeypatch):
    exact, own = latents(torch.float32), latents(torch.bfloat16)
    monkeypatch.setattr(regions, "modulate", modulate)
    monkeypatch.setattr(network, "layer_norm", rounded_norm)
    theirs = latents(torch.bfloat16)
    assert not torch.equal(own, theirs), "the patches reach nothing"
    error, expected = ((x - exact).norm() / exact.norm() for x in (own, theirs))
    print(f"off by {error:.2e}, the reference's format by {expected:.2e}")
    assert error < AS_NEAR * expected
