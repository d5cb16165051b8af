"""Wan 2.1's VAE from a weight file, or from a VAE object that the host has loaded already."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from ...host.memory import bring, patcher_of
from ..files import check_keys, load_state_dict
from ..sizes import empty

if TYPE_CHECKING:
    from diffusers import AutoencoderKLWan

    from ...engines.parts.wan.vae import WanVAE

PUBLISHED_WIDTH = 96  # channels next to the pixels
WANTED = "use Wan 2.1's VAE (Wan2.1_VAE.pth or wan_2.1_vae.safetensors)."

# Names of the original checkpoint -> names in AutoencoderKLWan. A decoder stage is four entries of one flat
# list: three residual blocks, then the up-sampling (absent in the last stage).
_PLACES = {
    r"conv1": "quant_conv",
    r"conv2": "post_quant_conv",
    r"(encoder|decoder)\.conv1": r"\1.conv_in",
    r"(encoder|decoder)\.head\.0": r"\1.norm_out",
    r"(encoder|decoder)\.head\.2": r"\1.conv_out",
    r"(encoder|decoder)\.middle\.0": r"\1.mid_block.resnets.0",
    r"(encoder|decoder)\.middle\.1": r"\1.mid_block.attentions.0",
    r"(encoder|decoder)\.middle\.2": r"\1.mid_block.resnets.1",
    r"encoder\.downsamples\.(\d+)": r"encoder.down_blocks.\1",
}
_PARTS = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}
_STAGE = 4


def convert_wan_vae_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the original Wan 2.1 VAE's tensors to AutoencoderKLWan's names; the tensors stay the same
    objects.

    A state that has diffusers' names already passes unchanged. ValueError says what other kind of VAE it is,
    or which names are unknown.
    """
    _refuse_other_kinds(state)
    if "decoder.conv_in.weight" in state:
        return dict(state)
    renamed = {key: _rename(key) for key in state}
    unknown = [key for key, name in renamed.items() if name is None]
    if unknown:
        raise ValueError(f"This VAE has unknown weights ({', '.join(unknown[:3])}); {WANTED}")
    return {name: state[key] for key, name in renamed.items()}


