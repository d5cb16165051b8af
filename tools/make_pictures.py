"""Makes the pictures of README and registry: three portraits that the tiny talker animates, an icon and a banner.

python -m tools.make_pictures
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import av
from PIL import Image, ImageDraw, ImageFont

from .demo_media import EXAMPLE, speech
from .environment import ROOT

FOLDER = ROOT / "docs" / "images"
PORTRAITS = ("portrait", "portrait_2", "portrait_3")
SECONDS, SIZE = 4.0, 192
EVERY = 2  # of 25 frames per second
ICON, BANNER = 400, (1344, 576)
DARK, LIGHT = (24, 32, 44), (240, 240, 240)


def talking(portrait: Path, sound: Path, folder: Path) -> list[Image.Image]:
    """The frames that the tiny talker makes of a portrait, at 25 per second."""
    out = folder / f"{portrait.stem}.mp4"
    command = [sys.executable, "-m", "tools.talk", "--portrait", str(portrait), "--speech", str(sound)]
    subprocess.run([*command, "--size", f"{SIZE}x{SIZE}", "--out", str(out)], cwd=ROOT, check=True)
    with av.open(str(out)) as film:
        return [frame.to_image() for frame in film.decode(video=0)]


def write_moving(path: Path) -> None:
    """The portraits side by side, saying the same words, as an animated picture."""
    with tempfile.TemporaryDirectory() as folder:
        sound = speech(Path(folder) / "speech.wav", SECONDS)
        films = [talking(EXAMPLE / f"{name}.png", sound, Path(folder)) for name in PORTRAITS]
    frames = []
    for pictures in list(zip(*films, strict=True))[::EVERY]:
        row = Image.new("RGB", (SIZE * len(pictures), SIZE))
        for place, picture in enumerate(pictures):
            row.paste(picture, (place * SIZE, 0))
        frames.append(row)
    frames[0].save(
        path, save_all=True, append_images=frames[1:], duration=40 * EVERY, loop=0, quality=70, method=6
    )


def write_icon(path: Path) -> None:
    """A face in a circle, transparent around it."""
    face = (
        Image.open(EXAMPLE / "portrait_large.png")
        .convert("RGBA")
        .resize((ICON, ICON), Image.Resampling.LANCZOS)
    )
    circle = Image.new("L", (4 * ICON, 4 * ICON))
    ImageDraw.Draw(circle).ellipse((0, 0, 4 * ICON - 1, 4 * ICON - 1), fill=255)
    face.putalpha(circle.resize((ICON, ICON), Image.Resampling.LANCZOS))
    face.save(path, optimize=True)


def write_banner(path: Path) -> None:
    """The name of the pack beside its two large portraits."""
    banner = Image.new("RGB", BANNER, DARK)
    side = BANNER[1]
    for place, name in enumerate(("portrait_large", "portrait_2_large")):
        face = Image.open(EXAMPLE / f"{name}.png").convert("RGB")
        face = face.resize((side, side), Image.Resampling.LANCZOS).crop((side // 4, 0, side * 3 // 4, side))
        banner.paste(face, (BANNER[0] - (2 - place) * side // 2, 0))
    text = ImageDraw.Draw(banner)
    text.text((60, 210), "LiveAvatar", fill=LIGHT, font=ImageFont.load_default(size=110))
    text.text((64, 350), "Portraits that talk, in ComfyUI", fill=LIGHT, font=ImageFont.load_default(size=40))
    banner.save(path, quality=88)


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_icon(FOLDER / "icon.png")
    write_banner(FOLDER / "banner.jpg")
    write_moving(FOLDER / "talking.webp")
    return 0


if __name__ == "__main__":
    sys.exit(main())
