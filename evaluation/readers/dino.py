"""Pictures as DINOv2 sees them, by transformers."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ...engines.parts.face.boxes import Box
from ..clip import Piece
from ..tracks import Track

SHORT_SIDE, SIDE = 256, 224
"""The picture's short side, and the square that is cut from its middle, as in the model's own preprocessing."""
KINDS = ("dinov2", "dinov2_with_registers")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SECONDS = 0.5
"""Between two frames that are looked at."""


class Dino:
    """A DINOv2 model from a folder in transformers' layout, such as facebook/dinov2-base."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """FileNotFoundError without the folder, ValueError when it holds no such model."""
        from transformers import AutoModel

        if not (Path(folder) / "config.json").is_file():
            raise FileNotFoundError(f"Download facebook/dinov2-base: there is no model in {folder}.")
        try:
            model = AutoModel.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise ValueError(f"Download {folder} again: DINOv2 cannot be read from it ({error}).") from error
        if model.config.model_type not in KINDS:
            raise ValueError(
                f"Give a DINOv2 folder: {folder} holds a model of the kind {model.config.model_type}."
            )
        self._model, self._device = model.eval().to(device), device

    @torch.inference_mode()
    def embed(self, pictures: Tensor) -> Tensor:
        """Unit vectors ``[F, D]`` of uint8 pictures ``[F, H, W, 3]``."""
        moved = pictures.permute(0, 3, 1, 2).float() / 255
        scale = SHORT_SIDE / min(moved.shape[-2:])
        size = [max(SIDE, round(side * scale)) for side in moved.shape[-2:]]
        moved = F.interpolate(moved, size, mode="bicubic", antialias=True).clamp(0, 1)
        top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
        moved = moved[..., top : top + SIDE, left : left + SIDE]
        moved = (moved - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
        found = self._model(pixel_values=moved.to(self._device)).last_hidden_state[:, 0]
        return F.normalize(found.float().cpu(), dim=1)


class DinoLikeness:
    """Gives the cosine ``[F]`` between frames and a reference ``[H, W, 3]``, two frames a second.

    With a ``box``, both are cut to the face.
    """

    def __init__(self, name: str, dino: Dino, reference: Tensor, box: Box | None = None) -> None:
        self.name, self._dino, self._box, self._next = name, dino, box, 0.0
        self._reference = dino.embed(self._cut(reference[None]))

    def _cut(self, frames: Tensor) -> Tensor:
        if self._box is None:
            return frames
        return frames[:, self._box.y1 : self._box.y2, self._box.x1 : self._box.x2]

    def read(self, piece: Piece) -> Track:
        chosen = []
        for index, time in enumerate(piece.times.tolist()):
            if time >= self._next - 1e-6:
                chosen.append(index)
                self._next += SECONDS
        if not chosen:
            return Track(piece.times[:0], torch.zeros(0))
        found = self._dino.embed(self._cut(piece.frames[chosen]))
        return Track(piece.times[chosen], (found @ self._reference.T)[:, 0])
