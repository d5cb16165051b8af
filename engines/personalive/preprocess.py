"""Pictures on their way into the networks, with the reference's resampling at every place."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..gpu.transfer import send

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def to_pil(image: Tensor | Image.Image) -> Image.Image:
    """A uint8 picture ``[H, W, 3]`` as PIL; PIL pictures pass through."""
    if isinstance(image, Image.Image):
        return image
    if image.dtype != torch.uint8 or image.dim() != 3 or image.shape[-1] != 3:
        raise ValueError(f"A picture is uint8 [H, W, 3], but this is {image.dtype} {list(image.shape)}.")
    return Image.fromarray(image.cpu().numpy())


def to_unit(image: Image.Image) -> Tensor:
    """``[1, 3, H, W]`` in [0, 1]."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)[None].float() / 255


def lanczos(image: Image.Image, height: int, width: int) -> Tensor:
    """Resized without keeping the aspect, ``[1, 3, height, width]`` in [0, 1]."""
    return to_unit(image.resize((width, height), Image.Resampling.LANCZOS))


def clip_pixels(image: Image.Image, size: int = 224, squash: bool = False) -> Tensor:
    """CLIP's input ``[1, 3, size, size]``: short side to ``size`` and centre crop, or squashed."""
    image = image.convert("RGB")
    if squash:
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    else:
        short = min(image.size)
        wide, high = (size if side == short else int(size * side / short) for side in image.size)
        left, top = (wide - size) // 2, (high - size) // 2
        image = image.resize((wide, high), Image.Resampling.BICUBIC)
        image = image.crop((left, top, left + size, top + size))
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in (CLIP_MEAN, CLIP_STD))
    return (to_unit(image) - mean) / std


def resize(images: Tensor, size: int) -> Tensor:
    """Bilinear to ``[n, 3, size, size]``, corners not aligned, no antialiasing (what the live path does)."""
    return F.interpolate(images.float(), (size, size), mode="bilinear", align_corners=False)


def crop_resize(images: Tensor, boxes: Tensor, size: int) -> Tensor:
    """Cut ``boxes`` ``[n, 4]`` (x1, y1, x2, y2) out of ``[n, 3, H, W]`` and resize them to ``[n, 3, size,
    size]``.

    Equals cropping and `resize` picture by picture, without moving the boxes to the CPU.
    """
    boxes = send(boxes, images.device)
    images = images.float()

    def taps(start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        count = (stop - start)[:, None]
        place = (torch.arange(size, device=images.device) + 0.5) * (count / size) - 0.5
        place = place.clamp(min=0)
        low = place.long().minimum(count - 1)
        high = (low + 1).minimum(count - 1)
        return start[:, None] + low, start[:, None] + high, place - low

    n, channels, _, width = images.shape
    low, high, weight = taps(boxes[:, 1], boxes[:, 3])
    rows = [i[:, None, :, None].expand(n, channels, size, width) for i in (low, high)]
    weight = weight[:, None, :, None]
    images = images.gather(2, rows[0]) * (1 - weight) + images.gather(2, rows[1]) * weight
    low, high, weight = taps(boxes[:, 0], boxes[:, 2])
    columns = [i[:, None, None, :].expand(n, channels, size, size) for i in (low, high)]
    weight = weight[:, None, None, :]
    return images.gather(3, columns[0]) * (1 - weight) + images.gather(3, columns[1]) * weight


def to_uint8(images: Tensor) -> Tensor:
    """Frames in [0, 1] as uint8, truncated as the reference does."""
    return (images.clamp(0, 1) * 255).to(torch.uint8)
