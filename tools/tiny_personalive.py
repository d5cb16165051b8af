"""Writes a random, untrained PersonaLive checkpoint in the published file layout, small enough for a CPU.

    python -m tools.tiny_personalive OUTPUT_DIR

``OUTPUT_DIR`` gets ``personalive/*.pth``, ``sd-image-variations-diffusers/``, ``sd-vae-ft-mse/`` and
``taesd/`` with the key names of the real files and every layer of them; only the widths are small. The frames
it makes are noise with structure: visible and varying, never a face.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
import torch
from avatar.engines.parts.face.motion_extractor import MotionExtractor, MotionExtractorConfig
from avatar.engines.personalive.config import MotionEncoderConfig, PoseGuiderConfig, UNetConfig
from avatar.engines.personalive.denoising_unet import DenoisingUNet
from avatar.engines.personalive.motion_encoder import MotionEncoder
from avatar.engines.personalive.pose_guider import PoseGuider
from avatar.engines.personalive.reference_unet import ReferenceUNet
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

WIDTHS = (32, 32, 64, 64)
TOKEN_WIDTH = 24
UNET = UNetConfig(block_out_channels=WIDTHS, cross_attention_dim=TOKEN_WIDTH)


def write_tiny_personalive(folder: Path, seed: int = 0) -> Path:
    """Write the whole tree under ``folder`` (about 40 MB) and return it; the same seed writes the same
    weights."""
    torch.manual_seed(seed)
    weights = folder / "personalive"
    weights.mkdir(parents=True, exist_ok=True)
    denoising = DenoisingUNet(UNET).state_dict()
    temporal = {key: value for key, value in denoising.items() if "temporal_modules" in key}
    extractor = MotionExtractor(MotionExtractorConfig((1, 1, 2, 1), (16, 24, 32, 48)))
    _aim(extractor)
    files = {
        "denoising_unet": {key: value for key, value in denoising.items() if key not in temporal},
        "temporal_module": temporal,
        "reference_unet": ReferenceUNet(UNET).unet.state_dict(),
        "motion_encoder": MotionEncoder(MotionEncoderConfig(head_width=16)).state_dict(),
        "motion_extractor": extractor.state_dict(),
        "pose_guider": PoseGuider(PoseGuiderConfig(out_channels=WIDTHS[0])).state_dict(),
    }
    for name, state in files.items():
        torch.save(_half(state), weights / f"{name}.pth")

    variations = folder / "sd-image-variations-diffusers"
    base = UNet2DConditionModel(**UNET.diffusers(), sample_size=16)
    _write_model(variations / "unet", base, json.loads(base.to_json_string()), "diffusion_pytorch_model.bin")
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            patch_size=32,
            image_size=224,
            projection_dim=TOKEN_WIDTH,
        )
    )
    _write_model(variations / "image_encoder", clip, clip.config.to_dict(), "pytorch_model.bin")
    vae = AutoencoderKL(
        block_out_channels=(16, 16, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
    )
    vae_config = json.loads(vae.to_json_string())
    _write_model(folder / "sd-vae-ft-mse", vae, vae_config, "diffusion_pytorch_model.bin")
    tiny = AutoencoderTiny(encoder_block_out_channels=(8,) * 4, decoder_block_out_channels=(8,) * 4)
    _write_model(folder / "taesd", tiny, json.loads(tiny.to_json_string()), "diffusion_pytorch_model.bin")
    return folder


def _aim(extractor: MotionExtractor) -> None:
    """Untrained head poses land anywhere; these look ahead, with keypoints spread like a face's."""
    detector = extractor.detector
    with torch.no_grad():
        for name in ("pitch", "yaw", "roll", "t", "scale", "kp"):
            detector.get_submodule(f"fc_{name}").weight.mul_(0.3)
        for name in ("pitch", "yaw", "roll"):
            # 32.5 bins of 3 degrees are 0 degrees
            detector.get_submodule(f"fc_{name}").bias.copy_(-((torch.arange(66) - 32.5) ** 2) / 20)
        detector.fc_scale.bias.fill_(1.0)
        detector.fc_t.bias.zero_()
        spread = torch.linspace(-1, 1, detector.fc_kp.out_features // 3)
        points = torch.stack([0.3 * (7 * spread).sin(), 0.4 * (5 * spread).cos(), 0.1 * spread], -1)
        detector.fc_kp.bias.copy_(points.flatten())


def _half(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Float tensors in half precision, as small as they get."""
    return {k: v.half().clone() if v.is_floating_point() else v.clone() for k, v in state.items()}


def _write_model(folder: Path, model: nn.Module, config: dict, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(_half(model.state_dict()), folder / name)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the checkpoint is written")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(write_tiny_personalive(arguments.folder, arguments.seed))


if __name__ == "__main__":
    main()
