"""What a video that was gone on with has in common with the same one that nothing disturbed."""

from __future__ import annotations

import numpy as np
from avatar.media.fragments import KEY_SECONDS

NEAR = 2.0
"""Levels of 255: two encodings of a frame differ by less on average,"""
OF_CHANGE = 0.5
"""or, where a video changes a lot, by less than this part of the change from frame to frame."""


def check_gone_on(
    shown: np.ndarray, undisturbed: np.ndarray, cut: int, fps: int = 25, block: int = 12
) -> None:
    """AssertionError unless the frames [F, H, W, 3] are the same, bit for bit, but for a part behind the cut that ends
    with the next key frame that both files have; those are encodings of the same."""
    assert len(shown) == len(undisturbed)
    apart = np.abs(shown.astype(np.int16) - undisturbed).mean(axis=(1, 2, 3))
    change = np.abs(np.diff(undisturbed.astype(np.int16), axis=0)).mean(axis=(1, 2, 3))
    near = max(NEAR, OF_CHANGE * float(np.median(change)))
    assert apart.max() < near, (
        f"frame {apart.argmax()} is another one: {apart.max():.1f} levels, not {near:.1f}"
    )
    anew = np.flatnonzero(apart)
    if len(anew):
        stretch = KEY_SECONDS * fps
        key = (anew[0] // stretch + 1) * stretch + block  # the border of a block lies before it
        assert cut <= anew[0] <= anew[-1] < key, f"cut at {cut}, and others are frames {anew}"
