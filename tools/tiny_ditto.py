"""Writes a random, untrained Ditto checkpoint in the published file layout, small enough for a CPU.

    python -m tools.tiny_ditto OUTPUT_DIR

``OUTPUT_DIR`` gets ``ditto_pytorch/models/*.pth`` and ``ditto_cfg/*.pkl`` with the key names, wrappers and prefixes of
the real files and every layer of them; only the widths are small. The frames that it makes are noise with structure,
pasted into the picture: visible and varying, never a face. The speech network, an ONNX graph, is not among them.
"""

from __future__ import annotations

import argparse
import pickle
from dataclasses import dataclass
from pathlib import Path

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
import numpy as np
import torch
from avatar.engines.ditto.appearance import AppearanceConfig, AppearanceExtractor
from avatar.engines.ditto.config import MotionModelConfig
from avatar.engines.ditto.decoder import DecoderConfig, SpadeDecoder
from avatar.engines.ditto.lmdm import MotionModel
from avatar.engines.ditto.stitching import StitchingNetwork
from avatar.engines.ditto.warping import DenseMotionConfig, WarpingConfig, WarpingNetwork
from avatar.engines.parts.face.motion_extractor import MotionExtractor, MotionExtractorConfig
from avatar.loaders.ditto.files import MODELS, MOTION_MODEL, SETTINGS, SETTINGS_FILE
from PIL import Image, ImageDraw
from torch import nn

POWER_ITERATIONS = 8
SKY, SKIN = (70, 90, 140), (224, 172, 130)


@dataclass(frozen=True)
class Sizes:
    """Of the networks."""

    appearance: AppearanceConfig
    warping: WarpingConfig
    decoder: DecoderConfig
    motion_model: MotionModelConfig
    extractor: MotionExtractorConfig


FULL = Sizes(
    AppearanceConfig(), WarpingConfig(), DecoderConfig(), MotionModelConfig(), MotionExtractorConfig()
)
"""As published."""
TINY = Sizes(
    AppearanceConfig(8, 32, 2, volume_channels=8, volume_depth=4, residual_blocks=2),
    WarpingConfig(16, DenseMotionConfig(21, 8, 4, 2, first_channels=4, most_channels=24, blocks=3)),
    DecoderConfig(inputs=16, middle=32, last=8, hidden=16),
    MotionModelConfig(width=64, feed_forward=96, layers=2),
    MotionExtractorConfig((1, 1, 2, 1), (16, 24, 32, 48)),
)


def write_tiny_ditto(folder: Path, seed: int = 0, sizes: Sizes = TINY) -> Path:
    """Write the whole tree under ``folder`` (about 5 MB if it is tiny) and return it; the same seed writes the same
    weights."""
    torch.manual_seed(seed)
    models = folder / MODELS
    models.mkdir(parents=True, exist_ok=True)
    extractor = MotionExtractor(sizes.extractor)
    aim(extractor)
    heads = extractor.state_dict()
    heads.pop("idx_tensor")  # only PersonaLive's file has it
    stitching = {f"module.{key}": value for key, value in StitchingNetwork().state_dict().items()}
    files = {
        MOTION_MODEL: {"model_state_dict": MotionModel(sizes.motion_model).state_dict()},
        "appearance_extractor": AppearanceExtractor(sizes.appearance).state_dict(),
        "motion_extractor": heads,
        "warp_network": WarpingNetwork(sizes.warping).state_dict(),
        "decoder": drawn(SpadeDecoder(sizes.decoder)).state_dict(),
        "stitch_network": {"retarget_shoulder": stitching},
    }
    for name, state in files.items():
        torch.save(state, models / f"{name}.pth")
    settings = folder / SETTINGS
    settings.mkdir(parents=True, exist_ok=True)
    (settings / SETTINGS_FILE).write_bytes(pickle.dumps(published_settings(seed), protocol=4))
    return folder


