"""Ditto from end to end: portrait and speech in, frames out, a few at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
import torch
from torch import Tensor, nn

from ..gpu.transfer import fetch, send
from ..parts.face.motion_extractor import MotionExtractor
from .appearance import AppearanceExtractor
from .blinks import Blinks
from .conditions import Character, Conditions, Moods, emotion_rows
from .config import RECORDING, WindowConfig
from .crop import CropOptions, crop_matrix, cut, halve
from .decoder import SpadeDecoder
from .driving import NO_CONTROLS, Controls, Driver, DrivingConfig
from .lmdm import MotionModel, Sampler
from .motion import FaceMotion, mirrored
from .paste import Paste
from .schedule import Noise, seeded_noise
from .stitching import StitchingNetwork
from .warping import WarpingNetwork
from .windows import MotionStream, Sample

BLOCK = 5
"""Frames that are rendered at once."""
SOURCE_SMOOTHING = 13
"""Frames of the centred mean over the motion of a source video."""

Eyes = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Openness ``[1, 2]`` and ball vectors ``[1, 6]`` of the eyes in a uint8 square ``[512, 512, 3]``; see `face.eyes`."""


@dataclass(frozen=True)
class Source:
    """A portrait, or the m frames of a source video, as the networks know it.

    Attributes:
        character: its motion and eyes.
        volumes: features that the warping network moves, ``[m, c, d, h, w]``; those of a video lie on the CPU (4 MB a
            frame in half precision).
        pictures: each one uint8 ``[H, W, 3]`` on the CPU, with the matrix from it to the square that the networks see.
        paste: the way back into the first picture.
    """

    character: Character
    volumes: Tensor
    pictures: tuple[tuple[Tensor, np.ndarray], ...]
    paste: Paste

    @property
    def still(self) -> bool:
        """Whether it is a portrait."""
        return len(self.pictures) == 1


@dataclass(frozen=True)
class Performance:
    """How a speech is performed.

    Attributes:
        windows: how its motion is made.
        driving: what the source takes over of that.
        emotions: rows ``[m, 8]`` that the frames go through, see `conditions.emotion_rows`.
        first_eyes: the eyes of a source video's first frame condition the whole motion.
        character: a reference character that the motion is made for; the reference implementation has one that serves
            all portraits. None: the source itself.
        bounds: lower and upper bounds of the motion vector, ``[2, 265]``.
        blinks: see `blinks.Blinks`.
        controls: changes to ``count`` frames from number ``first`` on.
        neutral_origin: relative motion counts from the first frame of the same speech in a neutral voice. Otherwise
            it counts from the motion's own first frame, in which an emotion that stays is lost, as in the reference.
            It costs one more window.
        moods: emotions that live speech asks for.
    """

    windows: WindowConfig = RECORDING
    driving: DrivingConfig = field(default_factory=DrivingConfig)
    emotions: Tensor = field(default_factory=emotion_rows)
    first_eyes: bool = False
    character: Character | None = None
    bounds: Tensor | None = None
    blinks: Blinks | None = None
    controls: Callable[[int, int], Controls] = lambda first, count: NO_CONTROLS
    neutral_origin: bool = False
    moods: Moods | None = None


