"""The engine's own float8 copy of a host's MODEL, with the LoRAs that the host has put on it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...engines.gpu.fp8 import require_fp8
from ...engines.gpu.offload import WaitingBlock, spread
from ...engines.liveavatar.fp8_blocks import Fp8Attention, Fp8Block
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.precision import Float32Layer, input_dtype
from ...host.memory import bring, patcher_of
from .host_model import CASTS, HostModel
from .model import Report

DTYPE = torch.bfloat16
"""Number format of everything that is not quantised; products of float8 rows come in no other."""
WORKING_BYTES = 4 * 2**30
"""GPU memory for the conversion of one layer at a time, which goes through float32."""
UNIT = 256.0
"""Weights are found by calling a layer with unit vectors of this length. The layer then adds its bias to 256 times a
weight, so a sum in 16 bits loses little of the weight. Float8 holds 448 at most, and a host may quantise its
inputs."""


class Fp8Copy:
    """A transformer with float8 weights that belongs to the pack.

    Attributes:
        transformer: the engine's; its blocks that wait lie in locked CPU memory.
        waiting: those blocks, for `BlockOffload`.
        resident: all other layers.
        patcher: what the host moves to ``device``, and to ``rest`` for others.
    """

    def __init__(
        self, transformer: S2VTransformer, blocks_on_cpu: int, device: torch.device, rest: torch.device
    ) -> None:
        self.transformer = transformer
        chosen = spread(blocks_on_cpu, len(transformer.blocks))
        self.waiting = [WaitingBlock(transformer.blocks[index]) for index in chosen]
        self.resident = nn.ModuleList(
            child for name, child in transformer.named_children() if name != "blocks"
        )
        self.resident.extend(block for i, block in enumerate(transformer.blocks) if i not in chosen)
        self.patcher = patcher_of(self.resident, device, rest)


_copies: WeakKeyDictionary[nn.Module, tuple[Any, Fp8Copy]] = WeakKeyDictionary()
"""The latest copy, by the host's module, with the state of the model and the settings that it was made from."""


def copied_bytes(model: HostModel) -> int:
    """CPU memory that an earlier run's copy of a host's MODEL takes."""
    found = _copies.get(model.module)
    if found is None:
        return 0
    copy = found[1].transformer
    return sum(tensor.nbytes for tensor in (*copy.parameters(), *copy.buffers()))


def fp8_copy(model: HostModel, blocks_on_cpu: int, report: Report) -> Fp8Copy:
    """The float8 copy of a MODEL; the same one again while model, LoRAs and ``blocks_on_cpu`` stay the same.

    The host's weights pass through the GPU one layer at a time; the copy is made in CPU memory.

    Raises:
        RuntimeError: the device cannot multiply float8 matrices.
    """
    require_fp8(model.device)
    made_from = (model.patcher.patches_uuid, blocks_on_cpu)
    found = _copies.get(model.module)
    if found is not None and found[0] == made_from:
        return found[1]
    _copies.clear()  # one at a time: each takes as much CPU memory as the model in 8 bits
    bring([model.patcher], WORKING_BYTES, whole=False)
    quantised = _quantised(model, report)
    copy = Fp8Copy(quantised, blocks_on_cpu, model.device, model.patcher.offload_device)
    _copies[model.module] = (made_from, copy)
    return copy


@torch.no_grad()
def _quantised(model: HostModel, report: Report) -> S2VTransformer:
    source, computed, device = model.adopt(), model.dtype, model.device
    with torch.device("meta"):
        copy = S2VTransformer(model.architecture, DTYPE)
    copy.eval().requires_grad_(False)
    for name, child in copy.named_children():
        if name not in ("blocks", "audio_injector"):
            _take_over(child, source.get_submodule(name), device, computed)
            child.to("cpu")
    total = len(copy.blocks)
    for index in range(total):
        report(index, total)
        _take_over(copy.blocks[index], source.blocks[index], device, computed, DTYPE)
        copy.blocks[index] = Fp8Block(copy.blocks[index]).to("cpu")
    injection = copy.audio_injector
    _take_over(injection, source.audio_injector, device, computed, DTYPE)
    for index, injector in enumerate(injection.injector):
        injection.injector[index] = Fp8Attention(injector)
    injection.to("cpu")
    report(total, total)
    return copy