def photograph(*faces: tuple[int, int, int], size: tuple[int, int]) -> Image.Image:
    """What the finder of `tiny_ditto_graphs` takes for faces (x, y, radius) before the sky; all in pixels."""
    picture = Image.new("RGB", size, SKY)
    for x, y, radius in faces:
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), fill=SKIN)
    return picture


def aim(extractor: MotionExtractor) -> None:
    """Untrained head poses land anywhere; these look ahead, with keypoints spread like a face's."""
    detector = extractor.detector
    with torch.no_grad():
        for name in ("pitch", "yaw", "roll", "t", "scale", "kp", "exp"):
            detector.get_submodule(f"fc_{name}").weight.mul_(0.1)
        for name in ("pitch", "yaw", "roll"):
            # 32.5 bins of 3 degrees are 0 degrees
            detector.get_submodule(f"fc_{name}").bias.copy_(-((torch.arange(66) - 32.5) ** 2) / 20)
        detector.fc_scale.bias.fill_(1.2)
        detector.fc_t.bias.zero_()
        detector.fc_exp.bias.zero_()
        spread = torch.linspace(-1, 1, 21)
        points = torch.stack([0.3 * (7 * spread).sin(), 0.4 * (5 * spread).cos(), 0.1 * spread], -1)
        detector.fc_kp.bias.copy_(points.flatten())


def published_settings(seed: int = 0) -> dict:
    """Settings in the published layout, with random numbers of the right shapes in them."""
    random = np.random.default_rng(seed)

    def numbers(*shape: int, scale: float = 0.02) -> np.ndarray:
        return (random.standard_normal(shape) * scale).astype(np.float32)

    emotions = np.full((600, 8), 0.001, dtype=np.float32)
    emotions[:, 4] = 0.993
    bounds = np.zeros((4, 265), dtype=np.float32)
    bounds[0], bounds[1] = -20, 20
    head = -((np.arange(66, dtype=np.float32) - 32.5) ** 2)[None] / 20
    motion = {
        "scale": np.full((1, 1), 1.2, dtype=np.float32),
        **{name: head + numbers(1, 66) for name in ("pitch", "yaw", "roll")},
        "t": numbers(1, 3),
        "exp": numbers(1, 63),
        "kp": numbers(1, 63, scale=0.3),
    }
    character = {
        "sc": motion["kp"][0],
        "eye_open_lst": [np.full((1, 2), 0.9, dtype=np.float32)],
        "eye_ball_lst": [numbers(1, 6)],
        "x_s_info_lst": [motion],
    }
    return {
        "base_cfg": {"decoder_cfg": {"model_path": "models/decoder.pth", "device": "cuda"}},
        "audio2motion_cfg": {"motion_feat_dim": 265, "audio_feat_dim": 1103, "seq_frames": 80},
        "default_kwargs": {
            "emo": emotions,
            "delta_eye_arr": numbers(15, 63),
            "v_min_max_for_clip": bounds,
            "ch_info": character,
            "sampling_timesteps": 50,
            "overlap_v2": 10,
        },
    }


@torch.no_grad()
def drawn(decoder: SpadeDecoder) -> SpadeDecoder:
    """The decoder with random weights where it has none yet, and with the vectors of spectral norms that belong to
    them: others give infinite weights."""
    for layer in decoder.modules():
        if hasattr(layer, "weight_u"):
            rows = layer.weight_orig.normal_(0, 1).flatten(1)
            if layer.bias is not None:
                layer.bias.zero_()
            u = torch.randn(len(rows))
            for _ in range(POWER_ITERATIONS):
                v = nn.functional.normalize(rows.T @ u, dim=0)
                u = nn.functional.normalize(rows @ v, dim=0)
            layer.weight_u.copy_(u)
            layer.weight_v.copy_(v)
    return decoder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the checkpoint is written")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(write_tiny_ditto(arguments.folder, arguments.seed))


if __name__ == "__main__":
    main()
