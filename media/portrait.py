"""Sizes the model can generate, and pictures and pose videos brought to such a size."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from .frames import FrameStream
from .room import check_room

MULTIPLE = 64  # both sides of a video are multiples of this
NO_NUMBERS = "The image holds NaN or infinite pixels: the node that made it has failed."
MIN_SIDE = 32  # a smaller portrait shows no face
MOST_PIXELS = 64 << 20
FORMATS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Pillow's names of the formats that a picture may come in, and their endings."""

DRAWN_SIDE, DRAWN_STEP, DRAWN_SHARE = 192, 3 / 255, 0.68
"""A picture of this longer side is drawn if so large a share of its pixels differs by no more from even shading: 0.76
to 0.88 in the pack's drawn examples, at most 0.56 in photographs."""

# Area caps by the names the reference uses. The aspect ratio always follows the picture.
AREAS: dict[str, int] = {
    "720*1280": 720 * 1280,
    "1280*720": 720 * 1280,
    "480*832": 480 * 832,
    "832*480": 480 * 832,
    "704*1280": 704 * 1280,
    "1280*704": 704 * 1280,
    "1024*704": 704 * 1024,
    "704*1024": 704 * 1024,
    "720*400": 720 * 400,
    "704*384": 704 * 384,
    "688*368": 688 * 368,
    "384*256": 384 * 256,
}


def is_drawn(image: torch.Tensor) -> bool:
    """Whether the first picture of [B, H, W, C] with values 0 to 1 has the evenly shaded areas of a drawing."""
    pixels = image[:1, ..., :3].permute(0, 3, 1, 2).float().cpu()
    scale = DRAWN_SIDE / max(pixels.shape[-2:])
    small = torch.nn.functional.interpolate(pixels, scale_factor=min(scale, 1.0), mode="area")
    shares = []
    for line in (small, small.transpose(2, 3)):
        bend = (line[..., 2:] - 2 * line[..., 1:-1] + line[..., :-2]).abs().amax(1)
        shares.append((bend <= DRAWN_STEP).float().mean().item())
    return sum(shares) / 2 >= DRAWN_SHARE


def fit_size(height: int, width: int, area: int) -> tuple[int, int]:
    """The video size (height, width) the reference picks for a picture: multiples of 64, at most ``area``
    pixels, close to the picture's aspect ratio and never scaled up (beyond the rounding)."""
    if height <= 0 or width <= 0 or area < MULTIPLE * MULTIPLE:
        raise ValueError(
            f"No video size fits a {width}x{height} picture in {area} pixels: the area must be at least "
            f"{MULTIPLE * MULTIPLE}."
        )
    if height * width <= area:
        largest, smallest = 1.0, 0.1
    else:
        # The reference's search range, with its 2 where the quadratic formula has a 4.
        a, b, c = height * width, (MULTIPLE - 1) * (height + width), (MULTIPLE - 1) ** 2 - area
        largest = math.sqrt(area / a)
        smallest = (-b + math.sqrt(b**2 - 2 * a * c)) / (2 * a)
    for step in range(100):
        scale = largest - (largest - smallest) * step / 100
        size = _ceil(int(height * scale)), _ceil(int(width * scale))
        if 0 < size[0] * size[1] <= area:
            return size
    aspect = width / height
    wide, high = _floor(int(math.sqrt(area * aspect))), _floor(int(math.sqrt(area / aspect)))
    if wide > width or high > height:
        wide, high = _floor(width), _floor(height)
    if wide == 0 or high == 0:
        raise ValueError(
            f"No video size fits a {width}x{height} picture in {area} pixels: crop the picture to a "
            "squarer shape or choose a larger area."
        )
    return high, wide


def picture_format(data: bytes, name: str) -> str:
    """The format of a picture file in memory as the ending of its name: png, jpg or webp. Only its header is read.

    Raises:
        ValueError: it is none of these, several pictures, or one of too many pixels; in one sentence.
    """
    try:
        with Image.open(io.BytesIO(data), formats=list(FORMATS)) as opened:
            (width, height), kind = opened.size, FORMATS[opened.format]
            pictures = getattr(opened, "n_frames", 1)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"Send {name} as PNG, JPEG or WebP: these bytes are none that can be read."
        ) from error
    if width * height > MOST_PIXELS or pictures != 1:
        raise ValueError(
            f"Send {name} as one picture of at most {MOST_PIXELS >> 20} million pixels: it is {pictures} of "
            f"{width}x{height}."
        )
    return kind


