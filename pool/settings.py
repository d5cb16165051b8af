"""What a pool is made of, told once when it starts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """A pool whose avatars are all alike.

    Attributes:
        checkpoint, lora: files of the model, on every machine at the same place.
        videos: folder of file jobs; one that all machines share.
        size: (width, height) of all videos in pixels, multiples of 64.
        steps: denoising steps of videos that name none.
        performance: the plan's choice, as the sampler's input of this name.
        device: where an avatar computes, "cuda" or "cpu".
        gpus, cpus: what Ray sets aside for one avatar.
        replicas, most_replicas: avatars that are always kept, and those that there are at most.
        rest_seconds: an avatar that nobody has needed for so long ends, if more are left than are kept.
        waiting: people and jobs that may wait for an avatar.
        live_seconds: length of a live video at most.
        keep_hours: how long a file is kept once its job has ended.
        snapshot_gb: disk space for snapshots of running file jobs; 0: none.
    """

    checkpoint: Path
    lora: Path | None
    videos: Path
    size: tuple[int, int]
    steps: int
    performance: str
    device: str
    gpus: float
    cpus: float
    replicas: int
    most_replicas: int
    rest_seconds: float
    waiting: int
    live_seconds: float
    keep_hours: float
    snapshot_gb: int
