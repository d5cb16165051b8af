"""A narrow wav2vec2: the published convolution geometry and 24 layers, 32 channels wide."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

HIDDEN, LAYERS = 32, 24
VOCABULARY = ["<pad>", "<s>", "</s>", "<unk>", "|", *"'-abcdefghijklmnopqrstuvwxyz"]


def config() -> Wav2Vec2Config:
    """Configuration of the narrow model; dropout and masking are off, the corpus is endless enough."""
    return Wav2Vec2Config(
        architectures=["Wav2Vec2ForCTC"],
        hidden_size=HIDDEN,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        intermediate_size=2 * HIDDEN,
        conv_dim=(48,) * 7,
        conv_bias=True,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        num_conv_pos_embeddings=128,
        num_conv_pos_embedding_groups=16,
        vocab_size=len(VOCABULARY),
        pad_token_id=0,
        hidden_dropout=0.0,
        attention_dropout=0.0,
        activation_dropout=0.0,
        feat_proj_dropout=0.0,
        final_dropout=0.0,
        layerdrop=0.0,
        apply_spec_augment=False,
    )


class MouthReader(nn.Module):
    """wav2vec2 with two linear heads that read the mouth shape off a middle and the last layer."""

    def __init__(self) -> None:
        super().__init__()
        self.wav2vec2 = Wav2Vec2Model(config())
        self.middle, self.last = nn.Linear(HIDDEN, 3), nn.Linear(HIDDEN, 3)

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised waveform [B, S] -> mouth shapes [B, T, 3] at 50 per second, from layer 12 and from the last."""
        out = self.wav2vec2(waveform, output_hidden_states=True)
        return self.middle(out.hidden_states[LAYERS // 2]), self.last(out.last_hidden_state)


def layers_of(model: Wav2Vec2Model, waveform: Tensor) -> Tensor:
    """All 25 hidden layers [25, T, C] of one normalised waveform [S], the last one after the final norm."""
    with torch.no_grad():
        out = model(waveform[None], output_hidden_states=True)
    return torch.cat([*out.hidden_states[:-1], out.last_hidden_state])
