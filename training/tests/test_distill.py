"""The distilled LoRA file means the same to the pack's loader as to the student."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from safetensors.torch import save_file

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.loaders.lora import merge_lora, read_lora

pytest.importorskip("skia", reason="skia-python is not installed or lacks libraries", exc_type=ImportError)

from training.distill import add_lora, fine_sigmas, jumps, levels, lora_state
from training.parallel import schedule
from training.talker import build


def test_merged_file_gives_the_students_numbers(tmp_path):
    torch.manual_seed(0)
    student, base = build(), build()
    base.load_state_dict(student.state_dict())
    added = add_lora(student)
    for pair in added.values():
        torch.nn.init.normal_(pair.b, std=0.1)
        for parameter in pair.parameters():
            parameter.data = parameter.data.half().float()
    save_file(lora_state(added), tmp_path / "liveavatar.safetensors")
    merge_lora(base, read_lora(tmp_path / "liveavatar.safetensors"))
    x = torch.randn(1, 5, 256)
    for name in ("blocks.1.self_attn.q", "blocks.3.ffn.2", "audio_injector.injector.1.o"):
        assert name in added
        made, expected = base.get_submodule(name)(x), student.get_submodule(name)(x)
        torch.testing.assert_close(made, expected, atol=1e-5, rtol=1e-4)


def test_the_teacher_passes_through_the_samplers_noise_levels():
    sigmas, places = fine_sigmas(0.05)
    torch.testing.assert_close(sigmas[places], levels())
    steps = sigmas.diff()
    assert (steps < 0).all()
    assert (steps >= -0.0501).all()


def test_the_student_learns_the_steps_of_both_samplers():
    learned = {tuple(levels()[pair].tolist()) for pair in jumps()}
    for steps in (3, 4):
        for pair in pairwise(schedule(steps).tolist()):
            assert (pair in learned) == (pair[0] > 0.1)
