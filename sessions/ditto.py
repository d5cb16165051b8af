"""A video of Ditto on this machine: checked, listened to, loaded and running; with ComfyUI or without a host."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..engines.ditto.config import FPS
from ..engines.ditto.pipeline import Performance, Source
from ..engines.ditto.runtime import accelerate, plain
from ..engines.ditto.speech_windows import silence
from ..engines.parts.planning.advice import explained
from ..loaders.ditto.fingerprint import run_fingerprint
from ..loaders.ditto.host_objects import ManagedDitto, needed
from ..loaders.ditto.speech import listen, video_frames
from ..media.audio import trim
from ..media.frames import AvatarStream, Resumable
from ..media.speech import LiveSpeech, Speech
from .ditto_look import AskedMoods, Look, performance
from .residence import GRAPHS, PLAIN, Stay, check_graphs

SPEEDS = (PLAIN, GRAPHS)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Inputs:
    """What a video is made from."""

    ditto: ManagedDitto
    source: Source
    speech: Speech | LiveSpeech
    look: Look = field(default_factory=Look)


def open_video(
    inputs: Inputs,
    seed: int = 0,
    steps: int = 0,
    max_seconds: float = 0.0,
    speed: str = PLAIN,
    *,
    check_interrupt: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = logger.info,
) -> AvatarStream:
    """The stream of a video, which can be read several times and gone on with.

    Nothing is loaded, and no speech listened to, before it is read. A video of finished speech is as long as that is;
    live speech is followed as closely as the model can (`ditto_look.LIVE_OVERLAP`).

    Args:
        steps: of each window of motion; 0: 50 for finished speech, 10 for live speech, as published.
        max_seconds: where the video ends if the speech does not end before; 0: with the speech.
        speed: one of `SPEEDS`.
        check_interrupt: called before every step and block; raises to stop.
        say: is told what is going on, for people.

    Raises:
        ValueError: the speed cannot be had, or live speech is limited here as well.
    """
    if speed == GRAPHS:
        check_graphs(inputs.ditto.device, PLAIN)
    frames = _frames(inputs.speech, max_seconds)
    run = _Run(inputs, seed, steps, frames, speed, check_interrupt, say)
    if isinstance(inputs.speech, LiveSpeech):
        inputs.speech.feed.moods = AskedMoods.NAMES
    audio = inputs.speech.audio
    return AvatarStream(
        run.blocks,
        frames=frames,
        width=run.size[1],
        height=run.size[0],
        fps=FPS,
        audio=audio if frames is None else trim(audio, seconds=frames / FPS),
        resumable=None if frames is None else run.resumable(),
    )


def _frames(speech: Speech | LiveSpeech, max_seconds: float) -> int | None:
    """How many frames the video has; None for live speech."""
    if isinstance(speech, LiveSpeech):
        if max_seconds:
            raise ValueError(
                "Set max_seconds of Ditto Animate to 0: live speech ends by its own max_seconds."
            )
        return None
    frames = video_frames(speech)
    return max(1, min(frames, round(max_seconds * FPS))) if max_seconds else frames


class PassState:
    """Where one pass is; see `media.frames.PassState`.

    A frame's number is all that has to be kept: the motion before it is made once more, which is little work beside
    drawing it.

    Args:
        source: a saved state to go on from; None to begin at the beginning. ValueError when it cannot be used.
        fingerprint: of what decides the video.
    """

    def __init__(self, source: Path | None = None, fingerprint: str = ""):
        self._fingerprint = fingerprint
        self.first_frame, self.frames = 0, None
        if source is None:
            return
        try:
            with safe_open(source, "pt") as file:
                metadata, frames = file.metadata() or {}, int(file.get_tensor("frames"))
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            raise ValueError(f"The snapshot {source.name} is damaged.") from error
        if metadata.get("fingerprint") != fingerprint or frames < 0:
            raise ValueError(f"The snapshot {source.name} is of another video.")
        self.first_frame = frames

    def settle(self) -> None:
        """A pass is never ahead of its consumer."""

    def size(self) -> int:
        """Bytes that ``save`` takes."""
        return 1 << 10

    def save(self, path: Path) -> None:
        """Write the state; OSError where it cannot."""
        draft = path.with_name(f"{path.name}.new")
        save_file({"frames": torch.tensor(self.frames)}, draft, {"fingerprint": self._fingerprint})
        draft.replace(path)

    def release(self) -> None:
        """Nothing is held."""


class DittoStay(Stay):
    """The engine where it computes during one pass."""

    def __init__(
        self, ditto: ManagedDitto, speed: str, size: tuple[int, int], check_interrupt: Callable[[], None]
    ):
        self._ditto, self._speed, self._size = ditto, speed, size
        super().__init__(ditto.place, check_interrupt)

    def arrive(self) -> None:
        engine = self._ditto.load(*self._size)
        if self._speed == GRAPHS:
            accelerate(engine)

    def leave(self) -> None:
        plain(self._ditto.engine)


class _Run:
    """One video, which may be passed through several times."""

    def __init__(
        self,
        inputs: Inputs,
        seed: int,
        steps: int,
        frames: int | None,
        speed: str,
        check_interrupt: Callable[[], None],
        say: Callable[[str], None],
    ):
        self.inputs, self.seed, self.frames, self.speed = inputs, seed, frames, speed
        self.check_interrupt, self.say = check_interrupt, say
        self.size = tuple(inputs.source.pictures[0][0].shape[:2])
        self.performance: Performance = performance(
            inputs.look,
            inputs.ditto.settings,
            steps,
            still=inputs.source.still,
            frames=frames,
            seed=seed,
        )

    def resumable(self) -> Resumable:
        given, windows = self.inputs, self.performance.windows
        about = {"frames": self.frames, "steps": windows.steps, "seed": self.seed}
        settings = [given.look, windows, self.seed, self.frames]
        fingerprint = partial(
            run_fingerprint, given.ditto, given.source, given.speech, settings, self.check_interrupt
        )
        return Resumable(fingerprint=fingerprint, state=PassState, about=about)

    def blocks(self, state: PassState | None = None) -> Iterator[Tensor]:
        """One pass over the video, or over what comes after ``state``."""
        ditto, speech = self.inputs.ditto, self.inputs.speech
        state = state or PassState()
        done = state.first_frame
        with explained(partial(_advice, self.size)):
            here = DittoStay(ditto, self.speed, self.size, self.check_interrupt)
            try:
                windows = self.performance.windows
                self.say(
                    f"{self.size[1]} x {self.size[0]}, {windows.steps} steps for {windows.stride} frames of motion"
                )
                warm_up = silence(ditto.encode, windows.overlap) if windows.live else None
                asked = AskedMoods(self.inputs.look)
                heard = listen(speech, ditto.encode, here.check, asked.ask)
                performed = replace(self.performance, moods=asked.moods) if windows.live else self.performance
                made = ditto.engine.animate(
                    self.inputs.source, heard, performed, self.seed, warm_up, here.check, done
                )
                with closing(heard), closing(made):
                    for block in made:
                        done += len(block)
                        state.frames = done
                        yield block
            finally:
                here.leave()


def _advice(size: tuple[int, int]) -> str:
    """What helps where the GPU's memory did not suffice for a video of ``size``, height and width."""
    return (
        "Set speed to 'plain' and max_size of Ditto Portrait lower, or close other programs that use the GPU: its "
        f"memory ran out, of which {needed(*size) / 1e9:.1f} GB have to be free for {size[1]}x{size[0]}."
    )
