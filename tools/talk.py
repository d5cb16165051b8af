"""A talking portrait without ComfyUI: models from a folder, the same session that the nodes use.

    python -m tools.talk                                    # the tiny talker says its example
    python -m tools.talk --checkpoint Wan2.2-S2V-14B --lora liveavatar.safetensors --device cuda \\
        --portrait me.png --speech hello.wav --size 704x384 --out talk.mp4
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.parts.planning.plan import CHOICES, Wish
from avatar.media.mapped_sound import map_audio
from avatar.media.portrait import read_portrait
from avatar.media.speech import Speech
from avatar.media.writer import VideoWriter
from avatar.sessions.folder import FolderAvatar

from . import talker


@torch.inference_mode()
def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=talker.BASE)
    parser.add_argument("--lora", type=Path, help="default: the tiny talker's, with the tiny talker")
    parser.add_argument("--portrait", type=Path, default=talker.EXAMPLE / "portrait.png")
    parser.add_argument("--speech", type=Path, default=talker.EXAMPLE / "speech.ogg")
    parser.add_argument(
        "--size",
        default=f"{talker.SIDE}x{talker.SIDE}",
        help="WIDTHxHEIGHT, multiples of 64; the tiny talker was trained at %(default)s",
    )
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--performance", choices=CHOICES, default="auto")
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--out", type=Path, default=Path("talk.mp4"))
    args = parser.parse_args()
    if args.lora is None and args.checkpoint == talker.BASE:
        args.lora = talker.lora()

    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    avatar = FolderAvatar(args.checkpoint, args.lora, device, dtype)
    stream = avatar.open(
        read_portrait(args.portrait),
        Speech.of([map_audio(args.speech)], avatar.speech_encoder),
        tuple(map(int, args.size.split("x"))),
        SamplingConfig(steps=args.steps, seed=args.seed),
        Wish(args.performance),
        say=print,
    )
    start = time.monotonic()
    with (
        VideoWriter(
            args.out, width=stream.width, height=stream.height, fps=stream.fps, audio=stream.audio
        ) as writer,
        closing(stream.blocks()) as blocks,
    ):
        for block in blocks:
            writer.write(block)
    took = time.monotonic() - start
    print(f"{args.out}: {stream.frames} frames in {took:.1f} s ({stream.frames / took:.1f} FPS)")


if __name__ == "__main__":
    main()
