"""Face boxes, and ways to find them, all replaceable and none required.

By default the model's own keypoints give the boxes (`keypoints.face_boxes`), which needs nothing else. A finder
can do two things that keypoints cannot: cut a head out of a larger picture, and notice that there is no face.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

SMALLEST_FACE = 2  # pixels per side of the smallest box that can be resized
DETECTION_SIDE = 640  # larger pictures are searched at this size
HEAD_SCALE = 2.3  # a square this much larger than the face holds the head, hair and shoulders
HEAD_RISE = 0.125  # the square reaches this part of the face's height further up than down
HAAR_FACE = "haarcascade_frontalface_default.xml"
HAAR_PROFILE = "haarcascade_profileface.xml"
YUNET_FILE, YUNET_FILES = "face_detection_yunet_2023mar.onnx", "face_detection_yunet*.onnx"
CHOICES = ("largest", "most central", "leftmost", "rightmost")


class FaceNotFoundError(ValueError):
    """No usable face in a picture; ``index`` is its place in the batch that was looked at."""

    def __init__(self, index: int, name: str, advice: str = "crop it to the head, or say where the face is"):
        super().__init__(f"No face was found in {name}; {advice}.")
        self.index = index


class Box(NamedTuple):
    """A rectangle in pixels; x2 and y2 are outside."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def area(self) -> int:
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    def common(self, other: Box) -> int:
        """The area that both have."""
        wide = min(self.x2, other.x2) - max(self.x1, other.x1)
        high = min(self.y2, other.y2) - max(self.y1, other.y1)
        return max(0, wide) * max(0, high)


class Face(NamedTuple):
    """A face as a finder knows it.

    Attributes:
        points: pixels (x, y) of eyes, tip of the nose and corners of the mouth [5, 2], the one on the picture's left
            first; None from a finder that knows boxes only.
        profile: whether it was found as one that looks to the side.
    """

    box: Box
    points: np.ndarray | None = None
    profile: bool = False


class FaceFinder(Protocol):
    """Finds the faces of one picture."""

    def look(self, image: np.ndarray) -> list[Face]:
        """Faces in a uint8 RGB picture ``[H, W, 3]``, the largest first; empty when there is none."""

    def find(self, image: np.ndarray) -> list[Box]:
        """Their boxes."""
        return [face.box for face in self.look(image)]


class YuNetFinder(FaceFinder):
    """OpenCV's neural face detector, in every OpenCV since 4.5.4; its 230 KB model is a file of its own."""

    def __init__(self, model: Path, confidence: float = 0.6):
        """FileNotFoundError without the model file, ValueError with a damaged one, ImportError without OpenCV."""
        if not model.is_file():
            raise FileNotFoundError(
                f"There is no face detector {model}; put {YUNET_FILE} (opencv_zoo) there."
            )
        cv2 = _opencv()
        if not hasattr(cv2, "FaceDetectorYN"):
            raise ImportError(
                f"OpenCV {cv2.__version__} is too old for {model.name}; install 4.5.4 or newer."
            )
        try:
            self._detector = cv2.FaceDetectorYN.create(str(model), "", (320, 320), confidence)
        except cv2.error as error:
            raise ValueError(f"{model} cannot be read; download {YUNET_FILE} (opencv_zoo) again.") from error

    def look(self, image: np.ndarray) -> list[Face]:
        small, scale = _shrink(image)
        self._detector.setInputSize((small.shape[1], small.shape[0]))
        _, faces = self._detector.detect(np.ascontiguousarray(small[..., ::-1]))
        return _faces([] if faces is None else faces, scale, image)


