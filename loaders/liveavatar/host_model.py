"""A MODEL of ComfyUI, described once, and its layers in the engine's transformer."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...engines.liveavatar.config import FLOAT32_PARTS, S2VConfig
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.planning.performance import Performance
from ...engines.parts.planning.plan import Machine, Wish
from ...engines.parts.precision import Float32Layer
from ...host.memory import bring, memory_of, when_displaced
from ..identity import looked_at, tensors_of_patch, weights_identity
from .model import Placed, Report, machine_on

logger = logging.getLogger(__name__)

CASTS = "forward_comfy_cast_weights"
"""The method of ComfyUI's layers that casts their weights to the dtype of the input."""
PATCHES = ("weight_function", "bias_function")
"""Where ComfyUI's layers keep what is to be done to their weights in every call."""


@dataclass(frozen=True)
class HostModel:
    """A `TransformerSource` over a MODEL of ComfyUI, from whichever loader, with the LoRAs on it.

    Attributes:
        patcher: the MODEL.
    """

    patcher: Any
    architecture: S2VConfig
    bytes: int
    dtype: torch.dtype
    device: torch.device
    streams: bool = True

    @classmethod
    def of(cls, model: Any) -> HostModel:
        """Describe a MODEL; ValueError when it is no S2V model."""
        module = getattr(getattr(model, "model", None), "diffusion_model", None)
        if (
            module is None
            or not hasattr(module, "casual_audio_encoder")
            or not hasattr(module, "frame_packer")
        ):
            kind = type(getattr(model, "model", model)).__name__
            raise ValueError(
                f"The MODEL input is {kind}, which cannot listen to speech; load Wan2.2-S2V-14B (with the LiveAvatar "
                "LoRA)."
            )
        return cls(model, _architecture(module), model.model_size(), _compute_dtype(model), model.load_device)

    @property
    def module(self) -> nn.Module:
        """The host's S2V module."""
        return self.patcher.model.diffusion_model

    def machine(self, wish: Wish) -> Machine:
        """See `TransformerSource`."""
        from .fp8_copy import copied_bytes

        total, free = memory_of(self.device)
        head_dim, copied = self.architecture.head_dim, copied_bytes(self)
        return machine_on(self.device, head_dim, total, free, wish, copied)

    def place(self, performance: Performance, memory: int, beside: Sequence[Any], report: Report) -> Placed:
        """See `TransformerSource`; the host's own model stays where it is when its float8 copy runs."""
        from .fp8_copy import fp8_copy

        if performance.fp8:
            copy = fp8_copy(self, performance.blocks_on_cpu, report)
            patchers, waiting = [copy.patcher, *beside], copy.waiting
        else:
            copy, patchers, waiting = None, [self.patcher, *beside], []
        note = "" if copy is None else copy.note

        def bring_back(memory: int = 0) -> None:
            bring(patchers, memory, whole=copy is not None)

        bring_back(memory)
        transformer = self.adopt() if copy is None else copy.transformer
        steady = copy is not None or reads_in_place(transformer, self.device)
        return Placed(transformer, waiting, when_displaced(patchers, bring_back), note, steady)

    def adopt(self) -> S2VTransformer:
        """The engine's transformer over the layers of the host's module; no weight is copied.

        The host's leaf layers take the places of ours, so LoRAs, fp8 and GGUF weights, partial off-loading and the
        host's memory management go on working. They are called, never read: where weights are loaded dynamically, one
        appears only while its layer is called. Call this after the host has loaded the model: parameters that belong to
        no leaf layer are taken over as they are then.
        """
        with torch.device("meta"):
            engine = S2VTransformer(self.architecture, self.dtype)
        try:
            for path, module in list(engine.named_modules()):
                own = dict(module.named_parameters(recurse=False))
                if not own:
                    continue
                theirs = self.module.get_submodule(path)
                if next(module.children(), None) is None and "weight" in own:
                    _replace(engine, path, _in_float32(theirs) if path.startswith(FLOAT32_PARTS) else theirs)
                else:
                    for name in own:
                        module.register_parameter(name, getattr(theirs, name))
        except AttributeError as error:
            raise ValueError(
                f"The MODEL's S2V module is built in an unknown way ({error}); update this pack."
            ) from error
        return engine.eval()

    def identity(self) -> list[Any]:
        """See `TransformerSource`: a few values of every weight, and of every LoRA and other patch on it.

        Patched weights count by their patch only, because their values depend on whether the host has loaded them.
        """
        patches = {
            key: [(patch[0], list(tensors_of_patch(patch[1]))) for patch in self.patcher.patches[key]]
            for key in self.patcher.patches
        }
        weights = self.module.named_parameters()
        own = ((name, weight) for name, weight in weights if f"diffusion_model.{name}" not in patches)
        return [weights_identity(own, self.dtype), looked_at(patches)]


def reads_in_place(transformer: nn.Module, device: torch.device) -> bool:
    """Whether the host's layers compute with their weights as they lie on ``device``.

    They do not where weights are loaded dynamically or off-loaded, come in a packed form of their own (GGUF), or are
    patched in each call, as by a LoRA that was not added to them.
    """
    for layer in transformer.modules():
        if any(getattr(layer, name, None) for name in PATCHES):
            return False
        own = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        if any(type(x) not in (torch.Tensor, nn.Parameter) or x.device != device for x in own):
            return False
    return True


def _compute_dtype(model: Any) -> torch.dtype:
    """The number format in which a MODEL computes, whatever its weights are stored in, loaded or not.

    That of the host's ModelComputeDtype counts; its "default" is what the host had chosen for the weights.
    """
    name = "manual_cast_dtype"
    # While a model is loaded, its attributes are those of whichever clone was loaded last.
    chosen = model.object_patches_backup.get(name, model.model.manual_cast_dtype)
    return model.object_patches.get(name) or chosen or model.model.get_dtype()


def _architecture(module: nn.Module) -> S2VConfig:
    encoder = module.casual_audio_encoder
    return S2VConfig(
        dim=module.dim,
        ffn_dim=module.ffn_dim,
        num_heads=module.num_heads,
        num_layers=len(module.blocks),
        in_dim=module.in_dim,
        out_dim=module.out_dim,
        cond_dim=module.cond_encoder.in_channels,
        freq_dim=module.freq_dim,
        text_dim=module.text_dim,
        text_len=module.text_len,
        audio_dim=encoder.encoder.conv1_local.conv.in_channels,
        audio_layers=encoder.weights.shape[1],
        num_audio_token=encoder.encoder.num_heads,
        audio_inject_layers=tuple(module.audio_injector.injected_block_id),
        eps=module.eps,
    )


def _replace(root: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, layer)


def _in_float32(layer: nn.Module) -> nn.Module:
    """A host layer that casts its weights to its input's dtype can compute in float32; others stay as they are."""
    cast = getattr(layer, CASTS, None)
    if cast is not None:
        return Float32Layer(layer, cast)
    if layer.weight.dtype != torch.float32:
        logger.warning(
            "LiveAvatar: use ComfyUI's own loader if the lips look wrong: %s casts no weights, so this part of the "
            "model computes in %s instead of float32.",
            type(layer).__name__,
            str(layer.weight.dtype).removeprefix("torch."),
        )
    return layer
