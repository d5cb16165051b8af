"""LiveAvatar without ComfyUI: the models of a folder, kept for one video after another."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from ..engines.liveavatar.condition import encode_reference
from ..engines.liveavatar.config import SamplingConfig
from ..engines.liveavatar.speech_source import nothing
from ..engines.parts.planning.plan import NO_WISH, Wish
from ..engines.parts.wan.vae import WanVAE
from ..loaders.liveavatar.conditioning import Condition
from ..loaders.liveavatar.folder_model import FolderModel
from ..loaders.wan.text import TextEncoder
from ..loaders.wan.vae import OwnVAE, load_vae
from ..loaders.wan.wav2vec2 import AudioEncoder
from ..media.frames import AvatarStream
from ..media.portrait import prepare_portrait
from ..media.speech import LiveSpeech, Speech
from .liveavatar import Inputs, open_video

logger = logging.getLogger(__name__)

PROMPT = "A person looks into the camera and talks."
SPEECH_ENCODER = "wav2vec2-large-xlsr-53-english"
PROMPTS_KEPT = 64


class FolderAvatar:
    """A checkpoint folder in the layout of Wan-AI/Wan2.2-S2V-14B as an avatar, for one video at a time.

    The text encoder stays in CPU memory, because a new prompt is rare and the encoder large (11 GB); what it has made
    of the last prompts is kept.

    Args:
        lora: a file of LiveAvatar's LoRA, which is merged in.
        device, dtype: where and in which precision transformer, VAE and speech encoder compute.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or another model's.
    """

    def __init__(self, checkpoint: Path, lora: Path | None, device: torch.device, dtype: torch.dtype) -> None:
        self.model = FolderModel(checkpoint, device, dtype, lora)
        self.vae = OwnVAE(WanVAE(load_vae(checkpoint / "Wan2.1_VAE.pth", dtype)), device)
        self.speech_encoder = AudioEncoder.from_folder(checkpoint / SPEECH_ENCODER, device, dtype)
        self._prompt = lru_cache(PROMPTS_KEPT)(TextEncoder.from_folder(checkpoint).encode)

    def open(
        self,
        picture: Tensor,
        speech: Speech | LiveSpeech,
        size: tuple[int, int],
        config: SamplingConfig,
        wish: Wish = NO_WISH,
        prompt: str = PROMPT,
        max_seconds: float = 0.0,
        *,
        check_interrupt: Callable[[], None] = nothing,
        say: Callable[[str], None] = logger.info,
    ) -> AvatarStream:
        """The stream of a video; to be called, and read, without gradients.

        Args:
            picture: the portrait, IMAGE [1, H, W, C] with values 0 to 1.
            speech: with ``speech_encoder`` as its encoder.
            size: (width, height) of the video in pixels, multiples of 64.
            config, wish, max_seconds, check_interrupt, say: as in `open_video`.

        Raises:
            ValueError: the inputs do not fit together, or the wish asks for what this machine cannot do.
            MemoryError: nothing that the wish allows fits.
        """
        width, height = size
        prepared = prepare_portrait(picture, height, width).permute(0, 3, 1, 2)[:, :, None] * 2 - 1
        reference, motion = encode_reference(self.vae.load(), prepared)
        condition = Condition(
            context=self._prompt(prompt),
            reference=self.vae.vae.denormalise(reference),
            motion=self.vae.vae.denormalise(motion),
            pose=None,
        )
        inputs = Inputs(
            self.model, self.vae, condition, speech, negative=self._prompt("") if config.guided else None
        )
        return open_video(inputs, config, wish, max_seconds, check_interrupt=check_interrupt, say=say)
