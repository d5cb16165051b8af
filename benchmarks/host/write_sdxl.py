"""Writes a random checkpoint of SDXL in the layout of its single file; runs with a ComfyUI's modules.

    cd ComfyUI; PYTHONPATH=.:PACK python PACK/benchmarks/host/write_sdxl.py FILE [--tiny]

Names and sizes are those of the host's own modules. ComfyUI knows SDXL by its sizes, so ``--tiny`` writes a Stable
Diffusion 1 with a U-Net of one level.
"""

from __future__ import annotations

import sys

import torch
from comfy.cli_args import args
from safetensors.torch import save_file

args.cpu = not torch.cuda.is_available()  # before the host looks for a device

import comfy.ops  # noqa: E402
from comfy import supported_models  # noqa: E402
from comfy.ldm.models.autoencoder import AutoencoderKL  # noqa: E402
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel  # noqa: E402
from comfy.sd1_clip import SD1ClipModel  # noqa: E402
from comfy.sdxl_clip import SDXLClipModel  # noqa: E402

from tools.tiny_checkpoint import weights  # noqa: E402

COMMON = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "use_spatial_transformer": True,
}
SDXL = {
    "num_classes": "sequential",
    "adm_in_channels": 2816,
    "num_res_blocks": [2, 2, 2],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "channel_mult": [1, 2, 4],
    "use_linear_in_transformer": True,
    "context_dim": 2048,
    "num_head_channels": 64,
}
SMALL = {
    "num_res_blocks": [1],
    "transformer_depth": [1],
    "transformer_depth_output": [1, 1],
    "transformer_depth_middle": 1,
    "channel_mult": [1],
    "context_dim": 768,
    "num_heads": 8,
}
VAE = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128}
VAE |= {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}


def main() -> None:
    path, *options = sys.argv[1:]
    tiny = "--tiny" in options
    kind, unet, clip = (
        (supported_models.SD15, SMALL, SD1ClipModel) if tiny else (supported_models.SDXL, SDXL, SDXLClipModel)
    )
    operations = comfy.ops.disable_weight_init
    with torch.device("meta"):
        parts = {
            "unet": UNetModel(**COMMON, **unet, dtype=torch.float16, operations=operations),
            "clip": clip(device="meta", dtype=torch.float16),
            "vae": AutoencoderKL(ddconfig=VAE, embed_dim=4),
        }
    config, state = kind(unet), {}
    for name, module in parts.items():
        shapes = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        drawn = weights(shapes, torch.float16)
        state |= getattr(config, f"process_{name}_state_dict_for_saving")(drawn)
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, path)


if __name__ == "__main__":
    main()
