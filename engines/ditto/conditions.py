"""The condition row of every frame: speech, emotion, eyes and the shape of the face whose motion is made."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..gpu.transfer import send
from .config import EMOTIONS, NEUTRAL
from .motion import FaceMotion, mirrored

CHOSEN = 8.0
"""Logit of an emotion that is chosen; the others have 0."""


@dataclass(frozen=True)
class Character:
    """The face that a motion is made for: the portrait's own, or a reference character of which it is then taken over.

    Attributes:
        motion: of its m frames (1 for a picture), with keypoints.
        eye_open: ``[m, 2]``, see `face.eyes.openness`.
        eye_ball: ``[m, 6]``, see `face.eyes.ball_vectors`.
    """

    motion: FaceMotion
    eye_open: Tensor
    eye_ball: Tensor

    def to(self, device: torch.device | str) -> Character:
        return Character(self.motion.to(device), self.eye_open.to(device), self.eye_ball.to(device))


def emotion_row(labels: Sequence[int]) -> Tensor:
    """The row ``[8]`` of one or several emotions (numbers in `EMOTIONS`), in equal parts."""
    wrong = [label for label in labels if not 0 <= label < len(EMOTIONS)]
    if wrong or not labels:
        raise ValueError(f"Choose emotions from 0 to {len(EMOTIONS) - 1}: {list(labels)} does not fit.")
    row = torch.zeros(len(EMOTIONS))
    row[list(set(labels))] = CHOSEN
    return row.softmax(-1)


def emotion_mix(weights: Sequence[float]) -> Tensor:
    """The row ``[8]`` of all emotions by their weights, of which only the ratios count.

    The reference mixes in equal parts only; with equal weights this is its row.
    """
    if (
        len(weights) != len(EMOTIONS)
        or not all(math.isfinite(w) and w >= 0 for w in weights)
        or not any(weights)
    ):
        raise ValueError(
            f"Give {len(EMOTIONS)} weights of 0 or more, of which one is larger: {list(weights)} does not fit."
        )
    part = torch.tensor([weight / max(weights) for weight in weights], dtype=torch.float64)
    row = torch.lerp(torch.ones_like(part), torch.full_like(part, math.exp(CHOSEN)), part)
    return (row / row.sum()).float()


def emotion_rows(emotion: int | Sequence[int] | Sequence[Sequence[int]] | Tensor = NEUTRAL) -> Tensor:
    """Rows ``[m, 8]`` that the frames go through again and again.

    Args:
        emotion: a label, several labels that are mixed, a list of such mixtures (one per frame), or rows ``[m, 8]``.
    """
    if isinstance(emotion, Tensor):
        if emotion.ndim != 2 or emotion.shape[1] != len(EMOTIONS) or not len(emotion):
            raise ValueError(
                f"Give emotions as rows of {len(EMOTIONS)} numbers: {list(emotion.shape)} does not fit."
            )
        return emotion.float()
    if isinstance(emotion, int):
        return emotion_row([emotion])[None]
    if not len(emotion):
        raise ValueError("Choose at least one emotion.")
    if all(isinstance(label, int) for label in emotion):
        return emotion_row(emotion)[None]
    return torch.stack([emotion_row(labels) for labels in emotion])


@dataclass(frozen=True)
class Moods:
    """Emotions that take the place of others while they are asked for.

    Attributes:
        rows: ``[k, 8]``, see `emotion_mix`.
        at: which of them a frame has; None: none.
    """

    rows: Tensor
    at: Callable[[int], int | None]


class Conditions:
    """Makes condition rows of speech features.

    Args:
        character: see `Character`.
        emotions: ``[m, 8]``, see `emotion_rows`.
        first_eyes: the eyes of the first frame serve all of a source video.
        moods: see `Moods`; a frame is asked for when its speech is there.
    """

    def __init__(
        self, character: Character, emotions: Tensor, first_eyes: bool = False, moods: Moods | None = None
    ):
        self._shape = character.motion.keypoints[:1]
        self._count, self._mood = len(emotions), (lambda frame: None) if moods is None else moods.at
        rows = emotions if moods is None else torch.cat([emotions, moods.rows.to(emotions)])
        self._emotions = rows.to(self._shape)
        self._eyes = torch.cat([character.eye_open, character.eye_ball], -1)
        if first_eyes:
            self._eyes = self._eyes[:1]

    def __call__(self, speech: Tensor, first: int) -> Tensor:
        """Rows ``[n, 1103]`` of speech features ``[n, 1024]``, whose first frame has the number ``first``.

        Frames before 0, which warm a live motion up, have what frame 0 has.
        """
        frames = [max(first + i, 0) for i in range(len(speech))]
        emotions = _rows(self._emotions, [self._emotion(i) for i in frames])
        eyes = _rows(self._eyes, [mirrored(i, len(self._eyes)) for i in frames])
        return torch.cat([speech, emotions, eyes, self._shape.expand(len(speech), -1)], -1)

    def _emotion(self, frame: int) -> int:
        """The number of a frame's row."""
        mood = self._mood(frame)
        return frame % self._count if mood is None else self._count + mood


def _rows(table: Tensor, places: list[int]) -> Tensor:
    """Rows of a table, without waiting for its GPU: a list of Python's is copied there in a way that waits."""
    return table[send(torch.tensor(places), table.device)]
