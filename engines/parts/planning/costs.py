"""What a plan asks of an engine."""

from __future__ import annotations

from typing import Protocol

from .performance import Performance


class Costs(Protocol):
    """What an engine needs for one video, by the choices of a run; bytes. Each engine has its own.

    Attributes:
        height, width: of the video, in pixels; multiples of ``size_multiple``.
        steps: denoising steps.
        forwards: those that have a forward pass, and so caches of their own: all, or all but the last.
        layers: transformer blocks, whose weights can wait in CPU memory.
        weights: of the transformer as it is.
        precision: in which it computes as it is, for people.
        streams: whether the model's owner brings weights that do not fit to the GPU layer by layer (ComfyUI does).
        blocks: of the video, each of which goes through all steps; None where its end is not known.
        window_blocks: those that a block sees, itself included.
    """

    height: int
    width: int
    size_multiple: int

    @property
    def blocks(self) -> int | None: ...

    @property
    def window_blocks(self) -> int: ...

    @property
    def steps(self) -> int: ...

    @property
    def forwards(self) -> int: ...

    @property
    def layers(self) -> int: ...

    @property
    def weights(self) -> int: ...

    @property
    def precision(self) -> str: ...

    @property
    def streams(self) -> bool: ...

    def caches(self, performance: Performance, forwards: int | None = None) -> tuple[int, int]:
        """Caches on the GPU, and those that wait in CPU memory, of so many forward passes; None for all."""

    def graphs(self, forwards: int) -> int:
        """How many CUDA graphs so many forward passes are."""

    def fp8_weights(self) -> tuple[int, int]:
        """The transformer with float8 weights, and one of its blocks."""

    def smaller(self, height: int, width: int) -> Costs:
        """The same for another size."""

    def in_steps(self, steps: int) -> Costs:
        """The same with another number of steps."""
