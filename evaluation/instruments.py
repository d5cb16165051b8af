"""What a measurement may use: pictures, boxes and networks that somebody has given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ..engines.parts.face.boxes import FaceFinder
from ..media.sound import MonoSound
from .faces import Regions
from .metric import Layout
from .readers.dino import Dino
from .readers.quality import Judge
from .readers.syncnet_network import SyncNet, load_syncnet
from .readers.voice import Speaker, Writer

REMEDIES = {
    "face": "No face was found in the first frames; give its box with --face.",
    "finder": (
        "Give --face the box of the face, or install opencv-python-headless and give --yunet its face detector."
    ),
    "dino": "Give --dino a folder of facebook/dinov2-base (350 MB).",
    "syncnet": "Give --syncnet the file syncnet_v2.model (54 MB).",
    "speaker": "Give --speaker a folder of microsoft/wavlm-base-plus-sv (400 MB).",
    "writer": "Give --whisper a folder of openai/whisper-small (970 MB).",
    "qalign": "Give --qalign a Python with transformers 4.37, and --qalign-model q-future/one-align (16 GB).",
    "reference": "Give --reference the portrait.",
    "voice": "Give the voice that should be heard in subjects.json.",
    "text": "Give the text that should be said in subjects.json.",
    "language": "Give the language that should be spoken in subjects.json.",
    "layout": "Give --blocks the frames per block, per latent and the first block's first frame, such as 12,4,9.",
    "made": "Nothing is known of how the video was made: Measure Stream and genbench write it down.",
    "sound": "The video has no sound.",
}
"""What to do at the command line about something that is missing, in one sentence."""


@dataclass(frozen=True)
class Subject:
    """What is known about one video beforehand.

    Attributes:
        reference: the portrait ``[H, W, 3]``, uint8.
        voice: the voice that should be heard, mono at 16 kHz.
        made: frames that were done at seconds since the start, as pairs.
    """

    reference: Tensor | None = None
    regions: Regions | None = None
    layout: Layout | None = None
    voice: MonoSound | None = None
    text: str | None = None
    language: str | None = None
    made: tuple[tuple[float, int], ...] = ()


@dataclass(frozen=True)
class Instruments:
    """Networks and finders; what is None is not used, and ``remedies`` says how to get it."""

    finder: FaceFinder | None = None
    dino: Dino | None = None
    syncnet: SyncNet | None = None
    speaker: Speaker | None = None
    writer: Writer | None = None
    qalign: Judge | None = None
    remedies: Mapping[str, str] = field(default_factory=lambda: REMEDIES)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def load_instruments(
    paths: Mapping[str, Path | None], device: torch.device, finder: FaceFinder | None
) -> Instruments:
    """The networks of "dino", "syncnet", "speaker" and "whisper".

    Raises:
        FileNotFoundError, ValueError: a path that was given holds no such network. Nothing takes its place.
    """
    given = {name: path for name, path in paths.items() if path is not None}
    return Instruments(
        finder=finder,
        dino=Dino(given["dino"], device) if "dino" in given else None,
        syncnet=load_syncnet(given["syncnet"]).to(device) if "syncnet" in given else None,
        speaker=Speaker(given["speaker"], device) if "speaker" in given else None,
        writer=Writer(given["whisper"], device) if "whisper" in given else None,
        device=device,
    )
