"""Face boxes: what counts as one, and ways to find them, all replaceable and none required.

By default the model's own keypoints give the boxes (:func:`.keypoints.face_boxes`), which needs nothing else.
A finder is for what keypoints cannot do: cut a head out of a larger picture, and notice that there is no
face.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

SMALLEST_FACE = 2  # pixels per side; smaller boxes cannot be resized to anything
DETECTION_SIDE = 640  # larger pictures are searched at this size
HEAD_SCALE = 2.3  # a square this much larger than the face holds the head, hair and shoulders
HEAD_RISE = 0.125  # and reaches this part of the face's height further up than down
HAAR_FACE = "haarcascade_frontalface_default.xml"
YUNET_FILE = "face_detection_yunet_2023mar.onnx"


class FaceNotFoundError(ValueError):
    """No usable face in a picture; ``index`` is its place in the batch that was looked at."""

    def __init__(self, index: int, name: str):
        super().__init__(
            f"No face was found in {name}; crop it to the head, give face boxes or leave it out."
        )
        self.index = index


class Box(NamedTuple):
    """A rectangle in pixels; x2 and y2 are outside."""

    x1: int
    y1: int
    x2: int
    y2: int


class FaceFinder(Protocol):
    """Finds the faces of one picture."""

    def find(self, image: np.ndarray) -> list[Box]:
        """Boxes in a uint8 RGB picture ``[H, W, 3]``, the largest first; empty when there is no face."""


class YuNetFinder:
    """OpenCV's neural face detector, in every OpenCV since 4.5.4; its 230 KB model is a file of its own."""

    def __init__(self, model: Path, confidence: float = 0.6):
        """FileNotFoundError without the model file, ImportError without OpenCV."""
        if not model.is_file():
            raise FileNotFoundError(
                f"There is no face detector {model}; put {YUNET_FILE} (opencv_zoo) there."
            )
        self._detector = _opencv().FaceDetectorYN.create(str(model), "", (320, 320), confidence)

    def find(self, image: np.ndarray) -> list[Box]:
        small, scale = _shrink(image)
        self._detector.setInputSize((small.shape[1], small.shape[0]))
        _, faces = self._detector.detect(np.ascontiguousarray(small[..., ::-1]))
        return _boxes([] if faces is None else faces[:, :4], scale, image)


class HaarFinder:
    """OpenCV 4's classic detector of frontal faces; its model is part of the wheel (gone in OpenCV 5)."""

    def __init__(self) -> None:
        """ImportError where OpenCV is absent or has no such detector."""
        cv2 = _opencv()
        path = Path(cv2.data.haarcascades) / HAAR_FACE
        if not hasattr(cv2, "CascadeClassifier") or not path.is_file():
            raise ImportError(
                f"OpenCV {cv2.__version__} carries no face detector; put {YUNET_FILE} (from opencv_zoo) into "
                "models/personalive, or give face masks."
            )
        self._detector = cv2.CascadeClassifier(str(path))

    def find(self, image: np.ndarray) -> list[Box]:
        small, scale = _shrink(image)
        grey = small.mean(-1).astype(np.uint8)
        least = max(24, min(grey.shape) // 8)
        return _boxes(self._detector.detectMultiScale(grey, 1.1, 5, minSize=(least, least)), scale, image)


def find_face(finder: FaceFinder, image: np.ndarray, name: str) -> Box:
    """The largest face; FaceNotFoundError names the picture where there is none."""
    faces = finder.find(image)
    if not faces:
        raise FaceNotFoundError(0, name)
    return faces[0]


def check_boxes(boxes: Tensor, names: Sequence[str]) -> None:
    """FaceNotFoundError for the first of ``[n, 4]`` boxes that encloses nothing."""
    sides = (boxes[:, 2:] - boxes[:, :2]).amin(1).tolist()
    for index, side in enumerate(sides):
        if side < SMALLEST_FACE:
            raise FaceNotFoundError(index, names[index])


def centre_square(height: int, width: int) -> Box:
    """The largest square in the middle of a picture, as the reference cuts webcam frames."""
    side = min(height, width)
    left, top = (width - side) // 2, (height - side) // 2
    return Box(left, top, left + side, top + side)


def head_square(face: Box, height: int, width: int, scale: float = HEAD_SCALE) -> Box:
    """A square around the head of a face, moved (and only if it must, shrunk) to lie in the picture."""
    side = round(min(max(face.x2 - face.x1, face.y2 - face.y1) * scale, height, width))
    left = (face.x1 + face.x2 - side) / 2
    top = (face.y1 + face.y2 - side) / 2 - HEAD_RISE * (face.y2 - face.y1)
    left, top = round(min(max(left, 0), width - side)), round(min(max(top, 0), height - side))
    return Box(left, top, left + side, top + side)


def mask_boxes(masks: Tensor) -> Tensor:
    """Boxes ``[n, 4]`` around what is painted (above one half) in masks ``[n, H, W]``; zeros where nothing
    is."""
    boxes = torch.zeros(len(masks), 4, dtype=torch.long)
    for i, mask in enumerate(masks > 0.5):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if len(rows):
            boxes[i] = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return boxes


def _opencv():
    try:
        import cv2
    except ImportError:
        raise ImportError(
            "Finding faces needs OpenCV: install opencv-python-headless, or crop the pictures yourself."
        ) from None
    return cv2


def _shrink(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture with its long side at most DETECTION_SIDE, and how much larger the original is."""
    scale = max(1.0, max(image.shape[:2]) / DETECTION_SIDE)
    if scale == 1.0:
        return image, scale
    size = round(image.shape[1] / scale), round(image.shape[0] / scale)
    cv2 = _opencv()
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), scale


def _boxes(faces: Sequence, scale: float, image: np.ndarray) -> list[Box]:
    """Boxes from x, y, width, height at the search's scale, clipped to the picture, the largest first."""
    height, width = image.shape[:2]
    found = []
    for x, y, w, h in faces:
        x1, y1, x2, y2 = (round(float(v) * scale) for v in (x, y, x + w, y + h))
        box = Box(max(0, x1), max(0, y1), min(width, x2), min(height, y2))
        if min(box.x2 - box.x1, box.y2 - box.y1) >= SMALLEST_FACE:
            found.append(box)
    return sorted(found, key=lambda b: (b.x2 - b.x1) * (b.y2 - b.y1), reverse=True)
