"""How fast a video was made, from the times at which its blocks came."""

from __future__ import annotations

from ..metric import Metric, NotMeasurable, Observed
from ..tracks import Track

SOURCE = "from the start of the pass on, with everything included"


def _made(seen: Observed) -> tuple[float, float]:
    """Frames, and seconds until the last of them."""
    track = seen.tracks["made"]
    if not len(track) or float(track.times[-1]) <= 0:
        raise NotMeasurable("No block came, so there is no speed.")
    return float(track.values[-1]), float(track.times[-1])


def _fps(seen: Observed) -> float:
    frames, seconds = _made(seen)
    return frames / seconds


def _factor(seen: Observed) -> float:
    frames, seconds = _made(seen)
    return seconds / (frames / seen.fps)


def _blocks(seen: Observed) -> Track:
    """When each block came."""
    _made(seen)
    if len(seen.tracks["made"]) < 2:
        raise NotMeasurable("Only the time of the whole video is known.")
    return seen.tracks["made"]


def _first(seen: Observed) -> float:
    return float(_blocks(seen).times[0])


def buffer(made: Track, fps: float) -> Track:
    """Seconds of video that a player, who begins with the first block, has left when each further block comes; below 0
    it has waited for so long."""
    times, frames = made.times.double(), made.values.double()
    return Track(times[1:], frames[:-1] / fps - (times[1:] - times[0]))


def _least(seen: Observed) -> float:
    return float(buffer(_blocks(seen), seen.fps).values.min())


METRICS = (
    Metric("FPS", "frames/s", "higher", ("made",), SOURCE, _fps),
    Metric("RTF", "s per s", "lower", ("made",), "seconds of making per second of video", _factor, warn=1.0),
    Metric(
        "first frame",
        "s",
        "lower",
        ("made",),
        "from the start of the pass to the first block",
        _first,
        warn=1.2,
        fail=3,
    ),
    Metric(
        "least buffer",
        "s",
        "higher",
        ("made",),
        "video that is left to a player who begins with the first block; below 0 it has to wait",
        _least,
        warn=0,
    ),
)
