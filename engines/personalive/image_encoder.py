"""The portrait as one token: CLIP's projected embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from PIL import Image
from torch import Tensor

from .preprocess import clip_pixels

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection


class ImageEncoder(Protocol):
    """CLIP for the pipeline."""

    def token(self, image: Image.Image, squash: bool = False) -> Tensor:
        """``[1, 1, projection width]``; ``squash``: stretch the picture to a square, do not crop it."""


class ClipImageEncoder:
    """The stock CLIP vision model with its projection."""

    def __init__(self, model: CLIPVisionModelWithProjection):
        self.model = model

    def token(self, image: Image.Image, squash: bool = False) -> Tensor:
        weight = self.model.visual_projection.weight
        pixels = clip_pixels(image, self.model.config.image_size, squash)
        return self.model(pixels.to(weight.device, weight.dtype)).image_embeds[:, None]
