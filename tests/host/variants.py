"""One workflow that samples the same short scene with several MODELs, to compare their pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from .client import Host
from .workflows import WIDE_CLIP, add, change, only, small

LORA = "tiny_lora_converted.safetensors"  # with alpha keys, as ComfyUI's loader needs them
FRAMES = 12

Output = list[Any]
"""Id of a node and the number of one of its outputs."""


class Variants:
    """The scene of one run, with ``checkpoint`` (MODEL, CLIP, VAE) from our loader, its LoRA merged.

    ``encoder`` is a file for ComfyUI's audio encoder loader.
    """

    def __init__(self, encoder: str) -> None:
        self.workflow = workflow = small()
        change(workflow, "LiveAvatarLoadCheckpoint", **{**WIDE_CLIP, "lora": LORA})
        audio_encoder = self.node("AudioEncoderLoader", audio_encoder_name=encoder)
        change(workflow, "LiveAvatarEncodeSpeech", audio_encoder=audio_encoder)
        del workflow[only(workflow, "AvatarStreamToVideo")]
        self.checkpoint = only(workflow, "LiveAvatarLoadCheckpoint")
        sampler = only(workflow, "LiveAvatarSampler")
        self.settings = {**workflow.pop(sampler)["inputs"], "max_seconds": FRAMES / 25}
        self.vae = self.node("VAELoader", vae_name="tiny_wan_vae.safetensors")
        self.names: list[str] = []

    def node(self, type_: str, **inputs: Any) -> Output:
        """Add a node; its first output."""
        return [add(self.workflow, type_, **inputs), 0]

    def unet(self, name: str = "tiny_s2v.safetensors", weight_dtype: str = "default") -> Output:
        """A MODEL from ComfyUI's own loader."""
        return self.node("UNETLoader", unet_name=name, weight_dtype=weight_dtype)

    def host_lora(self, model: Output, strength: float = 1.0) -> Output:
        """The LoRA, applied by ComfyUI's own node."""
        return self.node("LoraLoaderModelOnly", model=model, lora_name=LORA, strength_model=strength)

    def our_lora(self, model: Output, lora: str = LORA) -> Output:
        """The LoRA, applied by our node."""
        return self.node("LiveAvatarApplyLora", model=model, lora=lora, strength=1.0, download=False)

    def sample(self, name: str, model: Output, vae: Output | None = None) -> None:
        """Add the scene sampled with ``model``; ``vae`` is ComfyUI's own by default."""
        stream = self.node("LiveAvatarSampler", **{**self.settings, "model": model, "vae": vae or self.vae})
        frames = self.node("AvatarStreamToFrames", stream=stream, frames="batch")
        self.node("SaveImage", images=frames, filename_prefix=f"variants/{len(self.names)}")
        self.names.append(name)

    def pictures(self, host: Host) -> dict[str, np.ndarray]:
        """Run everything; frames [F, H, W, 3] by name."""
        files = [file for file in host.files(host.run(self.workflow)) if file.parent.name == "variants"]
        return {
            name: np.stack(
                [np.asarray(Image.open(file)) for file in sorted(files) if file.name.startswith(f"{number}_")]
            )
            for number, name in enumerate(self.names)
        }


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """Mean and largest difference in grey levels of 255."""
    distance = np.abs(one.astype(int) - other)
    return distance.mean(), distance.max()
