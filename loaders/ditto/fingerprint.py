"""A hash of everything that decides a video of Ditto, by which a later process knows the same video again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ...engines.ditto.pipeline import Source
from ...media.speech import Speech
from ..identity import device_identity, fingerprint, weights_identity
from .host_objects import ManagedDitto
from .speech import listen

FORMAT = 1
"""Raised when a change to the engine lets the same inputs give other frames."""


def run_fingerprint(
    ditto: ManagedDitto,
    source: Source,
    speech: Speech,
    settings: list[Any],
    check_interrupt: Callable[[], None],
) -> str:
    """A hash of a video.

    It covers every value of pictures, sound and settings (numbers, texts and dataclasses of them); a sample of the
    networks; of a speech network in onnxruntime, what it hears in the first frame; the kind of device.
    """
    weights = [weights_identity(network.named_parameters()) for network in ditto.engine.networks]
    pictures = [[picture, torch.from_numpy(matrix)] for picture, matrix in source.pictures]
    drawing = ditto.engine.decoder.fc.weight.dtype
    hearing = None if ditto.hearing is None else weights_identity(ditto.hearing.named_parameters())
    heard = hearing or next(listen(speech, ditto.encode, check_interrupt))[:1]
    return fingerprint(
        FORMAT,
        settings,
        ditto.settings,
        pictures,
        source.character,
        speech.sounds,
        heard,
        weights,
        device_identity(ditto.device, drawing),
    )
