"""What is said when the GPU's memory runs out in the middle."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from avatar.engines.liveavatar.config import S2VConfig, SamplingConfig
from avatar.engines.liveavatar.costs import Model, VideoCosts
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.advice import advice, explained, planned
from avatar.engines.parts.planning.plan import Machine, Wish

GB = 10**9
FULL = Model(S2VConfig(), 32 * GB, torch.bfloat16, streams=False)
CARD = Machine(free=100 * GB, total=144 * GB, free_cpu=200 * GB, gpu=True, fp8=False)
OWN = Wish(caches=(CacheFormat.MODEL,), caches_on_cpu=0)  # nothing is made smaller


def say(gigabytes: float, height: int = 384, width: int = 704, wish: Wish = OWN, **config) -> str:
    machine = replace(CARD, free=int(gigabytes * GB))
    return advice(VideoCosts(FULL, height, width, SamplingConfig(**config)), machine, wish)


def test_the_sentence_says_what_was_planned_and_names_a_size_and_steps_that_should_fit():
    said = say(97)
    assert re.match(
        r"The GPU's memory ran out: 704x384 in 4 steps was planned with \d\d\.\d GB of the 97.0 GB that were free, and "
        r"needed more; what should fit: .*640x320 \(\d\d.\d GB\) or 3 steps \(\d\d.\d GB\)\.$",
        said,
    ), said


@pytest.mark.parametrize("gigabytes", [97, 80, 60, 50])
def test_what_is_said_to_fit_does_fit(gigabytes):
    found = [float(size) for size in re.findall(r"\((\d+\.\d) GB\)", say(gigabytes))]
    assert found and max(found) <= 0.9 * gigabytes


def test_low_memory_is_named_where_it_was_not_chosen():
    assert "performance 'low memory' (" in say(97, wish=Wish("quality"))
    assert "low memory" not in say(97, wish=Wish("low memory"))


def test_a_host_that_streams_weights_is_told_what_takes_less_as_well():
    machine = replace(CARD, free=24 * GB, total=24 * GB, free_cpu=64 * GB)
    said = advice(VideoCosts(replace(FULL, streams=True), 384, 704, SamplingConfig()), machine, Wish())
    assert "performance 'low memory' (" in said and "640x320 (" in said


def test_when_nothing_fits_other_ways_are_named():
    assert say(30, 64, 64).endswith("what should fit: closing other programs that use the GPU.")


def test_a_video_that_cannot_be_planned_says_first_what_can():
    costs, machine = VideoCosts(FULL, 384, 704, SamplingConfig()), replace(CARD, free=80 * GB, fp8=True)
    with pytest.raises(MemoryError) as found:
        planned(costs, machine, Wish("quality", caches=(CacheFormat.MODEL,), caches_on_cpu=0))
    assert re.fullmatch(
        r"Choose performance 'auto' \(\d\d\.\d GB\), performance 'low memory' \(\d\d\.\d GB\), 640x320 "
        r"\(\d\d\.\d GB\) or 2 steps \(\d\d\.\d GB\)\. A 704x384 video in 4 steps needs at least \d\d\.\d GB of GPU "
        r"memory; 78\.6 GB of 144\.0 GB can be taken\.",
        str(found.value),
    ), found.value
    with pytest.raises(
        MemoryError, match=r"^Close other programs that use the GPU, or take a larger one\. A 64x64 "
    ):
        planned(VideoCosts(FULL, 64, 64, SamplingConfig()), replace(CARD, free=20 * GB), OWN)


def test_the_error_keeps_its_kind_and_its_cause_and_others_pass():
    def run(error: BaseException) -> None:
        with explained(partial(advice, VideoCosts(FULL, 384, 704, SamplingConfig()), CARD, OWN)):
            raise error

    first = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB.")
    with pytest.raises(torch.OutOfMemoryError, match="704x384 in 4 steps was planned") as found:
        run(first)
    assert found.value.__cause__ is first
    with pytest.raises(ValueError, match="something"):
        run(ValueError("something"))
