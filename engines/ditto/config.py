"""Sizes of the motion model, and the settings of a run, as typed configuration."""

from __future__ import annotations

from dataclasses import dataclass

FPS = 25
SAMPLE_RATE = 16_000
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
WINDOW = 80
"""Frames that the motion model makes at once."""
SPEECH_WIDTH = 1024
EMOTIONS = ("angry", "disgust", "fear", "happy", "neutral", "sad", "surprise", "contempt")
NEUTRAL = EMOTIONS.index("neutral")


@dataclass(frozen=True)
class MotionModelConfig:
    """Sizes of the motion model (LMDM); ``condition`` is the width of a frame's condition row."""

    motion: int = 265
    condition: int = 1103
    width: int = 512
    feed_forward: int = 1024
    layers: int = 8
    heads: int = 8


@dataclass(frozen=True)
class WindowConfig:
    """How windows of `WINDOW` frames follow one another.

    Attributes:
        overlap: frames that a window shares with the one before it. Whole recordings use 10; live speech uses 70 or
            75, because a block of ``WINDOW - overlap`` frames comes out of each window.
        steps: DDIM steps per window.
        smoothing: frames of the centred mean over the pose; 1 leaves it as it is.
        restart_every: every so many windows the motion starts again from the source; 0: never.
        kept: columns ``[from, to)`` of the motion vector that go on all the same when it starts again.
        live: the first window is made of silence and not shown, and each block is handed out as soon as the next
            window cannot change it. Otherwise the first window is shown, and the whole is smoothed once more.
        exact_length: a live video ends with its sound; the reference's goes on for up to 0.7 seconds.
        fresh_noise: every window draws the noise of its steps. The reference draws that once and all windows (and
            further runs) share it.
    """

    overlap: int = 10
    steps: int = 50
    smoothing: int = 3
    restart_every: int = 1
    kept: tuple[int, int] | None = (0, 202)
    live: bool = False
    exact_length: bool = True
    fresh_noise: bool = False

    def __post_init__(self) -> None:
        least = WINDOW // 2 if self.live else 1
        if not least <= self.overlap < WINDOW:
            kind = "live speech" if self.live else "a recording"
            raise ValueError(
                f"Choose an overlap of {least} to {WINDOW - 1} frames for {kind}: {self.overlap} does not fit."
            )
        if not 1 <= self.steps <= 1000:
            raise ValueError(f"Choose 1 to 1000 steps: {self.steps} does not fit.")
        if not 1 <= self.smoothing <= WINDOW // 2:
            raise ValueError(
                f"Choose a smoothing of 1 to {WINDOW // 2} frames: {self.smoothing} does not fit."
            )

    @property
    def stride(self) -> int:
        """Frames that each further window adds."""
        return WINDOW - self.overlap

    @property
    def fused(self) -> int:
        """Frames in which a window fades into the one before it."""
        return min(self.overlap, self.stride) if self.live else self.overlap


RECORDING = WindowConfig()
LIVE = WindowConfig(overlap=70, steps=10, live=True)
