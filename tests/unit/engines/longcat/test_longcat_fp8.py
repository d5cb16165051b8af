"""LongCat with float8 products and with attention in 8 bits, against the network that it is made from."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.gpu.fp8 import Fp8Linear
from avatar.engines.longcat.config import LongCatConfig, SamplingConfig
from avatar.engines.longcat.fp8 import use_fp8
from avatar.engines.longcat.layout import Layout
from avatar.engines.longcat.sampler import Prompts, SegmentSampler
from torch import nn

from tools.tiny_longcat import TINY, transformer

WIDE = LongCatConfig(hidden_size=512, depth=3, num_heads=4, caption_channels=64, adaln_tembed_dim=32)


def test_layers_that_see_every_token_become_float8():
    block = transformer(TINY["1.5"]).blocks[0]
    use_fp8(block)
    left = {name for name, layer in block.named_modules() if isinstance(layer, nn.Linear)}
    assert left == {"adaLN_modulation.1", "audio_adaLN_modulation.1"}
    made = [layer for layer in block.modules() if isinstance(layer, Fp8Linear)]
    assert len(made) == 11 and block.float8
    assert not block.ffn.w1.bias.any() and block.attn.qkv.bias.any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("attention8", [False, True])
@pytest.mark.parametrize("float8", [False, True])
def test_steps_on_a_gpu_stay_close(float8, attention8):
    torch.manual_seed(0)
    layout = Layout(8, 12, 3, 6, position=3, skip=1)
    clean = torch.randn(1, 16, layout.clean, 16, 24)
    noise, words = torch.randn(1, 16, layout.noisy, 16, 24), torch.randn(7, 64)
    windows = torch.randn(1, 4 * (layout.clean + layout.noisy) - 3, 5, WIDE.audio_block, WIDE.audio_channel)
    network, found = transformer(WIDE), []
    for device, dtype in (("cpu", torch.float32), ("cuda", torch.bfloat16)):
        network = network.to(device, dtype)
        network._dtype = dtype
        if device == "cuda" and float8:
            for block in network.blocks:
                use_fp8(block)
        with torch.inference_mode():
            text = network.encode_text(words.to(device), 5)
        sampler = SegmentSampler(
            network,
            SamplingConfig(steps=2, distilled=False),
            Prompts(text),
            None,
            torch.device(device),
            attention8=attention8 and device == "cuda",
        )
        prepared = sampler.prepare(layout, clean, windows)
        found.append(sampler.flow(noise.to(device), torch.tensor(700.0), prepared).cpu())
    error = (found[1] - found[0]).norm() / found[0].norm()
    assert error < (0.05 if float8 or attention8 else 0.02)
