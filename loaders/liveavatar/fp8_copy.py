"""The engine's own float8 copy of a host's MODEL, with the LoRAs that the host has put on it."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...engines.gpu.fp8 import require_fp8
from ...engines.gpu.offload import WaitingBlock, spread
from ...engines.gpu.pinned import keep_while
from ...engines.liveavatar.costs import fp8_bytes
from ...engines.liveavatar.fp8_blocks import quantise_transformer
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.precision import CastLayer, input_dtype
from ...host.memory import make_room, pass_through, patcher_of, unlock
from .host_model import CASTS, HostModel
from .model import Report
from .stored_copy import StoredCopy, stored_copy

logger = logging.getLogger(__name__)

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
        patcher: what the host moves to ``device``, and out of it for others: all other layers.
        unwritten: where it shall be on the disk, and is not yet.
        note: what people should know about that; empty if nothing.
    """

    unwritten: StoredCopy | None = None
    note = ""

    def __init__(
        self,
        transformer: S2VTransformer,
        waiting: dict[int, WaitingBlock],
        device: torch.device,
    ) -> None:
        self.transformer, self._device = transformer, device
        self._waiting = waiting
        self._register()

    @property
    def waiting(self) -> list[WaitingBlock]:
        return [self._waiting[index] for index in sorted(self._waiting)]

    @property
    def blocks_on_cpu(self) -> int:
        return len(self._waiting)

    def deal(self, blocks_on_cpu: int) -> None:
        """Let another number of blocks wait from now on; only those that change places are moved."""
        blocks = self.transformer.blocks
        chosen = set(spread(blocks_on_cpu, len(blocks)))
        try:
            for index in self._waiting.keys() - chosen:
                # Not where the block has lain: that memory is locked, and can hold another one.
                self._waiting.pop(index).leave()
            for index in chosen - self._waiting.keys():
                self._waiting[index] = WaitingBlock(blocks[index])
        finally:  # where memory ends in between, those that do not wait are the host's to move all the same
            self._register()

    def _register(self) -> None:
        resident = nn.ModuleList(
            child for name, child in self.transformer.named_children() if name != "blocks"
        )
        resident.extend(block for i, block in enumerate(self.transformer.blocks) if i not in self._waiting)
        self.patcher = patcher_of(resident, self._device)


_copies: WeakKeyDictionary[nn.Module, tuple[Any, Fp8Copy]] = WeakKeyDictionary()
"""The latest copy, by the host's module, with the state of the model that it was made from."""


def copied_bytes(model: HostModel) -> int:
    """CPU memory that an earlier run's copy of a host's MODEL takes."""
    found = _copies.get(model.module)
    if found is None:
        return 0
    copy = found[1].transformer
    return sum(tensor.nbytes for tensor in (*copy.parameters(), *copy.buffers()))


def fp8_copy(model: HostModel, blocks_on_cpu: int, report: Report) -> Fp8Copy:
    """The float8 copy of a MODEL with so many blocks in CPU memory; the same one again while model and LoRAs stay.

    It is read from the disk where it is to be kept there and fits; the MODEL is not touched then. Otherwise the host's
    weights pass through the GPU one layer at a time, and the copy is written. Its blocks stay on the GPU, except those
    that wait.

    Raises:
        RuntimeError: the device cannot multiply float8 matrices.
    """
    require_fp8(model.device)
    keep_while(model.module)
    found = _copies.get(model.module)
    if found is not None and found[0] == model.patcher.patches_uuid:
        copy = found[1]
        copy.note = ""
        if copy.blocks_on_cpu != blocks_on_cpu:
            copy.deal(blocks_on_cpu)
    else:
        _copies.clear()  # one at a time: each takes as much memory as the model in 8 bits
        copy = _made(model, blocks_on_cpu, report)
        _copies[model.module] = (model.patcher.patches_uuid, copy)
    if copy.unwritten is not None:
        _write(copy, report)
    return copy


def _made(model: HostModel, blocks_on_cpu: int, report: Report) -> Fp8Copy:
    """A copy from the disk, or else from the MODEL."""
    stored, note = stored_copy(model), ""
    if stored is not None:
        try:
            return Fp8Copy(*_read(model, stored, blocks_on_cpu, report), model.device)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            why = f"{error.strerror}." if isinstance(error, OSError) else str(error)
            note = f"The float8 copy was made anew: {why}"
            logger.warning("LiveAvatar: %s", note)
    copy = Fp8Copy(*_quantised(model, blocks_on_cpu, report), model.device)
    copy.unwritten, copy.note = stored, note
    return copy


def _write(copy: Fp8Copy, report: Report) -> None:
    """Put a copy on the disk; what keeps it from there is a note, since the video needs it in memory only."""
    try:
        copy.unwritten.write(copy.transformer, report)
    except OSError as error:
        copy.note = f"The float8 copy is not kept on the disk: {error.strerror or error}."
        logger.warning("LiveAvatar: %s", copy.note)
    copy.unwritten = None  # an interruption leaves it, so the next video writes it


def _empty(model: HostModel) -> S2VTransformer:
    with torch.device("meta"):
        return S2VTransformer(model.architecture, DTYPE).eval().requires_grad_(False)


