"""Ditto's networks from its files, as one engine that is ready for inference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from ...engines.ditto.appearance import AppearanceConfig, AppearanceExtractor
from ...engines.ditto.config import MotionModelConfig
from ...engines.ditto.decoder import DecoderConfig, SpadeDecoder
from ...engines.ditto.folding import channels_last, fold
from ...engines.ditto.lmdm import MotionModel
from ...engines.ditto.pipeline import Ditto
from ...engines.ditto.stitching import StitchingNetwork
from ...engines.ditto.warping import DenseMotionConfig, WarpingConfig, WarpingNetwork
from ...engines.parts.face.motion_extractor import MotionExtractor
from ..files import load_state_dict
from ..motion_extractor import load_motion_extractor
from ..sizes import check_layers, fill, shape_of
from .files import MOTION_MODEL, DittoFiles

PREFIX = "module."
"""Before every name in the stitching file, left by the training's parallel wrapper."""
State = Mapping[str, Tensor]


def load_ditto(
    files: DittoFiles, dtype: torch.dtype = torch.float16, device: torch.device | str = "cpu"
) -> Ditto:
    """The engine of a set of files, with all networks on ``device``; see `assemble` for their formats.

    Raises:
        ValueError: a file does not fit; the message names it.
    """
    paths = files.weights
    appearance = _read(paths["appearance_extractor"], appearance_extractor)
    warping = _read(paths["warp_network"], warping_network)
    painter = _read(paths["decoder"], decoder)
    _check_volume(appearance.config, warping.config, paths)
    if painter.config.inputs != warping.config.channels:
        raise ValueError(
            f"Use files of one model: {paths['decoder']} reads {painter.config.inputs} channels, but "
            f"{paths['warp_network']} gives {warping.config.channels}."
        )

    return assemble(
        _read(paths[MOTION_MODEL], motion_model, "model_state_dict"),
        load_motion_extractor(paths["motion_extractor"]),
        appearance,
        warping,
        painter,
        _read(paths["stitch_network"], stitching_network, "retarget_shoulder"),
        dtype,
        device,
    )


def assemble(
    motion_model: MotionModel,
    motion_extractor: MotionExtractor,
    appearance: AppearanceExtractor,
    warping: WarpingNetwork,
    painter: SpadeDecoder,
    stitching: StitchingNetwork,
    dtype: torch.dtype,
    device: torch.device | str,
) -> Ditto:
    """The engine of networks that have their weights, ready for inference.

    Appearance extractor, warping network and decoder get ``dtype``; the motion model, the motion extractor and the
    stitching network stay in float32, as in the reference.
    """

    def drawing(network: nn.Module) -> nn.Module:
        return channels_last(fold(network.eval()).to(device, dtype)).requires_grad_(False)

    def exact(network: nn.Module) -> nn.Module:
        return network.to(device).eval().requires_grad_(False)

    return Ditto(
        exact(motion_model),
        exact(motion_extractor),
        drawing(appearance),
        drawing(warping),
        drawing(painter),
        exact(stitching),
    )


def _read(path: Path, build: Callable[[State, Path], Callable[[], nn.Module]], part: str | None = None):
    """The network of a file in float32, of the sizes that its weights have."""
    state = load_state_dict(path, part=part)
    state = {key.removeprefix(PREFIX): value for key, value in state.items()}
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    return fill(build(state, path), state, str(path), path)


def motion_model(state: State, path: Path) -> Callable[[], MotionModel]:
    """What makes the motion model of these weights."""
    width, condition = shape_of(state, "cond_projection.weight", path)[:2]
    layers = _count(state, "seqTransDecoder.stack.")
    check_layers(path, {"number of layers": layers}, state)
    config = MotionModelConfig(
        motion=shape_of(state, "final_layer.weight", path)[0],
        condition=condition,
        width=width,
        feed_forward=shape_of(state, "cond_encoder.0.linear1.weight", path)[0],
        layers=layers,
    )
    if width % (2 * config.heads):
        raise ValueError(
            f"Download {path} again: a width of {width} cannot be shared by {config.heads} heads."
        )
    return lambda: MotionModel(config)


def appearance_extractor(state: State, path: Path) -> Callable[[], AppearanceExtractor]:
    """What makes the appearance extractor of these weights."""
    features, most = shape_of(state, "second.weight", path)[:2]
    levels, blocks = _count(state, "down_blocks."), _count(state, "resblocks_3d.")
    check_layers(path, {"number of blocks": blocks, "number of down blocks": levels}, state)
    channels = shape_of(state, "resblocks_3d.3dr0.conv1.weight", path)[0]
    config = AppearanceConfig(
        first_channels=shape_of(state, "first.conv.weight", path)[0],
        most_channels=most,
        down_blocks=levels,
        volume_channels=channels,
        volume_depth=features // channels,
        residual_blocks=blocks,
    )
    return lambda: AppearanceExtractor(config)


def warping_network(state: State, path: Path) -> Callable[[], WarpingNetwork]:
    """What makes the warping network of these weights."""
    start = "dense_motion_network."
    compressed, channels = shape_of(state, f"{start}compress.weight", path)[:2]
    blocks = _count(state, f"{start}hourglass.encoder.down_blocks.")
    check_layers(path, {"number of blocks": blocks}, state)
    ends = [
        shape_of(state, f"{start}hourglass.{place}_blocks.{blocks - 1}.conv.weight", path)[0]
        for place in ("encoder.down", "decoder.up")
    ]
    outputs, features = shape_of(state, "third.conv.weight", path)[:2]
    dense = DenseMotionConfig(
        points=shape_of(state, f"{start}mask.weight", path)[0] - 1,
        volume_channels=channels,
        volume_depth=features // channels,
        compressed_channels=compressed,
        first_channels=ends[1],
        most_channels=ends[0],
        blocks=blocks,
    )
    return lambda: WarpingNetwork(WarpingConfig(outputs, dense))


def decoder(state: State, path: Path) -> Callable[[], SpadeDecoder]:
    """What makes the decoder of these weights."""
    middle, inputs = shape_of(state, "fc.weight", path)[:2]
    config = DecoderConfig(
        inputs=inputs,
        middle=middle,
        last=shape_of(state, "conv_img.0.weight", path)[1],
        hidden=shape_of(state, "G_middle_0.norm_0.mlp_shared.0.weight", path)[0],
    )
    return lambda: SpadeDecoder(config)


def stitching_network(state: State, path: Path) -> Callable[[], StitchingNetwork]:
    """What makes the stitching network, which has one size."""
    return StitchingNetwork


def _count(state: State, start: str) -> int:
    """Number of layers whose names begin with ``start``."""
    return len({key[len(start) :].partition(".")[0] for key in state if key.startswith(start)})


def _check_volume(appearance: AppearanceConfig, warping: WarpingConfig, paths: Mapping[str, Path]) -> None:
    motion = warping.dense_motion
    made = appearance.volume_channels, appearance.volume_depth
    if made != (motion.volume_channels, motion.volume_depth):
        raise ValueError(
            f"Use files of one model: {paths['appearance_extractor']} makes volumes of {made[0]} x {made[1]}, but "
            f"{paths['warp_network']} moves {motion.volume_channels} x {motion.volume_depth}."
        )