class HaarFinder(FaceFinder):
    """OpenCV 4's classic detectors, of frontal faces and, where there is none, of profiles; their models are part
    of the wheel (gone in OpenCV 5)."""

    def __init__(self) -> None:
        """ImportError where OpenCV is absent or has no such detector."""
        cv2 = _opencv()
        paths = [Path(cv2.data.haarcascades) / name for name in (HAAR_FACE, HAAR_PROFILE)]
        if not hasattr(cv2, "CascadeClassifier") or not all(path.is_file() for path in paths):
            raise ImportError(
                f"OpenCV {cv2.__version__} carries no face detector; put {YUNET_FILE} (from opencv_zoo) into "
                "models/personalive, or give face masks."
            )
        self._front, self._profile = (cv2.CascadeClassifier(str(path)) for path in paths)

    def look(self, image: np.ndarray) -> list[Face]:
        small, scale = _shrink(image)
        grey = small.mean(-1).astype(np.uint8)
        faces, profile = self._search(self._front, grey), False
        if not len(faces):
            profile = True
            # the detector knows profiles that look to one side
            mirrored = self._search(self._profile, np.ascontiguousarray(grey[:, ::-1]))
            faces = [*self._search(self._profile, grey)]
            faces += [(grey.shape[1] - x - w, y, w, h) for x, y, w, h in mirrored]
        return _faces(faces, scale, image, profile)

    @staticmethod
    def _search(detector: Any, grey: np.ndarray) -> Sequence:
        least = max(24, min(grey.shape) // 8)
        return detector.detectMultiScale(grey, 1.1, 5, minSize=(least, least))


def choose_face(faces: Sequence[Box], who: str, height: int, width: int) -> Box:
    """One of several faces of a picture, by one of `CHOICES`."""
    return {
        "largest": lambda: max(faces, key=lambda face: face.area),
        "most central": lambda: min(faces, key=lambda face: _distance(face, Box(0, 0, width, height))),
        "leftmost": lambda: min(faces, key=lambda face: face.x1 + face.x2),
        "rightmost": lambda: max(faces, key=lambda face: face.x1 + face.x2),
    }[who]()


class FaceTracker:
    """Stays with one face of a video, and notices when that one is gone.

    ``most`` is the largest number of faces that a picture had so far.
    """

    def __init__(self, who: str = CHOICES[0]):
        self.who = who
        self.most = 0
        self._last: Box | None = None

    def follow(self, faces: Sequence[Box], height: int, width: int) -> Box | None:
        """The face to follow among those of the next picture; None where it is not there.

        It is the one that overlaps most with the face's last place. Where none does, a video that had a single face
        is taken to have moved it, one is chosen anew among several faces, and a single face that is left of several is
        taken for somebody else.
        """
        self.most = max(self.most, len(faces))
        near = [face for face in faces if self._last is not None and _overlap(face, self._last) > 0]
        if near:
            self._last = max(near, key=lambda face: _overlap(face, self._last))
        elif faces and (self._last is None or len(faces) > 1 or self.most == 1):
            self._last = choose_face(faces, self.who, height, width)
        else:
            return None
        return self._last


def _distance(a: Box, b: Box) -> int:
    return (a.x1 + a.x2 - b.x1 - b.x2) ** 2 + (a.y1 + a.y2 - b.y1 - b.y2) ** 2


def _overlap(a: Box, b: Box) -> float:
    """The shared area of two boxes as a part of the area of both together."""
    shared = a.common(b)
    return shared / (a.area + b.area - shared)


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
    is. ValueError for another shape."""
    _check_shape(masks)
    boxes = torch.zeros(len(masks), 4, dtype=torch.long)
    for i, mask in enumerate(masks > 0.5):
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        if len(rows):
            boxes[i] = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    return boxes


def check_masks(masks: Tensor, height: int, width: int) -> None:
    """ValueError unless masks ``[n, h, w]`` lie over pictures of ``height`` x ``width``."""
    _check_shape(masks)
    if masks.shape[1:] != (height, width):
        raise ValueError(
            f"Use a face mask that was painted over this picture: the mask is {masks.shape[2]}x{masks.shape[1]}, the "
            f"picture {width}x{height}."
        )


def _check_shape(masks: Tensor) -> None:
    if masks.ndim != 3 or len(masks) == 0:
        raise ValueError(
            f"Paint a face mask: this one is {list(masks.shape)}, not [pictures, height, width]."
        )


def painted_box(box: Tensor) -> Box:
    """One of `mask_boxes` ``[4]``; ValueError where nothing was painted."""
    if not box.any():
        raise ValueError("Paint over the face, or disconnect the face mask: it is empty.")
    return Box(*box.tolist())


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


def _faces(rows: Sequence, scale: float, image: np.ndarray, profile: bool = False) -> list[Face]:
    """Faces from x, y, width, height and perhaps five points at the search's scale, clipped to the picture, the largest
    first."""
    height, width = image.shape[:2]
    found = []
    for row in rows:
        x, y, w, h = (float(value) for value in row[:4])
        x1, y1, x2, y2 = (round(value * scale) for value in (x, y, x + w, y + h))
        box = Box(max(0, x1), max(0, y1), min(width, x2), min(height, y2))
        if min(box.x2 - box.x1, box.y2 - box.y1) >= SMALLEST_FACE:
            points = np.asarray(row[4:14], float).reshape(5, 2) * scale if len(row) > 4 else None
            found.append(Face(box, points, profile))
    return sorted(found, key=lambda face: face.box.area, reverse=True)