@torch.no_grad()
def _read(
    model: HostModel, stored: StoredCopy, blocks_on_cpu: int, report: Report
) -> tuple[S2VTransformer, dict[int, WaitingBlock]]:
    """A float8 transformer on the MODEL's device, and its blocks that wait, from the disk."""
    if not stored.path.is_file():
        raise FileNotFoundError(stored.path)
    whole, one = fp8_bytes(model.architecture, DTYPE)
    make_room(model.device, whole - blocks_on_cpu * one)
    copy = _empty(model)
    return copy, stored.read(copy, blocks_on_cpu, model.device, report)


@torch.no_grad()
def _quantised(
    model: HostModel, blocks_on_cpu: int, report: Report
) -> tuple[S2VTransformer, dict[int, WaitingBlock]]:
    """A float8 transformer on the MODEL's device, and its blocks that wait."""
    whole, one = fp8_bytes(model.architecture, DTYPE)
    pass_through(model.patcher, WORKING_BYTES + whole - blocks_on_cpu * one)
    computed, device = model.host_dtype, model.device
    source = model.adopt(computed)
    copy = _empty(model)
    total, chosen = len(copy.blocks), spread(blocks_on_cpu, len(copy.blocks))
    _take_over(copy.audio_injector, source.audio_injector, device, computed, DTYPE)

    def bring(index: int) -> None:
        unlock(model.patcher)
        report(f"Converting the model to fp8: {index} of {total} blocks")
        _take_over(copy.blocks[index], source.blocks[index], device, computed, DTYPE)

    waiting = quantise_transformer(copy, chosen, bring)
    for name, child in copy.named_children():
        if name not in ("blocks", "audio_injector"):
            _take_over(child, source.get_submodule(name), device, computed)
    unlock(model.patcher)
    report(f"Converting the model to fp8: {total} of {total} blocks")
    return copy, dict(zip(chosen, waiting, strict=True))


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
        for name, value in _as_it_acts(theirs, layer, device, computed).items():
            value = value.to(
                kept or (torch.float32 if _is_exact(theirs, name, computed) else DTYPE), copy=True
            )
            setattr(layer, name, nn.Parameter(value, requires_grad=False))


def _is_exact(theirs: nn.Module, name: str, computed: torch.dtype) -> bool:
    """Whether a host's parameter counts as float32. A layer's bias goes with its weight: GGUF files keep it finer."""
    if isinstance(theirs, CastLayer):
        return True
    own = theirs.weight if getattr(theirs, "weight", None) is not None else getattr(theirs, name)
    return computed != torch.float32 and own.dtype == torch.float32


def _as_it_acts(
    theirs: nn.Module, layer: nn.Module, device: torch.device, computed: torch.dtype
) -> dict[str, Tensor]:
    """The parameters of ``theirs``, a host's layer, as the ordinary ``layer`` of the same sizes would hold them.

    They are computed from the layer's outputs for unit vectors and for zeros, because the host may keep weights in any
    form, bring them to the GPU while the layer computes, and patch them there. It is called once, since a host may
    bring its weights anew each time. Parameters that belong to no leaf layer are read.
    """
    names = [name for name, _ in layer.named_parameters(recurse=False)]
    found: dict[str, Tensor] = {}
    if isinstance(layer, nn.Embedding):
        found["weight"] = theirs(torch.arange(layer.num_embeddings, device=device))
    elif isinstance(layer, nn.Linear):
        dtype = input_dtype(theirs, computed)
        inputs = torch.zeros(1, 1 + layer.in_features, layer.in_features, device=device, dtype=dtype)
        inputs[0, 1:].fill_diagonal_(UNIT)
        outputs = theirs(inputs)[0]
        bias, weight = outputs[0], outputs[1:].float()
        if layer.bias is not None:
            weight -= bias.float()
        found = {"weight": weight.div_(UNIT).t().contiguous(), "bias": bias}
    elif isinstance(layer, (nn.Conv1d, nn.Conv3d)):
        call, dtype = _precise(theirs, computed)
        shape = (layer.in_channels, *layer.kernel_size)
        bias = call(torch.zeros(1, *shape, device=device, dtype=dtype)).flatten()
        units = torch.eye(math.prod(shape), device=device, dtype=dtype).unflatten(1, shape)
        weight = (call(units).flatten(1) - bias).t().unflatten(1, shape).contiguous()
        found = {"weight": weight, "bias": bias}
    elif isinstance(layer, (nn.LayerNorm, nn.RMSNorm)) and names:
        call, dtype = _precise(theirs, computed)
        zero = torch.zeros(1, *layer.normalized_shape, device=device, dtype=dtype)
        # Signs have mean 0 and variance 1, so the norm changes them by its epsilon only.
        signs = torch.ones_like(zero)
        signs[..., 1::2] = -1
        shift = call(zero)
        weight = ((call(signs) - shift) * signs * math.sqrt(1 + (layer.eps or 0)))[0]
        found = {"weight": weight, "bias": shift[0]}
    return {
        name: found[name] if name in found else getattr(theirs, name).detach().to(device).as_subclass(Tensor)
        for name in names
    }


def _precise(layer: nn.Module, computed: torch.dtype) -> tuple[Callable[[Tensor], Tensor], torch.dtype]:
    """A call of a host's small layer that rounds nothing, and the number format of its input."""
    cast = getattr(layer, CASTS, None)
    return (cast, torch.float32) if cast is not None else (layer, input_dtype(layer, computed))