@dataclass
class Ditto:
    """The networks, and how they work together. All are in eval mode on one device.

    The calls ``sampler``, ``read_motion``, ``read_appearance`` and ``render`` start as the networks themselves and may
    be replaced by captured versions of them.
    """

    motion_model: MotionModel
    motion_extractor: MotionExtractor
    appearance_extractor: AppearanceExtractor
    warping_network: WarpingNetwork
    decoder: SpadeDecoder
    stitching_network: StitchingNetwork

    def __post_init__(self) -> None:
        self.use_networks()

    def use_networks(self) -> None:
        """Make every call the network itself."""
        self.sampler: Callable[[int, Callable[[], None]], Sample] = self._sampler
        self.read_motion: Callable[[Tensor], dict[str, Tensor]] = self.motion_extractor.heads
        self.read_appearance: Callable[[Tensor], Tensor] = self.appearance_extractor
        self.render: Callable[[Tensor, Tensor, Tensor], Tensor] = self._render

    def _sampler(self, steps: int, check_interrupt: Callable[[], None]) -> Sample:
        return Sampler(self.motion_model, steps, check_interrupt)

    def _newest_sampler(self, steps: int, check_interrupt: Callable[[], None]) -> Sample:
        """The sampler of this moment at every call.

        ``check_interrupt`` comes first: it may bring moved networks back, and replace what was captured of them.
        """
        maker: Callable | None = None
        sample: Sample | None = None

        def newest(*args: Tensor) -> Tensor:
            nonlocal maker, sample
            check_interrupt()
            if self.sampler is not maker:
                maker = self.sampler
                sample = maker(steps, check_interrupt)
            return sample(*args)

        return newest

    def _render(self, volume: Tensor, source: Tensor, driving: Tensor) -> Tensor:
        return self.decoder(self.warping_network(volume, source, driving))

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """In the order of the arguments."""
        return (
            self.motion_model,
            self.motion_extractor,
            self.appearance_extractor,
            self.warping_network,
            self.decoder,
            self.stitching_network,
        )

    @property
    def device(self) -> torch.device:
        return self.motion_model.final_layer.weight.device

    @torch.inference_mode()
    def look(self, squares: Tensor) -> tuple[FaceMotion, Tensor]:
        """Motion and feature volumes ``[m, c, d, h, w]`` of uint8 squares ``[m, 256, 256, 3]``, one after another."""
        motions, volumes = [], []
        dtype = self.appearance_extractor.second.weight.dtype
        for square in squares.split(1):
            pixels = send(square, self.device).permute(0, 3, 1, 2).float() / 255
            motions.append(self.read_motion(pixels))
            volumes.append(self.read_appearance(pixels.to(dtype)))
        heads = {name: torch.cat([heads[name] for heads in motions]).float() for name in motions[0]}
        return FaceMotion.of_heads(heads), torch.cat(volumes)

    @torch.inference_mode()
    def source(
        self,
        pictures: Iterable[tuple[Tensor, np.ndarray]],
        eyes: Eyes,
        crop: CropOptions | None = None,
        check_interrupt: Callable[[], None] = lambda: None,
    ) -> Source:
        """Everything about a portrait that does not depend on the speech.

        Args:
            pictures: uint8 ``[H, W, 3]`` with landmarks of the face ``[n, 2]`` (see `crop.ANCHORS`); one for a
                portrait, several for a source video, whose motion is smoothed.
            eyes: looks at the eyes of each square.
            crop: how the square is laid around the landmarks.
        """
        motions, volumes, opens, balls, kept = [], [], [], [], []
        for picture, landmarks in pictures:
            check_interrupt()
            matrix = crop_matrix(landmarks, crop or CropOptions())
            square = cut(picture, matrix)
            eye_open, eye_ball = eyes(square)
            motion, volume = self.look(halve(square)[None])
            motions.append(motion)
            volumes.append(volume if not volumes else volume.cpu())
            opens.append(eye_open)
            balls.append(eye_ball)
            kept.append((picture.cpu(), matrix))
        motion = FaceMotion.concat(motions)
        if len(motion) > 1:
            motion = motion.smoothed(SOURCE_SMOOTHING)
            volumes[0] = volumes[0].cpu()
        character = Character(motion, torch.cat(opens), torch.cat(balls)).to(self.device)
        return Source(character, torch.cat(volumes), tuple(kept), Paste(*kept[0], self.device))

    def motion(
        self,
        source: Source,
        speech: Iterable[Tensor],
        performance: Performance | None = None,
        noise: Noise | None = None,
        warm_up: Tensor | None = None,
        check_interrupt: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Motion vectors ``[n, 265]``, lazily, with the one ``[1, 265]`` that they count from; None: their own first.

        Args:
            speech: features ``[n, 1024]`` of 25 frames a second (`speech_windows`), as they come.
            noise: by default that of seed 0.
            warm_up: the features of silence that live windows start with.
        """
        performance, device = performance or Performance(), self.device
        sample = self._newest_sampler(performance.windows.steps, check_interrupt)
        who = (performance.character or source.character).to(device)

        def stream(emotions: Tensor, moods: Moods | None = None) -> MotionStream:
            return MotionStream(
                sample,
                Conditions(who, emotions, performance.first_eyes, moods),
                who.motion[:1].vectors(),
                performance.windows,
                noise or seeded_noise(0),
                None if performance.bounds is None else performance.bounds.to(device),
                None if warm_up is None else warm_up.to(device),
            )

        moving = stream(performance.emotions, performance.moods)
        neutral = stream(emotion_rows()) if performance.neutral_origin else None
        origin: Tensor | None = None
        for features in chain(speech, [None]):
            part = None if features is None else send(features, device)
            if neutral is not None and origin is None:
                first = next(neutral.finish() if part is None else neutral.push(part), None)
                origin = first[:1] if neutral.first is None and first is not None else neutral.first
            for vectors in moving.finish() if part is None else moving.push(part):
                yield vectors, moving.first if neutral is None else origin

    def keypoints(
        self,
        source: Source,
        speech: Iterable[Tensor],
        performance: Performance | None = None,
        noise: Noise | None = None,
        warm_up: Tensor | None = None,
        check_interrupt: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Source keypoints ``[n or 1, 21, 3]`` and driving keypoints ``[n, 21, 3]`` of at most `BLOCK` frames, lazily.

        See `motion` for the arguments.
        """
        performance = performance or Performance()
        driver: Driver | None = None
        count = 0
        for vectors, origin in self.motion(source, speech, performance, noise, warm_up, check_interrupt):
            if driver is None:
                driver = self._driver(source, performance, origin)
            for part in vectors.split(BLOCK):
                check_interrupt()
                controls = performance.controls(count, len(part)).to(self.device)
                yield driver(FaceMotion.of_vectors(part), controls)
                count += len(part)

    def _driver(self, source: Source, performance: Performance, origin: Tensor | None) -> Driver:
        other, blinks = performance.character, performance.blinks
        relative = performance.driving.relative and origin is not None
        return Driver(
            source.character.motion,
            performance.driving,
            self.stitching_network,
            FaceMotion.of_vectors(origin) if relative else None,
            None if other is None else other.motion.scale[:1].to(self.device),
            None if blinks is None else blinks.to(self.device),
        )

    @torch.inference_mode()
    def paint(self, source: Source, keypoints: tuple[Tensor, Tensor], first: int) -> Callable[[], Tensor]:
        """Start on the frames of keypoints (see `keypoints`), which begin with number ``first``.

        The answer waits for them and gives them on the CPU, uint8 ``[n, H, W, 3]``.
        """
        points, driving = keypoints
        if source.still:
            squares = self.render(source.volumes, points, driving)
            patches = fetch(source.paste.patches(squares))
            return lambda: source.paste.frames(patches())
        places = [mirrored(first + i, len(source.pictures)) for i in range(len(driving))]
        squares = self.render(send(source.volumes[places], self.device), points, driving)
        pastes = [Paste(*source.pictures[place], self.device) for place in places]
        each = [fetch(paste.patches(square)) for paste, square in zip(pastes, squares.split(1), strict=True)]
        return lambda: torch.cat([paste.frames(patch()) for paste, patch in zip(pastes, each, strict=True)])

    def animate(
        self,
        source: Source,
        speech: Iterable[Tensor],
        performance: Performance | None = None,
        seed: int = 0,
        warm_up: Tensor | None = None,
        check_interrupt: Callable[[], None] = lambda: None,
        first: int = 0,
    ) -> Iterator[Tensor]:
        """Video of the source speaking: uint8 ``[<=5, H, W, 3]`` on the CPU, lazily, in memory that does not grow.

        See `motion` for ``speech`` and ``warm_up``. A recording's frames are handed out when the next ones are on
        their way, so that a GPU never waits for their reader; those of a live speech at once.

        Args:
            first: the frame to begin with, at which a part that was handed out before has ended; the motion of the
                frames before it is made once more.
        """
        live = performance is not None and performance.windows.live
        waiting: Callable[[], Tensor] | None = None
        count = 0
        with torch.inference_mode():
            keypoints = self.keypoints(
                source, speech, performance, seeded_noise(seed), warm_up, check_interrupt
            )
        while True:
            with torch.inference_mode():
                part = next(keypoints, None)
            if part is None:
                break
            if count < first:
                count += len(part[1])
                continue
            ready, waiting = waiting, self.paint(source, part, count)
            count += len(part[1])
            if live:
                ready, waiting = waiting, None
            if ready is not None:
                yield ready()
        if waiting is not None:
            yield waiting()