def load_vae(
    path: str | Path, dtype: torch.dtype = torch.bfloat16, device: str | torch.device = "cpu"
) -> AutoencoderKLWan:
    """Wan 2.1's VAE of any width from a .pth or .safetensors file with original or diffusers' names.

    ValueError, naming the file, for damaged files and other kinds of VAE; FileNotFoundError when it is
    missing.
    """
    state = load_state_dict(path)
    try:
        state = convert_wan_vae_keys(state)
        model = _empty_model(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    check_keys(state, model, f"the VAE file {path}")
    model.load_state_dict({key: value.to(device, dtype) for key, value in state.items()}, assign=True)
    return model.eval().requires_grad_(False)


@dataclass(frozen=True)
class HostVAE:
    """The engine's VAE in place of ComfyUI's VAE object, with a copy of its weights, on the host's memory management.

    The host's own module cannot serve. Its layers keep their past in another way, and where ComfyUI loads weights
    dynamically, they lie on the CPU until one of the host's layers is called, which ours are not.

    Attributes:
        vae: the engine's VAE; on its device after `load`, or after its patcher was brought there with others.
        patcher: holds the VAE for the host, which always moves it as a whole.
    """

    vae: WanVAE
    patcher: Any

    def load(self) -> WanVAE:
        """The VAE on its computing device."""
        bring([self.patcher])
        return self.vae


class OwnVAE:
    """A VAE without a host, in the place of a `HostVAE`."""

    patcher = None

    def __init__(self, vae: WanVAE, device: str | torch.device) -> None:
        self.vae, self.device = vae, torch.device(device)

    def load(self) -> WanVAE:
        """The VAE on its computing device; nobody else's models are moved."""
        self.vae.model.to(self.device)
        return self.vae


def is_small(vae: WanVAE) -> bool:
    """Whether this is a narrow VAE like the tiny talker's, which has learnt drawn faces only."""
    return vae.model.config.base_dim < PUBLISHED_WIDTH


_vaes: WeakKeyDictionary[nn.Module, HostVAE] = WeakKeyDictionary()
"""Kept by the host's module, so that a VAE is converted once and stays on the GPU between two runs."""


def vae_from_host(vae: Any) -> HostVAE:
    """Our VAE for ComfyUI's VAE object, in the host's number format; ValueError for any other than Wan 2.1's."""
    host = getattr(vae, "first_stage_model", None)
    if not isinstance(host, nn.Module):
        raise ValueError(f"The VAE input carries no VAE model; {WANTED}")
    found = _vaes.get(host)
    if found is None or found.patcher.load_device != vae.patcher.load_device:
        found = _vaes[host] = _copied(vae, host)
    return found


def _copied(vae: Any, host: nn.Module) -> HostVAE:
    from ...engines.parts.wan.vae import WanVAE

    parameters = convert_wan_vae_keys(dict(host.named_parameters()))
    model = _empty_model(parameters)
    check_keys(parameters, model, "the VAE input")
    state = {
        name: parameter.detach().to("cpu", vae.vae_dtype, copy=True) for name, parameter in parameters.items()
    }
    model.load_state_dict(state, assign=True)
    model.eval().requires_grad_(False)
    patcher = patcher_of(model, vae.patcher.load_device)
    return HostVAE(WanVAE(model), patcher)


def _rename(key: str) -> str | None:
    module, _, leaf = key.rpartition(".")
    if match := re.fullmatch(r"decoder\.upsamples\.(\d+)\.(.+)", module):
        stage, position = divmod(int(match[1]), _STAGE)
        kind = "upsamplers.0" if position == _STAGE - 1 else f"resnets.{position}"
        return f"decoder.up_blocks.{stage}.{kind}.{_PARTS.get(match[2], match[2])}.{leaf}"
    for place, name in _PLACES.items():
        if match := re.fullmatch(rf"{place}(?:\.(?P<part>.+))?", module):
            part = match["part"]
            tail = f".{_PARTS.get(part, part)}" if part else ""
            return f"{match.expand(name)}{tail}.{leaf}"
    return None


def _refuse_other_kinds(state: Mapping[str, Tensor]) -> None:
    mixer = state.get("conv2.weight", state.get("post_quant_conv.weight"))
    if mixer is not None and mixer.ndim == 5 and mixer.shape[0] != 16:
        raise ValueError(f"This is Wan 2.2's VAE with {mixer.shape[0]} latent channels; {WANTED}")
    if mixer is not None and mixer.ndim == 5 and _width(state, "decoder") and _width(state, "encoder"):
        return
    if any(
        key.startswith(("decoder.mid.block_1.", "decoder.up_blocks.0.resnets.0.norm1.w")) for key in state
    ):
        raise ValueError(f"This is the VAE of an image model such as Stable Diffusion or Flux; {WANTED}")
    if any(key.startswith(("taesd_decoder.", "decoder.22.")) for key in state):
        raise ValueError(
            f"This is a tiny preview VAE, which only decodes (LiveAvatar Sampler's 'decoder'); {WANTED}"
        )
    raise ValueError(f"This is no Wan VAE; {WANTED}")


def _width(state: Mapping[str, Tensor], side: str) -> int | None:
    """Channels next to the pixels: the first convolution's outputs, or the last norm's."""
    names = {"encoder": ("conv1.weight", "conv_in.weight"), "decoder": ("head.0.gamma", "norm_out.gamma")}
    for name in names[side]:
        if (tensor := state.get(f"{side}.{name}")) is not None and tensor.ndim:
            return tensor.shape[0]
    return None


def _empty_model(state: Mapping[str, Tensor]) -> AutoencoderKLWan:
    from diffusers import AutoencoderKLWan

    with empty("the VAE", "VAE"):
        return AutoencoderKLWan(base_dim=_width(state, "encoder"), decoder_base_dim=_width(state, "decoder"))
