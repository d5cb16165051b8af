"""Which of LongCat's blocks wait in CPU memory, so that a video fits: decided before anything large is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..gpu.offload import BUFFERS
from ..parts.planning.advice import OTHERWISE, SPARE
from ..parts.planning.plan import RESERVE, Machine, sum_text
from .config import SIZE_MULTIPLE, LongCatConfig, SamplingConfig

WORKSPACE_BYTES_PER_PIXEL = 30_000
"""Room besides weights and kept tokens: hidden states of a whole segment, and the VAE. An estimate from the sizes of
tensors, not a measured figure."""
KEPT_FORMAT = 2
"""Bytes of a kept key's or value's number, on a GPU; half of it where attention is in 8 bits."""


@dataclass(frozen=True)
class Weights:
    """Sizes of a transformer in bytes: one of its blocks, and all that is no block."""

    block: int
    rest: int


@dataclass(frozen=True)
class Video:
    """What decides the memory of a video.

    Attributes:
        blocks_on_cpu: blocks that wait in CPU memory; None: as few as have to.
        attention8: latents attend in 8 bits.
    """

    architecture: LongCatConfig
    weights: Weights
    height: int
    width: int
    sampling: SamplingConfig
    blocks_on_cpu: int | None = None
    attention8: bool = False

    @property
    def kept(self) -> int:
        """Bytes of the keys and values of a continuation's clean latents, the reference included; in 8 bits with one
        layer's noisy ones."""
        tokens = (self.height // SIZE_MULTIPLE) * (self.width // SIZE_MULTIPLE)
        clean = 1 + self.sampling.overlap_latents
        layer = 2 * tokens * self.architecture.hidden_size * KEPT_FORMAT
        kept = self.architecture.depth * clean * layer
        return (kept + self.sampling.latents * layer) // 2 if self.attention8 else kept


@dataclass(frozen=True)
class Plan:
    """What is going to be done, and the memory that it takes in bytes.

    Attributes:
        blocks_on_cpu: blocks that wait in CPU memory and travel to the GPU while others compute.
        weights, kept, workspace: on the device.
        cpu: memory that waiting blocks take, locked for the GPU.
    """

    blocks_on_cpu: int
    weights: int
    kept: int
    workspace: int
    cpu: int
    total: int

    @property
    def needed(self) -> int:
        """The device's memory at its peak."""
        return self.weights + self.kept + self.workspace

    @property
    def text(self) -> str:
        """One line for people."""
        waiting = f"{self.blocks_on_cpu} blocks in CPU memory" if self.blocks_on_cpu else "everything loaded"
        line = f"{waiting}: {sum_text((self.weights, self.kept, self.workspace), self.total)}"
        return line + (f", and {self.cpu / 1e9:.1f} GB of CPU memory" if self.cpu else "")


def make_plan(video: Video, machine: Machine) -> Plan:
    """The plan with the fewest waiting blocks that fits in what is free.

    Raises:
        ValueError: more blocks shall wait than there are, or on a device that CPU memory does not help.
        MemoryError: nothing fits.
    """
    layers, wished = video.architecture.depth, video.blocks_on_cpu
    if wished is not None and wished > layers:
        raise ValueError(f"Set blocks_on_cpu to at most {layers}, or to -1: the model has no more blocks.")
    if wished and not machine.gpu:
        raise ValueError("Set blocks_on_cpu to 0 or -1: blocks in CPU memory help a GPU only.")
    if not machine.gpu:
        return _measured(video, machine, 0)  # what does not fit there is swapped out rather than missing
    counts = range(layers + 1) if wished is None else [wished]
    plans = [_measured(video, machine, count) for count in counts]
    limit = machine.free - RESERVE * machine.total
    for plan in plans:
        if plan.needed <= limit and plan.cpu <= machine.free_cpu:
            return plan
    least = plans[-1]
    raise MemoryError(
        f"Choose a smaller size, or close other programs: a {video.width}x{video.height} video needs at least "
        f"{least.needed / 1e9:.1f} GB of GPU memory and {least.cpu / 1e9:.1f} GB of CPU memory; "
        f"{machine.free / 1e9:.1f} of {machine.total / 1e9:.1f} GB and {machine.free_cpu / 1e9:.1f} GB are free."
    )


def advice(video: Video, machine: Machine) -> str:
    """One sentence for a video for which the memory did not suffice."""
    planned, spare = make_plan(video, machine), replace(machine, free=int(SPARE * machine.free))
    fits = []
    for count in range(planned.blocks_on_cpu + 1, video.architecture.depth + 1):
        if _fits(replace(video, blocks_on_cpu=count), spare):
            fits.append(f"blocks_on_cpu {count}")
            break
    for width in range(video.width - SIZE_MULTIPLE, 0, -SIZE_MULTIPLE):
        height = max(1, round(video.height * width / video.width / SIZE_MULTIPLE)) * SIZE_MULTIPLE
        if _fits(replace(video, width=width, height=height), spare):
            fits.append(f"{width}x{height}")
            break
    return (
        f"The GPU's memory ran out: {video.width}x{video.height} was planned with {planned.needed / 1e9:.1f} of the "
        f"{machine.free / 1e9:.1f} GB that were free, and needed more; what should fit: "
        f"{' or '.join(fits) or OTHERWISE}."
    )


def _fits(video: Video, machine: Machine) -> bool:
    try:
        make_plan(video, machine)
    except (MemoryError, ValueError):
        return False
    return True


def _measured(video: Video, machine: Machine, waiting: int) -> Plan:
    sizes = video.weights
    loaded = video.architecture.depth - waiting + min(BUFFERS, waiting)
    return Plan(
        blocks_on_cpu=waiting,
        weights=sizes.rest + loaded * sizes.block,
        kept=video.kept,
        workspace=WORKSPACE_BYTES_PER_PIXEL * video.height * video.width if machine.gpu else 0,
        cpu=waiting * sizes.block,
        total=machine.total,
    )
