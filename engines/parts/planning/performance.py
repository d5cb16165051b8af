"""What the engine may do to be faster or smaller, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from ..kv.cache import CacheFormat


@dataclass(frozen=True)
class Performance:
    """The choices of a run; the defaults compute in the model's own format with everything on the device.

    Attributes:
        fp8: multiply the transformer's large matrices in float8 (`fp8_blocks.quantise_transformer`).
        caches: format in which keys and values are kept.
        caches_on_cpu: number of denoising steps whose window of keys and values waits in CPU memory.
        blocks_on_cpu: number of transformer blocks whose weights wait in CPU memory (`offload.BlockOffload`).
        fast_decoder: name of a small decoder that stands in for the VAE's (`fast_decoder.FastDecoder`); empty: none.
        graphs: replay denoising steps as CUDA graphs (`captured.CapturedSteps`), whose weights should not be moved.
        ahead: sample the next block while one is decoded and taken (`pipeline.generate`).
    """

    fp8: bool = False
    caches: CacheFormat = CacheFormat.MODEL
    caches_on_cpu: int = 0
    blocks_on_cpu: int = 0
    fast_decoder: str = ""
    ahead: bool = False
    graphs: bool = False


RESIDENT = Performance()
"""Everything on the device, in the model's own format."""
