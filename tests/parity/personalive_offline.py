"""The original's offline pipelines, for comparison with it only; they differ from the live path and have
faults.

Face crops are given instead of found, pictures are resampled by PIL, and the streaming pipeline tests the
newest chunk for a keyframe but stores the oldest frame, without end once four expressions are known.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from avatar.engines.parts.face.keypoints import Pose
from avatar.engines.parts.face.motion_extractor import IMAGE_SIZE
from avatar.engines.personalive.config import FACE_SIZE
from avatar.engines.personalive.motion import Motion
from avatar.engines.personalive.pipeline import PersonaLive, Portrait, Stream
from avatar.engines.personalive.preprocess import lanczos
from PIL import Image
from torch import Tensor

FIRST_CHECK = 9
FULL_BANK = 4
FACE_MARGIN = 1.1


@torch.inference_mode()
def offline_portrait(
    engine: PersonaLive, image: Image.Image, face: Image.Image, height: int, width: int
) -> Portrait:
    """A portrait from a picture and its ready-made face crop; CLIP sees the picture squashed to a square."""
    pixels = lanczos(image, height, width).to(engine.device) * 2 - 1
    pose = Pose(*engine.extract_pose(lanczos(image, IMAGE_SIZE, IMAGE_SIZE).to(engine.device)))
    token = engine.image_encoder.token(image, squash=True)
    return Portrait(engine.codec.encode(pixels), token, pose, _tokens(engine, [face]))


@torch.inference_mode()
def offline_motion(
    engine: PersonaLive, frames: Iterable[Image.Image], faces: Iterable[Image.Image]
) -> Motion:
    """Motion of driving frames and their ready-made face crops."""
    images = torch.cat([lanczos(frame, IMAGE_SIZE, IMAGE_SIZE) for frame in frames])
    return Motion(Pose(*engine.extract_pose(images.to(engine.device))), _tokens(engine, faces))


def _tokens(engine: PersonaLive, faces: Iterable[Image.Image]) -> Tensor:
    crops = torch.cat([lanczos(face, FACE_SIZE, FACE_SIZE) for face in faces])
    return engine.encode_motion(crops.to(engine.device) * 2 - 1)


class OfflineStream(Stream):
    """The streaming pipeline's choice of keyframes."""

    _flag = False

    def _is_keyframe(self) -> bool:
        if self.count >= FIRST_CHECK and len(self.memory.bank) < FULL_BANK:
            self._flag = self.memory.accept(self.window.motion[-self.config.chunk :][:1])
        return self._flag


class OfflineBatch(Stream):
    """The batch pipeline's choice of keyframes."""

    def _is_keyframe(self) -> bool:
        if self.count < FIRST_CHECK or len(self.memory.bank) >= FULL_BANK:
            return False
        return self.memory.accept(self.window.motion[:1])


def landmark_box(landmarks: Tensor, height: int, width: int) -> tuple[list[int], list[float]]:
    """Boxes around face landmarks ``[n, 2]`` (fractions of width and height): the exact one in whole pixels,
    and the enlarged square around it, clipped to the picture and therefore not always square."""
    pixels = (landmarks.double() * torch.tensor([width, height], dtype=torch.float64)).trunc()
    (x1, y1), (x2, y2) = pixels.amin(0).tolist(), pixels.amax(0).tolist()
    half = max(x2 - x1, y2 - y1) * FACE_MARGIN / 2
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    square = [
        max(cx - half, 0),
        max(cy - half, 0),
        min(cx + half, width - 1),
        min(cy + half, height - 1),
    ]
    return [int(v) for v in (x1, y1, x2, y2)], square
