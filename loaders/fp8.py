"""The engine's own float8 copy of a host's MODEL, with the LoRAs that the host has put on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ..liveavatar.fp8 import Fp8Attention, Fp8Block, require_fp8
from ..liveavatar.offload import WaitingBlock, spread
from ..liveavatar.precision import Float32Layer, input_dtype
from ..liveavatar.transformer import S2VTransformer
from .s2v import compute_dtype, host_config, transformer_from_host

Report = Callable[[int, int], None]
"""Called with the blocks that are done and their number; raises to stop."""

DTYPE = torch.bfloat16
"""Of everything that is not quantised; products of float8 rows come in no other."""
WORKING_BYTES = 4 * 2**30
"""Room for one layer at a time, in float32 and in between."""


class Fp8Copy:
    """A transformer with float8 weights that belongs to the pack.

    Attributes:
        transformer: the engine's; its blocks that wait lie in locked CPU memory.
        waiting: those blocks, for `BlockOffload`.
        resident: all other layers, for the host's memory management.
    """

    def __init__(self, transformer: S2VTransformer, blocks_on_cpu: int) -> None:
        self.transformer = transformer
        chosen = spread(blocks_on_cpu, len(transformer.blocks))
        self.waiting = [WaitingBlock(transformer.blocks[index]) for index in chosen]
        self.resident = nn.ModuleList(
            child for name, child in transformer.named_children() if name != "blocks"
        )
        self.resident.extend(block for i, block in enumerate(transformer.blocks) if i not in chosen)
        self.patcher: Any = None

    def load(self, device: torch.device, others: list[Any], memory: int) -> None:
        """Have the host bring the resident layers to ``device``, with other models, leaving ``memory`` bytes free."""
        from comfy import model_management
        from comfy.model_patcher import ModelPatcher

        if self.patcher is None:
            self.patcher = ModelPatcher(
                self.resident, load_device=device, offload_device=model_management.unet_offload_device()
            )
        model_management.load_models_gpu(
            [self.patcher, *others], memory_required=memory, force_full_load=True
        )


_copies: WeakKeyDictionary[nn.Module, tuple[Any, Fp8Copy]] = WeakKeyDictionary()
"""The latest copy, by the host's module; with what it was made from."""


def copied_bytes(model: Any) -> int:
    """CPU memory that an earlier run's copy of a host's MODEL takes."""
    found = _copies.get(model.model)
    if found is None:
        return 0
    copy = found[1].transformer
    return sum(tensor.nbytes for tensor in (*copy.parameters(), *copy.buffers()))


def fp8_copy(model: Any, blocks_on_cpu: int, report: Report) -> Fp8Copy:
    """The float8 copy of a host's MODEL; the same one again while model, LoRAs and ``blocks_on_cpu`` stay the same.

    The host's weights pass through the GPU one layer at a time; the copy is made in CPU memory.

    Raises:
        RuntimeError: the device cannot multiply float8 matrices.
    """
    device = model.load_device
    require_fp8(device)
    made_from = (model.patches_uuid, blocks_on_cpu)
    found = _copies.get(model.model)
    if found is not None and found[0] == made_from:
        return found[1]
    _copies.clear()  # one at a time: each takes as much CPU memory as the model in 8 bits
    from comfy import model_management

    model_management.load_models_gpu([model], memory_required=WORKING_BYTES)
    copy = Fp8Copy(_quantised(model, device, report), blocks_on_cpu)
    _copies[model.model] = (made_from, copy)
    return copy


@torch.no_grad()
def _quantised(model: Any, device: torch.device, report: Report) -> S2VTransformer:
    source, computed = transformer_from_host(model), compute_dtype(model)
    with torch.device("meta"):
        copy = S2VTransformer(host_config(model), DTYPE)
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
    """Fill the empty layers of ``target`` with what those of ``source`` compute with.

    ``computed`` is the host's format; ``kept`` the result's, by default float32 for layers that are exact and else
    `DTYPE`.
    """
    for path, layer in target.named_modules():
        theirs = source.get_submodule(path)
        for name, _ in list(layer.named_parameters(recurse=False)):
            if isinstance(layer, nn.Linear):
                value = _linear(theirs, layer.in_features, name, device, computed)
            elif isinstance(layer, nn.Embedding):
                value = theirs(torch.arange(layer.num_embeddings, device=device))
            else:
                value = _parameter(theirs, name, device)
            exact = _layer(theirs) is not theirs or value.dtype == torch.float32 != computed
            value = value.to(kept or (torch.float32 if exact else DTYPE), copy=True)
            setattr(layer, name, nn.Parameter(value, requires_grad=False))


def _layer(layer: nn.Module) -> nn.Module:
    return layer.layer if isinstance(layer, Float32Layer) else layer


def _linear(layer: nn.Module, width: int, name: str, device: torch.device, computed: torch.dtype) -> Tensor:
    """Weight or bias of a host's linear layer, as it acts: found by what it makes of the unit vectors, or of nothing.

    The layer may keep its weights in any form, and patch them while it computes.
    """
    inner = _layer(layer)
    dtype = input_dtype(layer, computed)
    if name == "bias":
        return layer(torch.zeros(1, 1, width, device=device, dtype=dtype))[0, 0]
    bias = inner._parameters.get("bias")
    inner._parameters["bias"] = None  # it would round the weight
    try:
        return layer(torch.eye(width, device=device, dtype=dtype)[None])[0].t().contiguous()
    finally:
        inner._parameters["bias"] = bias


def _parameter(layer: nn.Module, name: str, device: torch.device) -> Tensor:
    """A parameter of a layer of another kind, with the host's patches."""
    inner = _layer(layer)
    value = getattr(inner, name).detach().to(device)
    for patch in getattr(inner, f"{name}_function", ()):
        value = patch(value)
    return value.as_subclass(Tensor)
