"""Pictures as LongCat sees them: their pixels in the size of the video."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...media.frames import FrameStream
from ...media.portrait import MIN_SIDE, colours


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


def single_picture(image: Tensor) -> Tensor:
    """The one picture of an IMAGE as uint8 [H, W, 3]; ValueError for a batch, a tiny picture, or one that holds NaN."""
    if len(image) != 1:
        raise ValueError(f"Pick one picture: the image is a batch of {len(image)}.")
    if min(image.shape[1:3]) < MIN_SIDE:
        raise ValueError(
            f"Use a picture of at least {MIN_SIDE} pixels a side: this one has {image.shape[2]}x{image.shape[1]}."
        )
    return _pixels(image)


def fit_video(frames: Tensor | FrameStream, height: int, width: int, seconds: float, fps: float) -> Tensor:
    """The last ``seconds`` of a video's frames in another size, uint8 [frames, height, width, 3]; see `fit_picture`."""
    first = max(0, len(frames) - max(1, round(seconds * fps)))
    fitted = []
    for index in range(first, len(frames)):
        pixels = fit_picture(_pixels(frames[index][None]), height, width)[0].permute(1, 2, 0)
        fitted.append(((pixels + 1) * 127.5).round().to(torch.uint8))
    return torch.stack(fitted)


def _pixels(image: Tensor) -> Tensor:
    """The first picture of an IMAGE as uint8 [H, W, 3]."""
    return (colours(image)[0].clamp(0, 1) * 255).round().to(torch.uint8)
