"""Out-of-memory errors that say what would have fitted."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from ..liveavatar.advice import explained
from ..liveavatar.config import SamplingConfig
from ..liveavatar.costs import Model, VideoCosts
from ..liveavatar.plan import Wish
from ..loaders.s2v import compute_dtype, host_config
from .loading import machine_of


def memory_explained(
    model: Any, config: SamplingConfig, height: int, width: int, wish: Wish
) -> AbstractContextManager:
    """For the code that makes a ``width`` x ``height`` video with a host's MODEL; make it before anything is loaded."""
    known = Model(host_config(model), model.model_size(), compute_dtype(model))
    return explained(VideoCosts(known, height, width, config), machine_of(model, wish), wish)
