"""The motion extractor of the LivePortrait family, from a file of PersonaLive, Ditto or LivePortrait itself."""

from __future__ import annotations

from pathlib import Path

import torch

from ..engines.parts.face.motion_extractor import ANGLE_BINS, MotionExtractor, MotionExtractorConfig
from .files import load_state_dict
from .sizes import check_layers, empty, fill, only_known, shape_of

STAGES = 4


def load_motion_extractor(path: Path) -> MotionExtractor:
    """The network of a file, in float32 on the CPU; ValueError, naming the file, when it does not fit."""
    state = load_state_dict(path)
    dims = tuple(shape_of(state, f"detector.stages.{i}.0.norm.weight", path)[0] for i in range(STAGES))
    depths = tuple(
        len({key.split(".")[3] for key in state if key.startswith(f"detector.stages.{i}.")})
        for i in range(STAGES)
    )
    check_layers(path, {"number of blocks": sum(depths)}, state)
    points = shape_of(state, "detector.fc_kp.weight", path)[0] // 3
    config = MotionExtractorConfig(depths, dims, points)
    with empty(path, "motion extractor"):
        model = MotionExtractor(config)
    state.setdefault("idx_tensor", torch.arange(ANGLE_BINS))  # only PersonaLive's file has it
    state = {key: value.float() for key, value in only_known(state, model, str(path)).items()}
    return fill(lambda: MotionExtractor(config), state, str(path), path)
