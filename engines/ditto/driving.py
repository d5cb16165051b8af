"""From motion to keypoints: a portrait (or source video) takes over the motion that was made.

Expression counts at the lips and, for a picture, the eyes only; everywhere else the source keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..gpu.transfer import send
from .blinks import Blinks
from .motion import ANGLES, POINTS, FaceMotion, degrees, mirrored
from .shifts import gaze

LIPS = (6, 12, 14, 17, 19, 20)
EYES = (11, 13, 15, 16, 18)
PICTURE_PARTS = ("expression", *ANGLES, "translation")
VIDEO_PARTS = ("expression",)
SCALED_PARTS = ("expression", *ANGLES)
"""What grows with the ratio of a reference character's scale to the portrait's."""
GAZE = {"yaw": 0.26, "pitch": 0.28}


@dataclass(frozen=True)
class DrivingConfig:
    """What a source takes over from a motion.

    Attributes:
        gains: how strongly each part is taken over, by the names of `FaceMotion`; a part that is not named stays the
            source's own. None: all of `PICTURE_PARTS` for a picture, `VIDEO_PARTS` for a video, with 1.
        relative: the motion counts from its first frame (or the origin that is given) on. A constant expression, an
            emotion for instance, is lost in this.
        lips: how strongly the lips leave the source's own for what was made; 1 as it was made.
        drive_eyes: eyes follow the motion and turn against the head; None: for a picture, not for a video.
        whole_face: brows, cheeks and jaw follow too. In the reference, where this does not exist, they never move.
        gains_on_logits: gains of angles without an offset multiply the logits, which makes the angle more or less
            certain in place of larger or smaller, as in the reference. Otherwise they multiply degrees.
        fade_to: where faded parts go: "first" (frame) or "source".
        faded: the parts that fade.
    """

    gains: Mapping[str, float] | None = None
    relative: bool = True
    lips: float = 1.0
    drive_eyes: bool | None = None
    whole_face: bool = False
    gains_on_logits: bool = False
    fade_to: str = "first"
    faded: tuple[str, ...] = ("expression",)

    def __post_init__(self) -> None:
        known = ("scale", *PICTURE_PARTS)
        wrong = [name for name in (*(self.gains or ()), *self.faded) if name not in known]
        if wrong:
            raise ValueError(f"Choose parts of a motion from {', '.join(known)}: {wrong} are not known.")
        if self.fade_to not in ("first", "source"):
            raise ValueError(f'Let the motion fade to "first" or "source", not to {self.fade_to!r}.')


@dataclass(frozen=True)
class Controls:
    """Changes to n frames; every tensor has n rows, or one for all.

    Attributes:
        offsets: degrees that are added to pitch, yaw or roll, ``[n, 1]`` by name.
        gains: factors of pitch, yaw or roll after that, ``[n, 1]`` by name.
        expression: shifts that are added to all keypoints, ``[n, 63]``.
        voice: how much of the motion's expression is shown, ``[n, 1]`` in 0 to 1.
        fade: how much of the faded parts is shown, ``[n, 1]`` in 0 to 1.
    """

    offsets: Mapping[str, Tensor] = field(default_factory=dict)
    gains: Mapping[str, Tensor] = field(default_factory=dict)
    expression: Tensor | None = None
    voice: Tensor | None = None
    fade: Tensor | None = None

    def to(self, device: torch.device | str) -> Controls:
        def moved(part: Tensor | None) -> Tensor | None:
            return None if part is None else send(part, device)

        return Controls(
            {name: moved(part) for name, part in self.offsets.items()},
            {name: moved(part) for name, part in self.gains.items()},
            *(moved(part) for part in (self.expression, self.voice, self.fade)),
        )


NO_CONTROLS = Controls()


def constant_controls(
    offsets: Mapping[str, float] | None = None, shown: Tensor | None = None, expression: Tensor | None = None
) -> Callable[[int, int], Controls]:
    """The controls of a run for `pipeline.Performance`.

    Args:
        offsets: degrees that are added to pitch, yaw or roll of every frame.
        shown: how much of the faded parts each frame shows ``[frames]``, see `blinks.fades`; later frames show all.
        expression: shifts ``[1, 63]`` that are added to the keypoints of every frame.
    """
    unknown = [name for name in offsets or () if name not in ANGLES]
    if unknown:
        raise ValueError(f"Choose angles from {', '.join(ANGLES)}: {unknown} are not known.")
    added = {name: torch.tensor([[float(offset)]]) for name, offset in (offsets or {}).items()}

    def controls(first: int, count: int) -> Controls:
        if shown is None or first >= len(shown):
            return Controls(offsets=added, expression=expression)
        here = shown[first : first + count]
        missing = torch.ones(count - len(here))
        return Controls(offsets=added, expression=expression, fade=torch.cat([here, missing])[:, None])

    return controls


class Driver:
    """Turns motion into source and driving keypoints, block after block.

    Args:
        source: the motion of the source's m frames with keypoints; 1 frame is a picture, more are a video that is
            played forwards and backwards.
        stitch: see `stitching.StitchingNetwork`; None leaves driving keypoints as they are.
        origin: one frame that the motion counts from, also where the configuration is not relative.
        character_scale: ``[1, 1]``, the scale of the character that the motion was made for, if it is another one.
        blinks: the eyes' own motion in place of what was made for them.
    """

    def __init__(
        self,
        source: FaceMotion,
        config: DrivingConfig | None = None,
        stitch: Callable[[Tensor, Tensor], Tensor] | None = None,
        origin: FaceMotion | None = None,
        character_scale: Tensor | None = None,
        blinks: Blinks | None = None,
    ):
        self.config = config = config or DrivingConfig()
        picture = len(source) == 1
        self._source, self._stitch, self._blinks = source, stitch, blinks
        self._origin = origin
        self._drive_eyes = picture if config.drive_eyes is None else config.drive_eyes
        parts = PICTURE_PARTS if picture else VIDEO_PARTS
        gains = config.gains if config.gains is not None else dict.fromkeys(parts, 1.0)
        ratio = 1.0 if character_scale is None else character_scale / source.scale[:1]
        self._gains = {name: gain * ratio if name in SCALED_PARTS else gain for name, gain in gains.items()}
        self._first: FaceMotion | None = None
        self._count = 0
        self._angles = {name: degrees(getattr(source, name)[:1]) for name in GAZE}
        self._points = source.points()
        driven = [self._strength(point) for point in range(POINTS)]
        self._driven = source.scale.new_tensor(driven).repeat_interleave(3)
        eyes = source.scale.new_tensor([float(point in EYES) for point in range(POINTS)])
        self._eyes = eyes.repeat_interleave(3)

    def _strength(self, point: int) -> float:
        """How strongly a point leaves the source's own expression."""
        if point in LIPS:
            return self.config.lips
        if point in EYES:
            return float(self._drive_eyes and self._blinks is None)
        return float(self.config.whole_face)

    def __call__(self, motion: FaceMotion, controls: Controls = NO_CONTROLS) -> tuple[Tensor, Tensor]:
        """Source keypoints ``[n or 1, 21, 3]`` and driving keypoints ``[n, 21, 3]`` of the next n frames."""
        n = len(motion)
        places = torch.tensor([mirrored(self._count + i, len(self._source)) for i in range(n)])
        frames = send(places, motion.scale.device)  # a list would wait for the GPU
        still = len(self._source) == 1
        source = self._source if still else self._source[frames]
        points = self._points if still else self._points[frames]
        if self._origin is None and self.config.relative:
            self._origin = motion[:1]
        made = self._mixed(source, motion)
        made = replace(made, expression=self._masked(source, made, n))
        if controls.voice is not None:
            made = replace(made, expression=_blend(made.expression, source.expression, controls.voice))
        made = self._controlled(made, controls)
        if self._first is None:
            self._first = made[:1]
        if controls.fade is not None:
            made = self._faded(made, source, controls.fade)
        if self._drive_eyes:
            made = replace(made, expression=made.expression + self._gaze(made))
        self._count += n
        driving = made.points()
        if self._stitch is not None:
            driving = self._stitch(points, driving)
        return points, driving

    def _mixed(self, source: FaceMotion, motion: FaceMotion) -> FaceMotion:
        """The source with the parts that it takes over."""
        parts = {}
        for name, gain in self._gains.items():
            own, new = getattr(source, name), getattr(motion, name)
            parts[name] = (
                new * gain if self._origin is None else own + (new - getattr(self._origin, name)) * gain
            )
        return replace(source, **parts)

    def _masked(self, source: FaceMotion, made: FaceMotion, count: int) -> Tensor:
        """The expression ``[n, 63]``, made at driven points and the source's at all others, with blinks."""
        expression = _blend(made.expression, source.expression, self._driven)
        if self._drive_eyes and self._blinks is not None:
            expression = expression + self._blinks(self._count, count).to(expression) * self._eyes
        return expression.expand(count, -1)

    def _controlled(self, made: FaceMotion, controls: Controls) -> FaceMotion:
        changed: dict[str, Tensor] = {}
        for name in ANGLES:
            angle = getattr(made, name)
            if name in controls.offsets:
                angle = degrees(angle) + controls.offsets[name]
            if name in controls.gains:
                if not self.config.gains_on_logits:
                    angle = degrees(angle)
                angle = angle * controls.gains[name]
            changed[name] = angle
        if controls.expression is not None:
            changed["expression"] = made.expression + controls.expression
        return replace(made, **changed)

    def _faded(self, made: FaceMotion, source: FaceMotion, shown: Tensor) -> FaceMotion:
        target = self._first if self.config.fade_to == "first" else source
        changed = {}
        for name in self.config.faded:
            new, old = getattr(made, name), getattr(target, name)
            if new.shape[-1] != old.shape[-1]:  # the reference mixes degrees with logits here
                new, old = degrees(new), degrees(old)
            changed[name] = _blend(new, old, shown)
        return replace(made, **changed)

    def _gaze(self, made: FaceMotion) -> Tensor:
        """Shifts ``[n, 63]`` by which the eyes turn against the head."""
        across, up = (
            GAZE[name] * (degrees(getattr(made, name)) - self._angles[name]) for name in ("yaw", "pitch")
        )
        return gaze(across, up)


def _blend(new: Tensor, old: Tensor, share: Tensor) -> Tensor:
    return new * share + old * (1 - share)
