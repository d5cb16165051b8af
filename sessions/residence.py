"""How fast PersonaLive is to run inside ComfyUI, and an engine's stay on the GPU at the speed that was chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch

from ..engines.gpu.graphs import obstacle
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
        raise ValueError(f"The speed '{speed}' needs an NVIDIA GPU; choose '{AUTO}'.")
    if speed == COMPILED:
        require_compiler(device)
    if speed == GRAPHS:
        check_graphs(device, AUTO)


def check_graphs(device: torch.device, otherwise: str) -> None:
    """ValueError, which names the speed to choose ``otherwise``, where CUDA graphs do not work."""
    if not _nvidia(device):
        raise ValueError(f"The speed '{GRAPHS}' needs an NVIDIA GPU; choose '{otherwise}'.")
    if why := obstacle(device):
        raise ValueError(f"CUDA graphs {why}, or choose '{otherwise}'.")


class Stay(ABC):
    """An engine where it computes during one pass; it notices when it has been moved.

    Args:
        place: a number for the place of the networks, which changes when the host has moved them.
        check_interrupt: raises to stop.
    """

    def __init__(self, place: Callable[[], int], check_interrupt: Callable[[], None]):
        self._where, self._check_interrupt = place, check_interrupt
        self._settle()

    def check(self) -> None:
        """To be called before every step: stops when the user asks for it, and comes back to the GPU after another
        node had the engine moved out. Captured graphs of before are given up with their memory."""
        self._check_interrupt()
        if self._where() != self._place:
            self.leave()
            self._settle()

    def _settle(self) -> None:
        self.arrive()
        self._place = self._where()

    @abstractmethod
    def arrive(self) -> None:
        """Bring the networks to where they compute, and make them as fast as was asked for."""

    @abstractmethod
    def leave(self) -> None:
        """Give back what the speed needed; the host may move the weights as soon as the pass is over."""


class Residence(Stay):
    """PersonaLive on the GPU during one pass, at the speed that was chosen."""

    def __init__(
        self,
        personalive: ManagedPersonaLive,
        speed: str,
        height: int,
        width: int,
        check_interrupt: Callable[[], None],
    ):
        self.personalive, self.speed, self.size = personalive, speed, (height, width)
        super().__init__(personalive.place, check_interrupt)

    @property
    def engine(self) -> PersonaLive:
        return self.personalive.engine

    def arrive(self) -> None:
        self.personalive.load(*self.size)
        device = _device()
        own_vae = not isinstance(self.engine.codec, HostCodec)  # the host moves its VAE as it likes
        self._fast = self.speed != PLAIN and _nvidia(device) and own_vae
        if self._fast:
            graphs = not obstacle(device) and (self.speed != AUTO or self.personalive.has_room(*self.size))
            accelerate(self.engine, COMPILE_MODE if self.speed == COMPILED else None, graphs)

    def leave(self) -> None:
        if self._fast:
            plain(self.engine)


def _device() -> torch.device:
    from comfy import model_management

    return model_management.get_torch_device()


def _nvidia(device: torch.device) -> bool:
    return device.type == "cuda" and torch.version.cuda is not None
