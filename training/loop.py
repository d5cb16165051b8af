"""What all training scripts share: a clock, checkpoints that can be resumed, a learning rate, contact sheets."""

from __future__ import annotations

import copy
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.distributed
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

SCALE = ".scale_of_rows"
"""What `keep` adds to a weight's name for its scales."""


class Clock:
    """Stops a run after `seconds`; `progress` is 0..1 of the whole schedule."""

    def __init__(self, seconds: float) -> None:
        self.begin, self.seconds = time.monotonic(), seconds

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begin

    @property
    def progress(self) -> float:
        return min(self.elapsed / self.seconds, 1.0)


def cores() -> int:
    """Cores for each process of one training on this machine."""
    return max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


class Peers:
    """The processes of one training, a GPU each, as `torchrun` starts them; alone without it.

    All have the same weights and clips of their own, and share gradients. `device` is this one's.
    """

    def __init__(self) -> None:
        self.count, self.rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
        self.device = f"cuda:{self.rank}" if torch.cuda.is_available() else "cpu"
        if torch.cuda.is_available():
            torch.cuda.set_device(self.rank)
        if self.count > 1:
            torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    def same(self, model: nn.Module) -> None:
        """Give everybody the first one's weights."""
        if self.count > 1:
            for value in model.state_dict().values():
                torch.distributed.broadcast(value, 0)

    def share(self, model: nn.Module, progress: float) -> float:
        """Average the gradients of all, and their progress, so that all stop after the same step."""
        if self.count == 1:
            return progress
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([*(g.flatten() for g in gradients), gradients[0].new_tensor([progress])])
        torch.distributed.all_reduce(flat)
        flat /= self.count
        *parts, progress = flat.split([*(g.numel() for g in gradients), 1])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))
        return progress.item()

    def close(self) -> None:
        if self.count > 1:
            torch.distributed.destroy_process_group()


class Average:
    """Exponential moving average of a module's parameters."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = [p.detach().clone() for p in model.parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.values, [p.detach() for p in model.parameters()], 1 - decay)

    def of(self, model: nn.Module) -> nn.Module:
        """A copy of the model with the averaged parameters."""
        averaged = copy.deepcopy(model)
        self.copy_to(averaged)
        return averaged

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        for parameter, value in zip(model.parameters(), self.values, strict=True):
            parameter.copy_(value)


def learning_rate(peak: float, step: int, progress: float, warmup: int = 200, floor: float = 0.02) -> float:
    """Linear warm-up over steps, then a cosine over the time that the run has."""
    cosine = 0.5 * (1 + np.cos(np.pi * progress))
    return peak * min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * cosine)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def save(path: Path, model: nn.Module, step: int) -> None:
    """Write a model's weights in float16, with the number of steps it has seen.

    The optimiser's state is not kept: it would be twice the size, and a short warm-up replaces it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {name: value.detach().half().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(state, path, metadata={"format": "pt", "step": str(step)})


def resume(path: Path, model: nn.Module) -> int:
    """Load an earlier run's weights, if there are any, also in the 8 bits of `keep`; returns the number of steps they
    have seen."""
    if not path.is_file():
        return 0
    with safe_open(path, "pt") as file:
        state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        step = int(file.metadata()["step"])
    for name in [name for name in state if name.endswith(SCALE)]:
        state[name.removesuffix(SCALE)] *= state.pop(name)
    model.load_state_dict(state)
    return step


def sheet(path: Path, rows: list[Tensor], quality: int = 88) -> None:
    """A JPEG of rows of frames; each row is [F, 3, H, W] in [-1, 1]."""
    grid = torch.cat([torch.cat(list(row.float().cpu()), dim=2) for row in rows], dim=1)
    levels = ((grid + 1) * 127.5).clamp(0, 255).byte().permute(1, 2, 0).numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels).save(path, quality=quality)
