"""How fast PersonaLive is to run inside ComfyUI, and the engine's stay on the GPU at that speed."""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..engines.gpu.graphs import can_capture
from ..engines.gpu.triton_support import require_compiler
from ..engines.personalive.pipeline import PersonaLive
from ..engines.personalive.runtime import accelerate, plain
from ..loaders.personalive.host_objects import HostCodec, ManagedPersonaLive

AUTO, PLAIN, GRAPHS, COMPILED = CHOICES = ("auto", "plain", "CUDA graphs", "compiled")
COMPILE_MODE = "default"  # of torch.compile


def check_speed(speed: str, personalive: ManagedPersonaLive) -> None:
    """An error in one sentence where a speed that was asked for cannot be had."""
    if speed in (AUTO, PLAIN):
        return
    if isinstance(personalive.engine.codec, HostCodec):
        raise ValueError(f"The speed '{speed}' needs the checkpoint's own VAE; disconnect the host's.")
    device = _device()
    if not _nvidia(device):
        raise ValueError(f"The speed '{speed}' needs an NVIDIA GPU; choose 'auto'.")
    if speed == COMPILED:
        require_compiler(device)
    if speed == GRAPHS and not can_capture(device):
        raise ValueError(
            "CUDA graphs do not work with CUDA's asynchronous allocator; start ComfyUI with --disable-cuda-malloc, or "
            "choose 'auto'."
        )


class Residence:
    """The engine on the GPU during one pass, at the speed that was chosen; it notices when it has been moved."""

    def __init__(
        self,
        personalive: ManagedPersonaLive,
        speed: str,
        height: int,
        width: int,
        check_interrupt: Callable[[], None],
    ):
        self.personalive, self.speed, self.size = personalive, speed, (height, width)
        self._check_interrupt = check_interrupt
        self._settle()

    @property
    def engine(self) -> PersonaLive:
        return self.personalive.engine

    def check(self) -> None:
        """To be called before every step: stops when the user asks for it, and comes back to the GPU after another
        node had the engine moved out. Captured graphs would read where the weights no longer are."""
        self._check_interrupt()
        if self.personalive.place() != self._place:
            self.leave()
            self._settle()

    def leave(self) -> None:
        """Give back what the speed needed; the host may move the weights as soon as the pass is over."""
        if self._fast:
            plain(self.engine)

    def _settle(self) -> None:
        self.personalive.load(*self.size)
        device = _device()
        own_vae = not isinstance(self.engine.codec, HostCodec)  # the host moves its VAE as it likes
        self._fast = self.speed != PLAIN and _nvidia(device) and own_vae
        if self._fast:
            graphs = can_capture(device) and (self.speed != AUTO or self.personalive.has_room(*self.size))
            accelerate(self.engine, COMPILE_MODE if self.speed == COMPILED else None, graphs)
        self._place = self.personalive.place()


def _device() -> torch.device:
    from comfy import model_management

    return model_management.get_torch_device()


def _nvidia(device: torch.device) -> bool:
    return device.type == "cuda" and torch.version.cuda is not None
