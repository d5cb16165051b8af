"""What the engine may do to be faster or smaller, as one value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Performance:
    """The choices of a run; the defaults compute in the model's own format with everything on the device.

    Attributes:
        fp8: multiply the transformer's large matrices in float8 (`fp8.quantise_transformer`).
        int8_caches: keep keys and values in 8 bits (`kv_storage.Decoded`).
        attention8: keep keys and values in 8 bits and attend to them as they are (`kv_eight.EightBit`).
        caches_on_cpu: of how many denoising steps the window of keys and values waits in CPU memory.
        blocks_on_cpu: the weights of how many transformer blocks wait in CPU memory (`offload.BlockOffload`).
        fast_decoder: name of a small decoder that stands in for the VAE's (`tiny_decoder.FastDecoder`); empty: none.
        ahead: sample the next block while one is decoded and taken (`pipeline.generate`).
    """

    fp8: bool = False
    int8_caches: bool = False
    attention8: bool = False
    caches_on_cpu: int = 0
    blocks_on_cpu: int = 0
    fast_decoder: str = ""
    ahead: bool = False


RESIDENT = Performance()
"""Everything on the device, in the model's own format."""
