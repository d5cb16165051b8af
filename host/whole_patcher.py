"""What ComfyUI's memory management moves of ours."""

from __future__ import annotations

from typing import Any

from comfy.model_patcher import ModelPatcher


class WholePatcher(ModelPatcher):
    """The host's plain patcher, for a module that is on its device as a whole or not at all.

    The one that stages weights (dynamic loading) needs the host's own layers, which fetch them. So does leaving some
    layers in CPU memory, which the plain one does to modules of any kind when little memory is asked for.
    """

    def partially_unload(self, *_: Any, **__: Any) -> int:
        """No bytes; the host then takes the whole module off the device."""
        return 0
