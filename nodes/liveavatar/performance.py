"""The node that lets people choose precision and memory themselves."""

from __future__ import annotations

from comfy_api.latest import io

from ...engines.parts.kv.cache import CacheFormat
from ...engines.parts.planning.plan import Wish
from ..schema import Node, schema
from ..types import AvatarPerformance

PRECISION = {"auto": None, "model": False, "fp8": True}
GPUS = {"one": 1, "all": None, **{str(count): count for count in range(2, 9)}}
LAST_STEP = {"forward": False, "skip": True}
GRAPHS = {"auto": None, "on": True, "off": False}
FORMATS = {
    "auto": {
        "auto": tuple(CacheFormat),
        "model": (CacheFormat.MODEL, CacheFormat.INT8),
        "8 bit": (CacheFormat.ATTENTION8,),
    },
    "model": {"auto": (CacheFormat.MODEL,), "model": (CacheFormat.MODEL,), "8 bit": ()},
    "8 bit": {
        "auto": (CacheFormat.INT8,),
        "model": (CacheFormat.INT8,),
        "8 bit": (CacheFormat.ATTENTION8,),
    },
}
"""The formats that the widgets ``caches`` (outer keys) and ``attention`` (inner keys) allow together."""


class LiveAvatarPerformanceOptions(Node):
    """Fixes parts of the sampler's plan."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarPerformanceOptions",
            search_aliases=["avatar memory", "vram", "fp8", "offload", "speed"],
            display_name="LiveAvatar Performance Options",
            description=(
                "Fixes parts of the LiveAvatar Sampler's plan. The plan chooses everything that is left on auto or -1, "
                "within the sampler's 'performance'."
            ),
            inputs=[
                io.Combo.Input(
                    "precision",
                    options=list(PRECISION),
                    tooltip=(
                        "Number format of the transformer's matrix products. model: the one that was loaded. fp8: "
                        "faster and half as large, on NVIDIA GPUs of the Ada generation or newer; the model is "
                        "converted once per session."
                    ),
                ),
                io.Combo.Input(
                    "caches",
                    options=list(FORMATS),
                    tooltip=(
                        "How keys and values of earlier frames are kept: in the model's number format, or in 8 bits, "
                        "which halves their memory."
                    ),
                ),
                io.Combo.Input(
                    "attention",
                    options=list(FORMATS["auto"]),
                    tooltip=(
                        "Number format of the attention to those keys and values. 8 bit: faster, but rounds more than "
                        "any other option. auto: 8 bit with performance 'fast' only."
                    ),
                ),
                io.Int.Input(
                    "caches_in_cpu_memory",
                    default=-1,
                    min=-1,
                    max=50,
                    tooltip=(
                        "Number of denoising steps whose keys and values wait in CPU memory; -1: the plan chooses."
                    ),
                ),
                io.Int.Input(
                    "blocks_in_cpu_memory",
                    default=-1,
                    min=-1,
                    max=100,
                    tooltip=(
                        "Number of transformer blocks (the 14B model has 40) that wait in CPU memory, in fp8; -1: the "
                        "plan chooses."
                    ),
                ),
                io.Combo.Input(
                    "last_step",
                    options=list(LAST_STEP),
                    tooltip=(
                        "The last denoising step hardly moves the picture (by 0.0089 of what it predicts). skip: the "
                        "step before it goes all the way, which saves a quarter of the time and memory of 4 steps."
                    ),
                ),
                io.Combo.Input(
                    "gpus",
                    options=list(GPUS),
                    tooltip=(
                        "How many GPUs of one kind share the denoising steps; each holds a copy of the model. One for "
                        "each step and one for the VAE are the most that help."
                    ),
                ),
                io.Combo.Input(
                    "graphs",
                    options=list(GRAPHS),
                    optional=True,
                    tooltip=(
                        "Lets the GPU repeat each step as a whole (CUDA graphs), so that it does not wait for Python: "
                        "the same frames, some more GPU memory. auto: where it pays, as on several GPUs and at small "
                        "sizes. It needs an NVIDIA GPU, and ComfyUI started with --disable-cuda-malloc."
                    ),
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
        last_step: str,
        gpus: str,
        graphs: str = "auto",
    ) -> io.NodeOutput:
        return io.NodeOutput(
            Wish(
                fp8=PRECISION[precision],
                caches=FORMATS[caches][attention],
                caches_on_cpu=None if caches_in_cpu_memory < 0 else caches_in_cpu_memory,
                blocks_on_cpu=None if blocks_in_cpu_memory < 0 else blocks_in_cpu_memory,
                skip_last_step=LAST_STEP[last_step],
                gpus=GPUS[gpus],
                graphs=GRAPHS[graphs],
            )
        )
