"""Linear layers in 8 bits, as `base_model_int8` stores them: whole numbers with a scale per row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST = 127


class Int8Linear(nn.Module):
    """A linear layer whose weights are 8-bit whole numbers; it computes in its input's dtype.

    The numbers are exact in every format, so they are multiplied as they are and the result is scaled.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("weight_int8", torch.zeros(out_features, in_features, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(out_features))
        self.bias = nn.Parameter(torch.zeros(out_features)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.linear(x, self.weight_int8.to(x.dtype)) * self.weight_scale.to(x.dtype)
        return y if self.bias is None else y + self.bias.to(x.dtype)


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight [out, in] as int8 of the same shape, and its scale per row, float32 [out]."""
    weight = weight.float()
    scale = weight.abs().amax(1).clamp(min=1e-8) / MOST
    return (weight / scale[:, None]).round().clamp(-MOST - 1, MOST).to(torch.int8), scale


def use_int8(model: nn.Module, prefix: str = "") -> None:
    """Replace every linear layer but the last one, ``final_layer.linear``, by an empty `Int8Linear`, on the device on
    which the model is."""
    for name, layer in model.named_children():
        path = f"{prefix}{name}"
        if isinstance(layer, nn.Linear) and path != "final_layer.linear":
            with layer.weight.device:
                setattr(
                    model, name, Int8Linear(layer.in_features, layer.out_features, layer.bias is not None)
                )
        else:
            use_int8(layer, f"{path}.")
