"""Copies of a model for other devices."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.gpu.replica import replica

from tests.unit.tiny_s2v import features as heard
from tests.unit.tiny_s2v import model, sampler

CPU = torch.device("cpu")


def test_a_replica_computes_the_same_and_shares_no_memory():
    source = model()
    copied = replica(source, CPU, CPU)
    theirs = {tensor.data_ptr() for tensor in (*source.parameters(), *source.buffers())}
    ours = {tensor.data_ptr() for tensor in (*copied.parameters(), *copied.buffers())}
    assert not theirs & ours and len(theirs) == len(ours)
    expected, other = sampler(steps=1), sampler(steps=1)
    other.model = copied
    assert torch.equal(other.next_block(heard(0)), expected.next_block(heard(0)))


def test_weights_that_are_not_on_the_source_are_refused_with_what_to_do():
    with pytest.raises(RuntimeError, match="Set precision to 'fp8' or gpus to 'one'"):
        replica(model(), torch.device("meta"), CPU)
