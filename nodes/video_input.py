"""Videos that come into a node: a VIDEO, image frames, or a stream of this pack."""

from __future__ import annotations

from typing import Any

import folder_paths
from comfy_api.latest import InputImpl

from ..host.progress import check_interrupt
from ..media.audio import usable
from ..media.driving import DrivingVideo, open_driving
from ..media.portrait import over_white


def open_frames(source: Any, fps: float, max_frames: int = 0, sound: bool = True) -> DrivingVideo:
    """The frames of a source with its sound, read lazily; ``fps`` is that of image frames. See `open_driving`."""
    audio = None
    if isinstance(source, InputImpl.VideoFromComponents):  # it holds frames, and has no file
        made = source.get_components()
        source, fps, audio = made.images, float(made.frame_rate), made.audio and usable(made.audio)
    if hasattr(source, "shape"):
        source = over_white(source)
    folder = folder_paths.get_temp_directory()
    video = open_driving(source, fps, max_frames, folder, check_interrupt, sound)
    return video if audio is None else DrivingVideo(video.blocks, video.fps, audio)
