"""Where denoising steps as CUDA graphs pay, and the memory that they take.

A graph is asked for by one call, a step without it by some 1300. So graphs pay where Python needs as long to ask for
steps as the GPUs to do them: on several GPUs, whose threads share Python's lock, and at small sizes.
"""

from __future__ import annotations

from ..kv.cache import CacheFormat
from .costs import Costs
from .performance import Performance
from .sharing import DECODING, DECODING_FAST, Way

ASKING_MS = 60.0
"""To ask for a step of the 14B model took Python 45 ms on one machine and 75 on the others."""
OWN_NS_PER_PIXEL, FP8_NS_PER_PIXEL, EIGHT_BIT_NS_PER_PIXEL = 758.0, 547.0, 462.0
"""To do it took an H200 205 ms at 704x384 with `quality`, 148 with `auto`, 125 with `fast`."""
WORTH = 0.7
"""Part of the busiest GPU's time from which on asking counts. On two H200 at 704x384 it was 0.47 with `quality` and
0.65 with `auto`, where graphs brought nothing, and 0.77 with `fast`, where they brought 7 to 22 %, while one of them
decoded alone; since they take turns it is 0.52, 0.72 and 0.85, and calls were not measured with turns. On one with
`fast` it was 0.43 at 704x384, where they brought nothing, and 1.2 at 384x256: 173 ms per block instead of 406."""
WINDOWS = 5
"""Lengths of the window that a video needs to pay for the captures, which take the second of them. On one H200 with
`fast` a block that captures took 666 ms instead of 570 at 704x384, and 311 instead of 173 at 384x256."""
BYTES_PER_PIXEL = 8_000
"""Memory that a step works in, which graphs have for themselves. On two H200 at 704x384 they held 0 to 2 GB more,
on one with `fast` nothing more there and 0.6 GB at 384x256; 0.11 and 0.19 GB more were in use."""
BYTES_PER_GRAPH = 4_000_000
"""What the driver keeps of one, about 3 kB for each of its kernels; estimated."""


def pays(costs: Costs, performance: Performance, way: Way) -> bool:
    """Whether graphs make a video faster whose steps are shared in this way."""
    if costs.blocks is not None and costs.blocks < WINDOWS * costs.window_blocks:
        return False
    busiest = way.busiest(DECODING_FAST if performance.fast_decoder else DECODING)
    if not performance.fp8:
        pace = OWN_NS_PER_PIXEL
    else:
        pace = EIGHT_BIT_NS_PER_PIXEL if performance.caches is CacheFormat.ATTENTION8 else FP8_NS_PER_PIXEL
    doing_ms = busiest * pace * costs.height * costs.width / 1e6
    return costs.forwards * ASKING_MS >= WORTH * doing_ms


def graph_bytes(costs: Costs, forwards: int) -> int:
    """GPU memory that the graphs of so many forward passes take."""
    return BYTES_PER_PIXEL * costs.height * costs.width + costs.graphs(forwards) * BYTES_PER_GRAPH
