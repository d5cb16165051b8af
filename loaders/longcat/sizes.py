"""Sizes of LongCat's videos: those of the training, of which the nearest in shape is taken."""

from __future__ import annotations

from ...engines.longcat.config import SIZE_MULTIPLE

EXACT = "exact"
AREAS = {"480p": 480 * 832, "720p": 768 * 1280}
"""Pixels of the usual size, by the names of the training."""
CHOICES = (*AREAS, EXACT)
BUCKETS = {
    "480p": (
        (320, 1216), (352, 1120), (384, 1024), (416, 960), (448, 864), (480, 832), (512, 768), (544, 736),
        (576, 672), (608, 640),
    ),
    "720p": (
        (480, 1920), (512, 1792), (544, 1696), (576, 1600), (608, 1504), (672, 1376), (704, 1312), (736, 1248),
        (800, 1152), (832, 1120), (864, 1056), (896, 1024), (928, 992), (960, 960),
    ),
}  # fmt: skip
"""Sizes of the training, height x width, lying; each exists upright too."""


def video_size(choice: str, height: int, width: int) -> tuple[int, int]:
    """Height and width of the video for a picture, or for a wished shape, of ``height`` x ``width``.

    Args:
        choice: one of `CHOICES`; "exact" takes the size as it is.

    Raises:
        ValueError: the exact size is no multiple of 16.
    """
    if choice == EXACT:
        if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE:
            near = [max(1, round(side / SIZE_MULTIPLE)) * SIZE_MULTIPLE for side in (width, height)]
            raise ValueError(
                f"Set width and height to multiples of {SIZE_MULTIPLE}, such as {near[0]}x{near[1]}: "
                f"{width}x{height} is not."
            )
        return height, width
    lying = BUCKETS[choice]
    sizes = {*lying, *((width, height) for height, width in lying)}
    # By their true ratios: the published labels are rounded, and give square pictures 608x640.
    return min(sorted(sizes), key=lambda size: abs(size[0] / size[1] - height / width))
