"""Small decoders that stand in for Wan 2.1's: from files, and from a VAE object that the host has loaded already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...engines.parts.wan.fast_decoder import CHANNELS, WIDTHS, FastDecoder, TinyDecoder
from ...host.memory import patcher_of
from ..files import check_keys, load_state_dict
from ..identity import weights_identity
from ..liveavatar.folders import SHIPPED, TALKER
from ..sizes import empty

if TYPE_CHECKING:
    from ...engines.parts.wan.vae import WanVAE

PUBLISHED = "taew2_1.safetensors"
FOLDERS = "vae_approx", "vae"
MARK = "taew2_1"
"""Part of the name of every file for Wan 2.1's latents, since the weights do not tell."""
RAW_MARK = "lighttae"
"""Part of the name of files that were trained on raw latents; taew2_1, trained on normalised ones, looks alike."""
TALKER_VAE_WIDTH = 12
WANTED = (
    "put taew2_1.safetensors (23 MB, MIT licence, from github.com/madebyollin/taehv) or lighttaew2_1.safetensors "
    "(Apache-2.0, from huggingface.co/lightx2v/Autoencoders) into ComfyUI's models/vae_approx and reload the page."
)
_SHIPPED_FILE = TALKER / "fast_decoder" / PUBLISHED


@dataclass(frozen=True)
class HostDecoder:
    """A small decoder on the host's memory management.

    Attributes:
        raw: whether it takes raw latents, as in a ComfyUI LATENT.
        patcher: holds the network for the host, which brings it to the device.
    """

    network: TinyDecoder
    name: str
    raw: bool
    patcher: Any

    def over(self, vae: WanVAE) -> FastDecoder:
        """The decoder of latents of ``vae``; it computes where its patcher was brought."""
        return FastDecoder(self.network, self.name, vae if self.raw else None)

    def identity(self) -> list[Any]:
        """Values that tell it from others, for `loaders.liveavatar.fingerprint`."""
        return [*weights_identity(self.network.named_parameters()), self.raw]


def decoder_names() -> list[str]:
    """Files that can be chosen, from the host's folders; the published name where there are none; the shipped one."""
    import folder_paths

    found = {
        name
        for folder in FOLDERS
        for name in folder_paths.get_filename_list(folder)
        if MARK in Path(name).name.lower()
    }
    return [*(sorted(found) or [PUBLISHED]), *([SHIPPED] if _SHIPPED_FILE.is_file() else [])]


def find_decoder(name: str) -> Path:
    """The file of a name from `decoder_names`; FileNotFoundError says which file to put where."""
    import folder_paths

    if name == SHIPPED:
        return _SHIPPED_FILE
    for folder in FOLDERS:
        if path := folder_paths.get_full_path(folder, name):
            return Path(path)
    raise FileNotFoundError(f"There is no fast decoder {name}: {WANTED}")


def load_tiny_decoder(path: str | Path) -> TinyDecoder:
    """The network of a file, in the file's number format; ValueError, naming the file, when it is not one."""
    what = f"the fast decoder {path}"
    network = _fill(_decoder_part(load_state_dict(path), what), what)
    if broken := [name for name, weight in network.named_parameters() if not weight.float().isfinite().all()]:
        raise ValueError(f"{what} is damaged: {broken[0]} holds NaN or infinite values; download it again.")
    return network


def load_in_host(name: str) -> HostDecoder:
    """A decoder from `decoder_names`, ready for the host's memory management."""
    from comfy import model_management

    network = load_tiny_decoder(find_decoder(name))
    device = model_management.vae_device()
    half = next(network.parameters()).dtype == torch.float16
    dtype = model_management.vae_dtype(device, [torch.float16 if half else torch.bfloat16])
    title = "tiny talker" if name == SHIPPED else Path(name).stem
    return _hosted(network.to(dtype), title, RAW_MARK in title.lower(), device)


def decoder_from_host(vae: Any) -> HostDecoder:
    """The decoder in a host's VAE object, with a copy of its weights (see `loaders.wan.vae.HostVAE`); one of ours as it
    is.

    ValueError for every other VAE, and for one that the host takes for HunyuanVideo's: it does so with all files in
    float16, among them taew2_1.
    """
    if isinstance(vae, HostDecoder):
        return vae
    host = getattr(vae, "first_stage_model", None)
    if not isinstance(host, nn.Module):
        raise ValueError(f"The decoder input carries no VAE model; {WANTED}")
    if getattr(host, "latent_format", None) is not None:
        raise ValueError(
            "ComfyUI has loaded the fast decoder as HunyuanVideo's, as it does with every such file in float16; load "
            "it with LiveAvatar Load Fast Decoder instead of Load VAE."
        )
    what = "the decoder input"
    state = {
        name: weight.detach().to("cpu", vae.vae_dtype, copy=True) for name, weight in host.named_parameters()
    }
    network = _fill(_decoder_part(state, what), what)
    return _hosted(network, "lighttaew2_1", True, vae.patcher.load_device)


def _hosted(network: TinyDecoder, name: str, raw: bool, device: torch.device) -> HostDecoder:
    return HostDecoder(network, name, raw, patcher_of(network, device))


def check_fits(decoder: HostDecoder, vae: WanVAE) -> None:
    """ValueError when one of the two is the tiny talker's and the other is not: its latents are its own."""
    if (decoder.network.widths != WIDTHS) != (vae.model.config.base_dim == TALKER_VAE_WIDTH):
        raise ValueError(
            f"The fast decoder {decoder.name} was not made for this VAE: the tiny talker's goes with the tiny talker, "
            "taew2_1 and lighttaew2_1 with Wan 2.1's VAE."
        )


def _decoder_part(state: Mapping[str, Tensor], what: str) -> dict[str, Tensor]:
    first = state.get("decoder.1.weight")
    if first is not None and first.ndim == 4 and first.shape[1] != CHANNELS:
        raise ValueError(f"{what} is made for latents of {first.shape[1]} channels, not Wan 2.1's; {WANTED}")
    if "decoder.conv1.weight" in state or "decoder.conv_in.weight" in state:
        raise ValueError(
            f"{what} is a full VAE; disconnect the sampler's 'decoder' to decode with its 'vae', or {WANTED}"
        )
    return {name: value for name, value in state.items() if not name.startswith("encoder.")}


def _fill(state: Mapping[str, Tensor], what: str) -> TinyDecoder:
    """A network with these tensors as its parameters; its widths come from their shapes."""
    places = ("1", "8", "14", "20")
    found = [state.get(f"decoder.{place}.weight") for place in places]
    widths = [x.shape[0] if x is not None and x.ndim else w for x, w in zip(found, WIDTHS, strict=True)]
    with empty(what, "fast decoder"):
        network = TinyDecoder(tuple(widths))
    check_keys(state, network, what)
    for name, value in state.items():
        owner, _, leaf = name.rpartition(".")
        parameter = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
        setattr(network.get_submodule(owner), leaf, parameter)
    return network.eval()
