"""Motion of a driving video, independent of any portrait: it can be saved, loaded and reused."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..parts.face.keypoints import Pose
from .config import MOTION_TOKENS, MOTION_WIDTH

FORMAT = "personalive-motion-1"
SHAPES = {
    "keypoints": [21, 3],
    "angles": [3],
    "translation": [3],
    "scale": [1],
    "tokens": [MOTION_TOKENS, MOTION_WIDTH],
}
"""Shape of one frame of each tensor in a file."""
FASTEST = 1000.0
"""Highest frame rate of a driving video."""


@dataclass(frozen=True)
class Motion:
    """Head poses and expression tokens ``[n, 32, 16]`` of n consecutive frames."""

    pose: Pose
    tokens: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: slice | list[int]) -> Motion:
        return Motion(self.pose[index], self.tokens[index])

    def to(self, device: torch.device | str) -> Motion:
        return Motion(self.pose.to(device), self.tokens.to(device))

    def tensors(self) -> list[Tensor]:
        """All of its tensors."""
        pose = self.pose
        return [pose.keypoints, pose.angles, pose.translation, pose.scale, self.tokens]

    @staticmethod
    def concat(parts: Iterable[Motion]) -> Motion:
        """One motion of several in a row."""
        parts = list(parts)
        if not parts:
            raise ValueError("The driving video has no frames with a usable face.")
        poses = [part.pose for part in parts]
        pose = Pose(
            torch.cat([p.keypoints for p in poses]),
            torch.cat([p.angles for p in poses]),
            torch.cat([p.translation for p in poses]),
            torch.cat([p.scale for p in poses]),
        )
        return Motion(pose, torch.cat([part.tokens for part in parts]))

    def save(self, path: str | Path, fps: float) -> None:
        """Write a .safetensors file with the frames per second beside the tensors."""
        tensors = {
            "keypoints": self.pose.keypoints,
            "angles": self.pose.angles,
            "translation": self.pose.translation,
            "scale": self.pose.scale,
            "tokens": self.tokens,
        }
        tensors = {name: tensor.float().cpu().contiguous() for name, tensor in tensors.items()}
        save_file(tensors, str(path), metadata={"format": FORMAT, "fps": json.dumps(fps)})

    @classmethod
    def load(cls, path: str | Path) -> tuple[Motion, float]:
        """Read what `save` wrote, with its frames per second.

        Shapes are compared before anything is read.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not what `save` writes.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"There is no motion file {path}.")
        try:
            with safe_open(str(path), "pt") as file:
                metadata = file.metadata() or {}
                stranger = metadata.get("format") != FORMAT
                if not stranger:
                    fps = _frames_per_second(metadata.get("fps", ""))
                    _check_shapes({name: file.get_slice(name).get_shape() for name in file.keys()})  # noqa: SIM118
                    t = {name: _numbers(name, file.get_tensor(name)) for name in SHAPES}
        except (SafetensorError, ValueError) as error:
            raise ValueError(f"{path} is damaged ({error}); extract the motion again.") from error
        if stranger:
            raise ValueError(f"{path} is no PersonaLive motion file.")
        return cls(Pose(t["keypoints"], t["angles"], t["translation"], t["scale"]), t["tokens"]), fps


def _frames_per_second(text: str) -> float:
    fps = float(text)
    if not 0 < fps <= FASTEST:
        raise ValueError(f"{text} frames per second")
    return fps


def _check_shapes(found: dict[str, list[int]]) -> None:
    """ValueError unless the tensors of a file are those of a motion, all of as many frames."""
    frames = found.get("tokens", [0])[:1]
    if frames == [0]:
        raise ValueError("no frames")
    for name, shape in SHAPES.items():
        if found.get(name) != frames + shape:
            raise ValueError(f"{name} is {found.get(name, 'missing')}, not {frames + shape}")


def _numbers(name: str, tensor: Tensor) -> Tensor:
    """A tensor of a file in float32; ValueError for one with NaN or infinite values."""
    tensor = tensor.float()
    if not tensor.isfinite().all():
        raise ValueError(f"{name} holds NaN or infinite values")
    return tensor


def regroup(parts: Iterable[Motion], size: int) -> Iterator[Motion]:
    """The same frames in motions of ``size`` frames; only the last may be shorter."""
    held: list[Motion] = []
    count = 0
    for part in parts:
        start = 0
        while start < len(part):
            piece = part[start : start + size - count]  # a view: a long part is never copied as a whole
            start += len(piece)
            held.append(piece)
            count += len(piece)
            if count == size:
                yield Motion.concat(held)
                held, count = [], 0
    if held:
        yield Motion.concat(held)


def mirrored(parts: Iterable[Motion], chunk: int, extra: int) -> Iterator[tuple[Motion, int]]:
    """Full chunks of ``chunk`` frames, continued backwards from the end by at least ``extra`` frames.

    Yields each chunk with the number of frames in it that belong to the video itself (0 for added ones).
    Only the last ``extra + chunk`` frames are kept in memory.
    """
    recent: list[Motion] = []
    last: Motion | None = None
    for part in regroup(parts, chunk):
        if len(part) == chunk:
            yield part, chunk
            recent = [*recent, part][-(extra // chunk + 2) :]
        else:
            last = part
    end = Motion.concat([*recent, last] if last is not None else recent)
    # 0 .. n-1, n-2 .. 0, 1 ..: to and fro over the frames at hand, also for videos that are shorter than the tail.
    n, open_frames = len(end), len(last) if last is not None else 0
    period = max(1, 2 * (n - 1))
    needed = open_frames + extra
    needed += -needed % chunk
    walk = [min(i % period, period - i % period) for i in range(n - open_frames, n - open_frames + needed)]
    for start in range(0, needed, chunk):
        yield end[walk[start : start + chunk]], max(0, min(chunk, open_frames - start))
