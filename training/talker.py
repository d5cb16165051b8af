"""The tiny S2V transformer: sizes, fresh weights, and the parts that training takes from the pack."""

from __future__ import annotations

import torch
from torch import nn

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.liveavatar.config import S2VConfig
from avatar.engines.liveavatar.transformer import S2VTransformer

from .texts import TEXT_DIM
from .wav2vec import HIDDEN

CONFIG = S2VConfig(
    dim=256,
    ffn_dim=256,
    num_heads=2,
    num_layers=4,
    text_dim=TEXT_DIM,
    audio_dim=HIDDEN,
    audio_inject_layers=(0, 2),
)


def build() -> S2VTransformer:
    """Untrained weights: small modulations, and a head that predicts nothing yet."""
    model = S2VTransformer(CONFIG)
    for module in model.modules():
        # PyTorch's fused norm wants input and weight of one format, which autocast does not see to.
        if isinstance(module, nn.RMSNorm):
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))
    for name, parameter in model.named_parameters():
        if name.endswith("modulation"):
            nn.init.normal_(parameter, std=CONFIG.dim**-0.5)
    nn.init.zeros_(model.head.head.weight)
    nn.init.zeros_(model.head.head.bias)
    nn.init.normal_(model.trainable_cond_mask.weight, std=0.1)
    nn.init.normal_(model.casual_audio_encoder.encoder.padding_tokens, std=0.1)
    with torch.no_grad():
        model.casual_audio_encoder.weights.fill_(0.5)
    return model
