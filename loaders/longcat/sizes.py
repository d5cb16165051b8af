"""Sizes of LongCat's videos: those of the training, of which the nearest in shape is taken."""

from __future__ import annotations

from ...engines.longcat.config import SIZE_MULTIPLE

EXACT = "exact"
BUCKETS = {
    "480p": (
        (320, 1216), (352, 1120), (384, 1024), (416, 960), (448, 864), (480, 832), (512, 768), (544, 736),
        (576, 672), (608, 640), (640, 608), (672, 576), (704, 544), (736, 544), (768, 512), (800, 480),
        (832, 480), (896, 448), (960, 416), (992, 384), (1056, 384), (1088, 352), (1184, 320), (1216, 320),
        (1248, 320), (1280, 320),
    ),
    "720p": (
        (480, 1920), (512, 1792), (544, 1696), (576, 1600), (608, 1504), (672, 1376), (704, 1312), (736, 1248),
        (800, 1152), (832, 1120), (864, 1056), (896, 1024), (928, 992), (960, 960), (992, 928), (1024, 896),
        (1056, 864), (1088, 832), (1120, 832), (1152, 800), (1248, 736), (1344, 672), (1376, 672), (1504, 608),
        (1536, 608), (1632, 576), (1664, 544), (1696, 544), (1856, 512), (1888, 480), (1920, 480),
    ),
}  # fmt: skip
"""Sizes of the training, height x width, by their shape."""
CHOICES = (*BUCKETS, EXACT)


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
    # The training's programs compare with ratios that are rounded like this; of two that are as near, the first.
    return min(BUCKETS[choice], key=lambda size: abs(round(size[0] / size[1], 2) - height / width))