def _take_over(
    target: nn.Module,
    source: nn.Module,
    device: torch.device,
    computed: torch.dtype,
    kept: torch.dtype | None = None,
) -> None:
    """Fill the empty layers of ``target`` with the weights that those of ``source`` compute with.

    ``computed`` is the host's format; ``kept`` the result's, by default float32 for layers that are exact and else
    `DTYPE`.
    """
    for path, layer in target.named_modules():
        theirs = source.get_submodule(path)
        for name, _ in list(layer.named_parameters(recurse=False)):
            value = _as_it_acts(theirs, layer, name, device, computed)
            exact = isinstance(theirs, Float32Layer) or (
                computed != torch.float32 and getattr(_layer(theirs), name).dtype == torch.float32
            )
            value = value.to(kept or (torch.float32 if exact else DTYPE), copy=True)
            setattr(layer, name, nn.Parameter(value, requires_grad=False))


def _as_it_acts(
    theirs: nn.Module, layer: nn.Module, name: str, device: torch.device, computed: torch.dtype
) -> Tensor:
    """A parameter of ``theirs``, a host's layer, as the ordinary ``layer`` of the same sizes would hold it.

    It is computed from the layer's outputs for unit vectors and for zeros, because the host may keep weights in any
    form, bring them to the GPU while the layer computes, and patch them there. Parameters that belong to no leaf layer
    are read.
    """
    if isinstance(layer, nn.Embedding):
        return theirs(torch.arange(layer.num_embeddings, device=device))
    if isinstance(layer, nn.Linear):
        dtype = input_dtype(theirs, computed)
        bias = theirs(torch.zeros(1, 1, layer.in_features, device=device, dtype=dtype))[0, 0]
        if name == "bias":
            return bias
        units = UNIT * torch.eye(layer.in_features, device=device, dtype=dtype)[None]
        return (
            theirs(units)[0]
            .float()
            .sub_(bias.float() if layer.bias is not None else 0)
            .div_(UNIT)
            .t()
            .contiguous()
        )
    if isinstance(layer, (nn.Conv1d, nn.Conv3d)):
        call, dtype = _precise(theirs, computed)
        shape = (layer.in_channels, *layer.kernel_size)
        bias = call(torch.zeros(1, *shape, device=device, dtype=dtype)).flatten()
        if name == "bias":
            return bias
        units = torch.eye(math.prod(shape), device=device, dtype=dtype).unflatten(1, shape)
        return (call(units).flatten(1) - bias).t().unflatten(1, shape).contiguous()
    if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
        call, dtype = _precise(theirs, computed)
        zero = torch.zeros(1, *layer.normalized_shape, device=device, dtype=dtype)
        if name == "bias":
            return call(zero)[0]
        # Signs have mean 0 and variance 1, so the norm changes them by its epsilon only.
        signs = torch.ones_like(zero)
        signs[..., 1::2] = -1
        return ((call(signs) - call(zero)) * signs * math.sqrt(1 + (layer.eps or 0)))[0]
    return getattr(theirs, name).detach().to(device).as_subclass(Tensor)


def _precise(layer: nn.Module, computed: torch.dtype) -> tuple[Callable[[Tensor], Tensor], torch.dtype]:
    """A call of a host's small layer that rounds nothing, and the number format of its input."""
    cast = getattr(layer, CASTS, None)
    return (cast, torch.float32) if cast is not None else (layer, input_dtype(layer, computed))


def _layer(layer: nn.Module) -> nn.Module:
    return layer.layer if isinstance(layer, Float32Layer) else layer