def read_portrait(file: Path | BinaryIO) -> torch.Tensor:
    """A picture file as IMAGE [1, H, W, C] with values 0 to 1, upright as its camera meant it; C is 4 where parts of it
    are transparent.

    Raises:
        ValueError: it cannot be read; in one sentence.
    """
    try:
        with Image.open(file) as opened:
            upright = ImageOps.exif_transpose(opened)
            pixels = np.array(upright.convert("RGBA" if upright.has_transparency_data else "RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError("Choose another portrait: this file is damaged, or no picture.") from error
    return torch.from_numpy(pixels)[None] / 255


def _ceil(value: int) -> int:
    return -(-value // MULTIPLE) * MULTIPLE


def _floor(value: int) -> int:
    return value // MULTIPLE * MULTIPLE


def check_size(height: int, width: int) -> None:
    """Raise ValueError, naming the nearest good size, unless both sides are multiples of 64."""
    if height > 0 and width > 0 and height % MULTIPLE == 0 and width % MULTIPLE == 0:
        return
    near = [max(MULTIPLE, _floor(side + MULTIPLE // 2)) for side in (width, height)]
    raise ValueError(
        f"A video of {width}x{height} pixels cannot be generated: both sides must be multiples of "
        f"{MULTIPLE}, the nearest size is {near[0]}x{near[1]}."
    )


def prepare_portrait(
    image: torch.Tensor, height: int, width: int, fit: Literal["cover", "reference"] = "cover"
) -> torch.Tensor:
    """One picture brought to a size: IMAGE float [1, H, W, C] in 0..1 -> float32 [1, height, width, 3].

    ``cover`` resizes (Lanczos) and crops the middle, so that the picture always fills the frame.
    ``reference`` does what the LiveAvatar reference does (bilinear on 8-bit pixels, short side to short side,
    black borders where the crop is larger). Grey pictures become RGB; transparency is laid over white.

    Raises:
        ValueError: it is a batch, below 32 pixels a side, or holds NaN, or the size cannot be generated.
    """
    check_size(height, width)
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4):
        raise ValueError(
            f"A portrait must be an image [1, height, width, 1, 3 or 4], not {list(image.shape)}."
        )
    if image.shape[0] != 1:
        raise ValueError(
            f"One portrait is needed, but the image is a batch of {image.shape[0]}: pick one of them."
        )
    if min(image.shape[1:3]) < MIN_SIDE:
        raise ValueError(
            f"The portrait has only {image.shape[2]}x{image.shape[1]} pixels: use one with at least {MIN_SIDE} "
            "a side."
        )
    resize = {"cover": _cover, "reference": _reference}[fit]
    return _through_pil(image, height, width, resize)


def resize_frames(
    frames: torch.Tensor | FrameStream, height: int, width: int, chosen: Sequence[int] | None = None
) -> torch.Tensor:
    """A clip such as a pose video brought to height x width, each frame resized to fill it and cropped in the
    middle: IMAGE float [F, H, W, C] in 0..1 -> float32 [F, height, width, 3].

    ``chosen`` are the frames to take, in order; None takes all. A stream of frames is read one at a time.
    """
    check_size(height, width)
    if frames.ndim != 4 or frames.shape[-1] not in (1, 3, 4) or 0 in frames.shape:
        raise ValueError(
            f"A clip must be images [frames, height, width, 1, 3 or 4], not {list(frames.shape)}."
        )
    return _through_pil(frames, height, width, _cover, chosen)


def fill(image: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """One picture that fills height x width, resized and cropped in the middle: IMAGE [1, H, W, C] in 0..1 -> float32
    [1, height, width, 3]. ValueError for a batch, or NaN."""
    if len(image) != 1:
        raise ValueError(f"Pick one picture: this is a batch of {len(image)}.")
    return _through_pil(image, height, width, _cover)


def colours(images: torch.Tensor) -> torch.Tensor:
    """IMAGE [F, H, W, 1, 3 or 4] -> its float32 colours [F, H, W, 3], without transparency, on the CPU.

    Raises:
        ValueError: the shape is another, or pixels are NaN or infinite.
    """
    if images.ndim != 4 or images.shape[-1] not in (1, 3, 4) or 0 in images.shape:
        raise ValueError(
            f"Pictures must be images [pictures, height, width, 1, 3 or 4], not {list(images.shape)}."
        )
    images = images[..., :3].float().cpu()
    if not images.isfinite().all():
        raise ValueError(NO_NUMBERS)
    return images.expand(-1, -1, -1, 3)


def over_white(images: torch.Tensor) -> torch.Tensor:
    """Pictures [..., C] in 0..1 with their transparency, if they have any, laid over white."""
    if images.shape[-1] != 4:
        return images
    colour, alpha = images[..., :3], images[..., 3:]
    return colour * alpha + (1 - alpha)


def _through_pil(
    images: torch.Tensor | FrameStream,
    height: int,
    width: int,
    resize: Callable[[Image.Image, int, int], Image.Image],
    chosen: Sequence[int] | None = None,
) -> torch.Tensor:
    chosen = range(len(images)) if chosen is None else chosen
    needed = len(chosen) * height * width * 3 * 4
    check_room(
        needed, f"{len(chosen):,} frames of {width}x{height}", "Use a shorter clip, or a smaller video"
    )
    out = torch.empty(len(chosen), height, width, 3)
    for index, number in enumerate(chosen):
        pixels = np.asarray(resize(_to_pil(images[number]), height, width), dtype=np.uint8)
        out[index] = torch.from_numpy(pixels.copy()) / 255
    return out


def _to_pil(image: torch.Tensor) -> Image.Image:
    """[H, W, 1, 3 or 4] in 0..1 as an 8-bit RGB picture."""
    image = image.detach().float().cpu()
    if not torch.isfinite(image).all():
        raise ValueError(NO_NUMBERS)
    image = over_white(image.clamp(0, 1))
    return Image.fromarray((image * 255).round().to(torch.uint8).expand(-1, -1, 3).numpy())


def _cover(picture: Image.Image, height: int, width: int) -> Image.Image:
    scale = max(height / picture.height, width / picture.width)
    left = (picture.width - width / scale) / 2
    top = (picture.height - height / scale) / 2
    box = (
        max(left, 0.0),
        max(top, 0.0),
        min(left + width / scale, float(picture.width)),
        min(top + height / scale, float(picture.height)),
    )
    return picture.resize((width, height), Image.Resampling.LANCZOS, box=box)


def _reference(picture: Image.Image, height: int, width: int) -> Image.Image:
    short, target = min(picture.size), min(height, width)
    if short != target:
        long = int(target * max(picture.size) / short)
        size = (target, long) if picture.width <= picture.height else (long, target)
        picture = picture.resize(size, Image.Resampling.BILINEAR)
    missing = max(width - picture.width, 0), max(height - picture.height, 0)
    padded = Image.new("RGB", (picture.width + missing[0], picture.height + missing[1]))
    padded.paste(picture, (missing[0] // 2, missing[1] // 2))
    left, top = round((padded.width - width) / 2), round((padded.height - height) / 2)
    return padded.crop((left, top, left + width, top + height))


def resample_fps(frames: int, source_fps: float, fps: float = 25) -> list[int]:
    """Indices of the source's ``frames`` that make up a clip at ``fps`` and the same speed.

    Each is the source's frame in the middle of the clip's frame.
    """
    if frames <= 0 or source_fps <= 0 or fps <= 0:
        raise ValueError(f"A clip of {frames} frames at {source_fps:g} fps cannot be brought to {fps:g} fps.")
    ratio = Fraction(source_fps).limit_denominator(1001) / Fraction(fps).limit_denominator(1001)
    count = max(1, round(frames / ratio))
    return [min(frames - 1, math.floor((index + Fraction(1, 2)) * ratio)) for index in range(count)]
