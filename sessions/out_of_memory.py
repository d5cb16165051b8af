"""Out-of-memory errors that say what would have fitted."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ..engines.liveavatar.config import SamplingConfig
from ..engines.liveavatar.costs import Model, VideoCosts
from ..engines.parts.planning.advice import explained
from ..engines.parts.planning.plan import Wish
from ..loaders.liveavatar.transformer import compute_dtype, host_config
from .liveavatar import machine_of


def memory_explained(
    model: Any, config: SamplingConfig, height: int, width: int, wish: Wish
) -> AbstractContextManager:
    """For the code that makes a ``width`` x ``height`` video with a host's MODEL; make it before anything is loaded."""
    known = Model(host_config(model), model.model_size(), compute_dtype(model))
    return explained(VideoCosts(known, height, width, config), machine_of(model, wish), wish)
