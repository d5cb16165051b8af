"""The node for people who want to choose precision and memory themselves."""

from __future__ import annotations

from comfy_api.latest import io

from ...engines.parts.planning.plan import Wish
from ..schema import Node, schema
from ..types import AvatarPerformance

PRECISION = {"auto": None, "model": False, "fp8": True}
CACHES = {"auto": None, "model": False, "8 bit": True}
ATTENTION = {"auto": None, "model": False, "8 bit": True}


class LiveAvatarPerformanceOptions(Node):
    """Fixes some of what the sampler's plan would choose."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarPerformanceOptions",
            search_aliases=["avatar memory", "vram", "fp8", "offload", "speed"],
            display_name="LiveAvatar Performance Options",
            description=(
                "Fixes parts of the LiveAvatar Sampler's plan. What is left on auto (or -1) the plan chooses, within "
                "the sampler's 'performance'."
            ),
            inputs=[
                io.Combo.Input(
                    "precision",
                    options=list(PRECISION),
                    tooltip=(
                        "Of the transformer's matrix products. model: as loaded. fp8: faster and half as large; NVIDIA "
                        "GPUs of the Ada generation or newer. The model is converted once per session."
                    ),
                ),
                io.Combo.Input(
                    "caches",
                    options=list(CACHES),
                    tooltip="Keys and values of earlier frames, in the model's precision or in 8 bits.",
                ),
                io.Combo.Input(
                    "attention",
                    options=list(ATTENTION),
                    tooltip=(
                        "To those keys and values. 8 bit: as they are kept, which is faster; it rounds more than the "
                        "rest. auto: 8 bit with performance 'fast' only."
                    ),
                ),
                io.Int.Input(
                    "caches_in_cpu_memory",
                    default=-1,
                    min=-1,
                    max=50,
                    tooltip="Of so many denoising steps they wait in CPU memory; -1: as planned.",
                ),
                io.Int.Input(
                    "blocks_in_cpu_memory",
                    default=-1,
                    min=-1,
                    max=100,
                    tooltip="So many of the transformer's blocks (of 40) wait in CPU memory, in fp8; -1: as planned.",
                ),
            ],
            outputs=[AvatarPerformance.Output(display_name="options")],
        )

    @classmethod
    def execute(
        cls,
        precision: str,
        caches: str,
        attention: str,
        caches_in_cpu_memory: int,
        blocks_in_cpu_memory: int,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            Wish(
                fp8=PRECISION[precision],
                int8_caches=CACHES[caches],
                attention8=ATTENTION[attention],
                caches_on_cpu=None if caches_in_cpu_memory < 0 else caches_in_cpu_memory,
                blocks_on_cpu=None if blocks_in_cpu_memory < 0 else blocks_in_cpu_memory,
            )
        )
