"""A MODEL of ComfyUI, described once, and its layers in the engine's transformer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...engines.liveavatar.config import FLOAT32_PARTS, S2VConfig
from ...engines.liveavatar.transformer import S2VTransformer
from ...engines.parts.precision import CastLayer
from ..identity import looked_at, tensors_of_patch, weights_identity

logger = logging.getLogger(__name__)

CASTS = "forward_comfy_cast_weights"
"""The method of ComfyUI's layers that casts their weights to the dtype of the input."""
CHOSEN = "manual_cast_dtype"
"""The patch with which ComfyUI's ModelComputeDtype and `load_host_model` name a format."""


@dataclass(frozen=True)
class HostModel:
    """What a MODEL of ComfyUI is, from whichever loader, with the LoRAs on it; `HostSource` places it.

    Attributes:
        patcher: the MODEL.
        float16: why it computes in float16, which the model was not trained in; empty where it does not.
    """

    patcher: Any
    architecture: S2VConfig
    bytes: int
    dtype: torch.dtype
    device: torch.device
    streams: bool = True
    float16: str = ""

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
        dtype, float16 = _format(model)
        size, device = model.model_size(), model.load_device
        return cls(model, _architecture(module), size, dtype, device, float16=float16)

    @property
    def host_dtype(self) -> torch.dtype:
        """The number format in which the host would compute."""
        return _host_dtype(self.patcher)

    @property
    def module(self) -> nn.Module:
        """The host's S2V module."""
        return self.patcher.model.diffusion_model

    def adopt(self, dtype: torch.dtype | None = None) -> S2VTransformer:
        """The engine's transformer over the layers of the host's module, computing in ``dtype`` or else in that of the
        video; no weight is copied.

        The host's leaf layers take the places of ours, so LoRAs, fp8 and GGUF weights, partial off-loading and the
        host's memory management go on working. They are called, never read: where weights are loaded dynamically, one
        appears only while its layer is called. Call this after the host has loaded the model: parameters that belong to
        no leaf layer are taken over as they are then.
        """
        dtype = dtype or self.dtype
        as_the_host = dtype == self.host_dtype
        with torch.device("meta"):
            engine = S2VTransformer(self.architecture, dtype)
        try:
            for path, module in list(engine.named_modules()):
                own = dict(module.named_parameters(recurse=False))
                if not own:
                    continue
                theirs = self.module.get_submodule(path)
                if next(module.children(), None) is None and "weight" in own:
                    if path.startswith(FLOAT32_PARTS):
                        theirs = _in_float32(theirs)
                    elif not as_the_host:
                        theirs = _in_format(theirs, dtype)
                    _replace(engine, path, theirs)
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


def _format(model: Any) -> tuple[torch.dtype, str]:
    """The number format in which a MODEL's video is computed, and why that is float16 if it is.

    The model was trained in bfloat16, whose range is larger, and ComfyUI prefers float16 where a GPU has both.
    """
    from comfy import model_management
    from comfy.cli_args import args

    own = _host_dtype(model)
    if own != torch.float16:
        return own, ""
    if model.object_patches.get(CHOSEN) == own or args.fp16_unet or model_management.PRIORITIZE_FP16:
        return own, "as asked for"
    if not model_management.should_use_bf16(model.load_device):
        return own, "as this device computes in no bf16"
    if not all(map(_can_cast, model.model.diffusion_model.modules())):
        return own, "as this loader's layers cast no weights; ComfyUI's --bf16-unet may help"
    return torch.bfloat16, ""


def _host_dtype(model: Any) -> torch.dtype:
    """The number format in which the host computes with a MODEL, whatever its weights are stored in, loaded or not.

    That of the host's ModelComputeDtype counts; its "default" is what the host had chosen for the weights.
    """
    # While a model is loaded, its attributes are those of whichever clone was loaded last.
    chosen = model.object_patches_backup.get(CHOSEN, model.model.manual_cast_dtype)
    return model.object_patches.get(CHOSEN) or chosen or model.model.get_dtype()


def _can_cast(layer: nn.Module) -> bool:
    """Whether a layer of the host's can compute in another format than the float16 of its weights."""
    weight = getattr(layer, "weight", None)
    return hasattr(layer, CASTS) or not isinstance(weight, Tensor) or weight.dtype != torch.float16


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


def _in_format(layer: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A host layer that computes in ``dtype`` instead of in the host's format; as it is where it follows its input."""
    cast = getattr(layer, CASTS, None)
    if cast is None or isinstance(layer, nn.Embedding) or layer.weight.dtype == torch.float32:
        return layer
    return CastLayer(layer, cast, dtype)


def _in_float32(layer: nn.Module) -> nn.Module:
    """A host layer that casts its weights to its input's dtype can compute in float32; others stay as they are."""
    cast = getattr(layer, CASTS, None)
    if cast is not None:
        return CastLayer(layer, cast, torch.float32)
    if layer.weight.dtype != torch.float32:
        logger.warning(
            "LiveAvatar: use ComfyUI's own loader if the lips look wrong: %s casts no weights, so this part of the "
            "model computes in %s instead of float32.",
            type(layer).__name__,
            str(layer.weight.dtype).removeprefix("torch."),
        )
    return layer
