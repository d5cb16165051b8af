"""A picture as LongCat sees it: the size of the video, chosen by its shape, and its pixels in that size."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def fit_picture(picture: Tensor, height: int, width: int) -> Tensor:
    """A uint8 picture [H, W, 3] made to cover the video's size and cropped to its middle: float32 [1, 3, height, width]
    in -1..1."""
    source_height, source_width = picture.shape[:2]
    # The free side by whole numbers, as the model's own program does it.
    if width * source_height > height * source_width:
        size = width, source_height * width // source_width
    else:
        size = source_width * height // source_height, height
    image = Image.fromarray(picture.numpy()).resize(size, resample=Image.Resampling.LANCZOS)
    canvas = Image.new("RGB", (width, height))
    canvas.paste(image, (width // 2 - size[0] // 2, height // 2 - size[1] // 2))
    pixels = torch.from_numpy(np.array(canvas)).float() / 255
    return (pixels * 2 - 1).permute(2, 0, 1)[None]
