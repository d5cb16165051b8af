"""Merged LoRA weights, and the flow of the merged transformer, against the reference's."""

from __future__ import annotations

import copy

import pytest
import torch
from avatar.engines.liveavatar.config import BLOCK_FRAMES, BLOCK_LATENTS, SamplingConfig
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.loaders.lora import merge_lora, read_lora
from torch import nn

from tests.parity.liveavatar_cases import input_tensor, transformer
from tests.parity.reference import assert_close, reference_dir, tensors


def skeleton(weights: dict[str, torch.Tensor], dtype: torch.dtype) -> nn.Module:
    """Linear modules at the paths of a checkpoint's matrices, without the model around them."""
    root = nn.Module()
    for key, weight in weights.items():
        if not key.endswith(".weight") or weight.ndim != 2:
            continue
        *parents, name = key.removesuffix(".weight").split(".")
        module = root
        for parent in parents:
            if parent not in dict(module.named_children()):
                module.add_module(parent, nn.Module())
            module = module.get_submodule(parent)
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, dtype=dtype)
        linear.weight = nn.Parameter(weight.clone().to(dtype))
        module.add_module(name, linear)
    return root


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_weights_equal_the_reference(dtype):
    expected = tensors("liveavatar", "lora_expected.safetensors")
    model = skeleton(tensors("liveavatar", "weights_dit.safetensors"), dtype)
    tensors("liveavatar", "lora.safetensors")  # skips when the set has no LoRA
    merge_lora(model, read_lora(reference_dir("liveavatar") / "lora.safetensors"))
    merged = model.state_dict()
    prefix = "bf16." if dtype == torch.bfloat16 else ""
    keys = [key for key in expected if key.endswith(".weight") and key.startswith("bf16.") == bool(prefix)]
    assert keys
    for key in keys:
        rows = merged[key.removeprefix(prefix)][: expected[key].shape[0]]
        assert_close(rows, expected[key], 0.0 if prefix else 1e-6)


def test_flow_of_the_merged_transformer_equals_the_reference():
    expected = tensors("liveavatar", "lora_expected.safetensors")
    tensors("liveavatar", "lora.safetensors")  # skips when the set has no LoRA
    model = copy.deepcopy(transformer())
    merge_lora(model, read_lora(reference_dir("liveavatar") / "lora.safetensors"))
    sampler = BlockSampler(
        model,
        SamplingConfig(steps=4, sink_distance=30),
        context=input_tensor("context"),
        reference=input_tensor("ref_latent"),
        motion=input_tensor("motion_latents"),
    )
    inputs = sampler.prepare_block(input_tensor("audio")[..., :BLOCK_FRAMES])
    flow = sampler.predict(inputs, input_tensor("clip_noise_0")[None, :, :BLOCK_LATENTS], step=1)
    assert_close(flow[0], expected["flow_b0_step1"], 2e-5)
