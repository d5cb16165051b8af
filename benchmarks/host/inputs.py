"""The files that prompts of `benchmarks.host` name: speech, portraits and videos."""

from __future__ import annotations

import math
from pathlib import Path

import av
from PIL import Image

from tools.demo_media import portrait, speech


def write_inputs(folder: Path, seconds: float) -> None:
    """Two portraits, ``seconds`` of speech, a pose video, a driving video, and a face that the tiny finder finds."""
    from tools.tiny_ditto import photograph

    speech(folder / "speech.wav", seconds)
    picture = Image.open(portrait(folder / "portrait.png"))
    picture.rotate(3).save(folder / "portrait2.png")
    for name, place in (("face.png", (540, 650, 230)), ("face2.png", (560, 700, 230))):
        photograph(place, size=(1080, 1440)).save(folder / name)
    for name, frames in (("pose.mp4", 50), ("driving.mp4", 100)):
        with av.open(str(folder / name), "w") as file:
            stream = file.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = *picture.size, "yuv420p"
            for i in range(frames):
                turned = picture.rotate(5 * math.sin(i / 8))
                file.mux(stream.encode(av.VideoFrame.from_image(turned)))
            file.mux(stream.encode())
