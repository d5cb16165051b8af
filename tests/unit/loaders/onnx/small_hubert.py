"""A small HuBERT with built-in keys and values, exported the way the published one was: by tracing, version 17."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import HubertConfig, HubertModel

pytest.importorskip("onnx")
CONTEXT = 37
"""Positions of speech that are built in; the published graph has some 1012."""


class ContextLayer(nn.Module):
    """A layer in whose attention the built-in context comes first, and nothing sees what follows it."""

    def __init__(self, layer: nn.Module, context: int) -> None:
        super().__init__()
        self.layer, attention = layer, layer.attention
        size = 1, attention.num_heads, context, attention.head_dim
        self.register_buffer("keys", torch.randn(size))
        self.register_buffer("values", torch.randn(size))

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        x = x + self._attended(layer.layer_norm(x))
        return x + layer.feed_forward(layer.final_layer_norm(x))

    def _attended(self, x: Tensor) -> Tensor:
        batch, rows, width = x.shape
        attention = self.layer.attention

        def heads(x: Tensor) -> Tensor:
            return x.view(batch, rows, attention.num_heads, attention.head_dim).transpose(1, 2)

        q = heads(attention.q_proj(x)) * attention.head_dim**-0.5
        k = torch.cat([self.keys.expand(batch, -1, -1, -1), heads(attention.k_proj(x))], 2)
        v = torch.cat([self.values.expand(batch, -1, -1, -1), heads(attention.v_proj(x))], 2)
        seen = torch.ones(rows, k.shape[2], dtype=torch.bool).tril(k.shape[2] - rows)
        scores = (q @ k.transpose(2, 3)).masked_fill(~seen, float("-inf"))
        mixed = scores.softmax(-1) @ v
        return attention.out_proj(mixed.transpose(1, 2).reshape(batch, rows, width))


class SmallHubert(nn.Module):
    """The network; ``width`` channels, two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        config = HubertConfig(
            hidden_size=width,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=48,
            conv_dim=[16] * 7,
            conv_bias=True,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            num_conv_pos_embeddings=16,
            num_conv_pos_embedding_groups=4,
            attn_implementation="eager",
        )
        torch.manual_seed(0)
        self.hubert = HubertModel(config)
        self.layers = nn.ModuleList(ContextLayer(layer, CONTEXT) for layer in self.hubert.encoder.layers)

    def forward(self, input_values: Tensor) -> Tensor:
        hubert, encoder = self.hubert, self.hubert.encoder
        x = hubert.feature_projection(hubert.feature_extractor(input_values).transpose(1, 2))
        x = x + encoder.pos_conv_embed(x)
        for layer in self.layers:
            x = layer(x)
        return encoder.layer_norm(x)


def write_small_hubert(path: Path, width: int = 32) -> SmallHubert:
    """Export the network to ``path``; the network."""
    network = SmallHubert(width).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.randn(1, 6480),),
            str(path),
            opset_version=17,
            input_names=["input_values"],
            output_names=["encoding_out"],
            dynamic_axes={"input_values": {1: "samples"}},
            dynamo=False,
        )
    return network.eval()
