"""A stand-in, on a CPU, for a ComfyUI that loads weights dynamically (0.29 and newer, on an NVIDIA GPU).

There a model that is "loaded" has only its small weights where it computes. The others are staged: they lie on the CPU,
and one of the host's layers fetches its own, with the LoRAs on them, while it is called; what it has fetched it uses
again. Import this inside of a host's process, before models are loaded.
"""

from __future__ import annotations

import comfy.ops
from comfy.model_patcher import LowVramPatch, ModelPatcher
from torch import Tensor, nn

SMALL = 256
"""Bytes of a layer up to which its weights are brought over at once; 16 KB in the real host."""
COPIES = {"to", "clone", "cpu", "copy_", "__deepcopy__"}
"""What may be done with a staged weight: these give an ordinary tensor."""
LOOKS = {
    "detach",
    "requires_grad_",
    "reshape",
    "numel",
    "element_size",
    "size",
    "dim",
    "__get__",
    "__getitem__",
}
"""These, too; what they give is still staged."""


class Staged(Tensor):
    """A weight that lies on another device than the one that computes."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = function.__name__
        if name not in COPIES | LOOKS:
            raise RuntimeError(f"Expected all tensors to be on the same device: {name} of a staged weight.")
        result = super().__torch_function__(function, types, args, kwargs or {})
        return result.as_subclass(Tensor) if name in COPIES and isinstance(result, Tensor) else result


def cast_bias_weight(layer, input=None, dtype=None, device=None, bias_dtype=None, offloadable=False):
    """ComfyUI's function of this name, for staged layers: what was fetched once is used again, bias included."""
    if not getattr(layer, "staged", False):
        return ordinary(layer, input, dtype, device, bias_dtype, offloadable)
    if input is not None:
        dtype, device = dtype or input.dtype, device or input.device
    if layer.fetched is None:
        layer.fetched = [None, None]
        for i, name in enumerate(("weight", "bias")):
            if (value := getattr(layer, name)) is not None:
                value = value.to(device, copy=True)
                for patch in getattr(layer, f"{name}_patches"):
                    value = patch(value)
                layer.fetched[i] = value
    weight, bias = (None if value is None else value.to(dtype=dtype) for value in layer.fetched)
    return (weight, bias, None) if offloadable else (weight, bias)


ordinary, comfy.ops.cast_bias_weight = comfy.ops.cast_bias_weight, cast_bias_weight


class StagedPatcher(ModelPatcher):
    """Of a module whose weights are staged when it is loaded."""

    def is_dynamic(self) -> bool:
        return True

    def partially_load(self, device_to, extra_memory=0, force_patch_weights=False):
        assert not force_patch_weights
        for path, layer in self.model.named_modules():
            if not hasattr(layer, "comfy_cast_weights") or next(layer.children(), None) is not None:
                continue
            size = sum(parameter.nbytes for parameter in layer.parameters(recurse=False))
            layer.staged, layer.fetched, layer.comfy_cast_weights = size > SMALL, None, True
            for name, value in list(layer.named_parameters(recurse=False)):
                key = f"{path}.{name}"
                patches = [LowVramPatch(key, self.patches)] if key in self.patches else []
                setattr(layer, f"{name}_patches", patches)
                if layer.staged:
                    weight = nn.Parameter(value.data.as_subclass(Staged), requires_grad=False)
                    layer._parameters[name] = weight
                else:
                    assert not patches, "the stand-in patches staged layers only"
        self.model.device = device_to

    def load(self, device_to=None, *_, **__):
        self.partially_load(device_to)

    def loaded_size(self) -> int:
        return 0

    def partially_unload(self, device_to, memory_to_free=0, force_patch_weights=False):
        return 0


def stage(patcher: ModelPatcher) -> StagedPatcher:
    """A patcher like this one, with its LoRAs, for such a host."""
    staged = StagedPatcher(patcher.model, patcher.load_device, patcher.offload_device)
    staged.patches, staged.patches_uuid = patcher.patches, patcher.patches_uuid
    return staged
