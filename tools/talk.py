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
import numpy as np
import torch
from avatar.engines.liveavatar.condition import encode_reference
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.parts.planning.plan import CHOICES, Wish
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.liveavatar.conditioning import Condition
from avatar.loaders.liveavatar.folder_model import FolderModel
from avatar.loaders.wan.text import TextEncoder
from avatar.loaders.wan.vae import OwnVAE, load_vae
from avatar.loaders.wan.wav2vec2 import AudioEncoder
from avatar.media.frames import AvatarStream
from avatar.media.mapped_sound import map_audio
from avatar.media.portrait import prepare_portrait
from avatar.media.speech import Speech
from avatar.media.writer import VideoWriter
from avatar.sessions.liveavatar import Inputs, open_video
from PIL import Image

from .environment import ROOT

TALKER = ROOT / "talker"
PROMPT = "A person looks into the camera and talks."


def open_folder(
    checkpoint: Path,
    lora: Path | None,
    portrait: Path,
    speech: Path,
    size: tuple[int, int],
    config: SamplingConfig,
    wish: Wish,
    device: torch.device,
    dtype: torch.dtype,
) -> AvatarStream:
    """The stream of a video whose models lie in ``checkpoint``; ``size`` is (width, height)."""
    vae = OwnVAE(WanVAE(load_vae(checkpoint / "Wan2.1_VAE.pth", dtype)), device)
    picture = torch.from_numpy(np.array(Image.open(portrait).convert("RGB")))[None].float() / 255
    prepared = prepare_portrait(picture, size[1], size[0]).permute(0, 3, 1, 2)[:, :, None] * 2 - 1
    reference, motion = encode_reference(vae.load(), prepared)
    condition = Condition(
        context=TextEncoder.from_folder(checkpoint, device).encode(PROMPT),
        reference=vae.vae.denormalise(reference),
        motion=vae.vae.denormalise(motion),
        pose=None,
    )
    encoder = AudioEncoder.from_folder(checkpoint / "wav2vec2-large-xlsr-53-english", device, dtype)
    said = Speech.of([map_audio(speech)], encoder)
    model = FolderModel(checkpoint, device, dtype, lora)
    return open_video(Inputs(model, vae, condition, said), config, wish, say=print)


@torch.inference_mode()
def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=TALKER / "base")
    parser.add_argument("--lora", type=Path, help="default: the tiny talker's, with the tiny talker")
    parser.add_argument("--portrait", type=Path, default=TALKER / "example" / "portrait.png")
    parser.add_argument("--speech", type=Path, default=TALKER / "example" / "speech.ogg")
    parser.add_argument(
        "--size",
        default="192x192",
        help="WIDTHxHEIGHT, multiples of 64; the tiny talker was trained at 192x192",
    )
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--performance", choices=CHOICES, default="auto")
    parser.add_argument("--device", default="cuda" if cuda else "cpu")
    parser.add_argument("--out", type=Path, default=Path("talk.mp4"))
    args = parser.parse_args()
    if args.lora is None and args.checkpoint == TALKER / "base":
        args.lora = next((TALKER / "lora").glob("*.safetensors"))

    device = torch.device(args.device)
    stream = open_folder(
        args.checkpoint,
        args.lora,
        args.portrait,
        args.speech,
        tuple(map(int, args.size.split("x"))),
        SamplingConfig(steps=args.steps, seed=args.seed),
        Wish(args.performance),
        device,
        torch.bfloat16 if device.type == "cuda" else torch.float32,
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
