"""Speech and a picture, a prompt or the end of a video in; frames of a video of any length out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from ..gpu.tidy import give_back
from ..parts.wan.schedule import clip_noise
from ..parts.wan.streaming import LatentDecoder, to_uint8_frames
from .config import SIZE_MULTIPLE, SamplingConfig
from .layout import Layout
from .sampler import Prompts, SegmentSampler
from .speakers import speakers
from .speech import SpeechFeatures, speech_windows
from .state import SegmentState
from .transformer import LongCatTransformer, Text

if TYPE_CHECKING:
    from ..parts.wan.vae import WanVAE

Result = TypeVar("Result")
Noise = Callable[[int, tuple[int, ...]], Tensor]
"""The noise of a segment: (its number, shape) -> float32 on the CPU."""
BLOCK_LATENTS = 3
"""Latents whose frames are handed out together, 12 of them: each block becomes a part of a file of its own."""


def nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Scene:
    """Everything that a video is made from.

    With ``past`` it goes on with a video; else it begins with ``picture``; with neither, it is made from text.

    Attributes:
        prompt: states of the text encoder [tokens, text width]; rows of zeros behind them are padding.
        speech: of one speaker or several; its first features belong to the first new frame.
        height, width: of the video, multiples of 16.
        negative: as ``prompt``, what the video shall not show; needed for guidance.
        picture: normalised latent of the portrait [1, 16, 1, h, w].
        past: the last frames of a video, uint8 [frames, H, W, 3], as many as segments overlap or more.
        masks: for several speakers [classes, H, W] in the video's size; see `speakers`.
    """

    prompt: Tensor
    speech: SpeechFeatures
    height: int
    width: int
    negative: Tensor | None = None
    picture: Tensor | None = None
    past: Tensor | None = None
    masks: Tensor | None = None


def generate(
    model: LongCatTransformer,
    vae: WanVAE,
    scene: Scene,
    config: SamplingConfig,
    frames: int,
    device: torch.device,
    *,
    decoder: LatentDecoder | None = None,
    check_interrupt: Callable[[], None] = nothing,
    after_listening: Callable[[], None] = nothing,
    state: SegmentState | None = None,
    noise: Noise | None = None,
    attention8: bool = False,
) -> Iterator[Tensor]:
    """Yield exactly ``frames`` uint8 frames [F, H, W, 3] on the CPU, as they are decoded: 9 first, then up to 12 each.

    One segment is sampled after the other; each goes on from the end of the one before. Memory does not grow with the
    length. When the device runs out of memory while a segment is sampled, it is tidied up and does the segment once
    more.

    Args:
        device: where everything is computed.
        decoder: makes latents into frames in the VAE's place; the VAE still encodes.
        check_interrupt: called before every pass of the network and every decoded latent; raises to stop.
        after_listening: called when a segment's speech was read: whatever encodes it may have taken the models' place.
        state: lets the pass be saved, and go on from where another one was saved.
        noise: by default of ``config.seed`` and the segment's number.
        attention8: attend in 8 bits where there are clean latents; see `kv.eight_bit`.
    """
    segments = Segments(
        model, vae, scene, config, device, check_interrupt, noise, after_listening, attention8
    )
    if state is not None:
        state.attach(segments)
    while segments.done < frames:
        latents, before = _once_more(segments.sample)
        for block in segments.decode(latents, before, decoder or vae):
            yield block[: len(block) - max(0, segments.done - frames)]
            if segments.done >= frames:
                return


def _once_more(work: Callable[[], Result]) -> Result:
    """What ``work`` returns, at the second try if the device's memory runs out in the first."""
    try:
        return work()
    except torch.OutOfMemoryError:
        pass  # outside of this clause the failed work's tensors are gone
    give_back()
    return work()


class Segments:
    """The segments of a video, in turn.

    Attributes:
        number: how many were sampled.
        done: video frames that were decoded.
        left: latents of the last segment that are still to be decoded.
        reference: latent of the person [1, 16, 1, h, w], the same for the whole video; None before a new video's first
            segment.
        frames: the last frames, at most as many as segments overlap, uint8 [F, H, W, 3] on the CPU.
        latents: those that belong to these frames as they were sampled; None where only frames are known.
    """

    def __init__(
        self,
        model: LongCatTransformer,
        vae: WanVAE,
        scene: Scene,
        config: SamplingConfig,
        device: torch.device,
        check_interrupt: Callable[[], None] = nothing,
        noise: Noise | None = None,
        after_listening: Callable[[], None] = nothing,
        attention8: bool = False,
    ) -> None:
        check_scene(scene, config)
        self.vae, self.scene, self.config, self.device = vae, scene, config, device
        self.version, self.check_interrupt = model.config.version, check_interrupt
        self.after_listening = after_listening
        self._noise = noise or (lambda number, shape: clip_noise(shape, config.seed + number))
        self._grid = scene.height // SIZE_MULTIPLE, scene.width // SIZE_MULTIPLE
        several = None
        if scene.speech.speakers > 1:
            masks = scene.masks.to(device)
            several = speakers(masks, scene.speech.speakers, *self._grid, model.config)
        negative = _text(model, scene.negative.to(device)) if config.guided else None
        prompts = Prompts(_text(model, scene.prompt.to(device)), negative)
        self.sampler = SegmentSampler(model, config, prompts, several, device, check_interrupt, attention8)
        self.number = self.done = self.left = 0
        self.latents: Tensor | None = None
        self.reference: Tensor | None = None
        self.frames = torch.empty(0, scene.height, scene.width, 3, dtype=torch.uint8)
        if scene.past is not None:
            self.frames = scene.past[-config.overlap :].cpu()
            known = scene.picture is not None
            self.reference = scene.picture.to(device) if known else self._encode(self.frames[:1])

    def sample(self) -> tuple[Tensor, Tensor | None]:
        """Sample the next segment.

        Returns the latents whose frames come next, float32 [1, 16, n, h, w], and those that a decoder has to see before
        them, if any.
        """
        config = self.config
        shape = (1, self.vae.channels, config.latents, 2 * self._grid[0], 2 * self._grid[1])
        noise, before = self._noise(self.number, shape), None
        start = self.done if self.reference is None else self.done - config.overlap
        windows = speech_windows(self.scene.speech, start, config.frames, self.version.stride)
        self.after_listening()
        if self.reference is not None:
            before = self._encode(self.frames)
            old = self.latents if self.version.old_latents and self.latents is not None else before
            clean = torch.cat((self.reference, old), 2)
            noise = noise[:, :, config.overlap_latents :]
            where = config.reference_position, config.skip_range
            layout = Layout(*self._grid, clean.shape[2], noise.shape[2], *where)
        elif self.scene.picture is not None:
            clean, noise = self.scene.picture.to(self.device), noise[:, :, 1:]
            layout = Layout(*self._grid, 1, noise.shape[2])
        else:
            clean, layout = None, Layout(*self._grid, 0, noise.shape[2])
        prepared = self.sampler.prepare(layout, clean, windows)
        for latents in self.sampler.denoise(noise, prepared):  # noqa: B007 - the last ones count
            pass
        if self.reference is None:
            latents = latents if clean is None else torch.cat((clean.to(latents), latents), 2)
            self.reference = latents[:, :, :1]
        whole = latents if before is None else torch.cat((before, latents), 2)
        self.latents = whole[:, :, -config.overlap_latents :]
        self.number, self.left = self.number + 1, latents.shape[2]
        return latents, before

    def decode(self, latents: Tensor, before: Tensor | None, decoder: LatentDecoder) -> Iterator[Tensor]:
        """Yield the frames of what `sample` gave, block by block, uint8 [F, H, W, 3] on the CPU."""
        stream = decoder.stream()
        if before is not None:
            stream.prime(before)
        for several in latents.split(BLOCK_LATENTS, 2):
            pieces = []
            for latent in several.split(1, 2):
                self.check_interrupt()
                pieces.append(to_uint8_frames(stream(latent)).cpu())
            block = torch.cat(pieces)
            self.frames = torch.cat((self.frames, block))[-self.config.overlap :]
            self.done, self.left = self.done + len(block), self.left - several.shape[2]
            yield block

    def state(self) -> dict[str, Tensor]:
        """What a segment has left for the next one."""
        latents = {"latents": self.latents} if self.version.old_latents else {}
        return {"reference": self.reference, "frames": self.frames, **latents}

    def restore(self, state: Mapping[str, Tensor], number: int, done: int) -> None:
        """Go on behind ``number`` segments and ``done`` frames, where segments of the same video gave ``state``."""
        self.reference, self.frames = state["reference"].to(self.device), state["frames"]
        if self.version.old_latents:
            self.latents = state["latents"].to(self.device)
        self.number, self.done = number, done

    def _encode(self, frames: Tensor) -> Tensor:
        """Normalised latents [1, 16, 1 + k, h, w] of uint8 frames [1 + 4k, H, W, 3]."""
        pixels = frames.permute(3, 0, 1, 2)[None].float() / 127.5 - 1
        return self.vae.encode(pixels).to(self.device)


def check_scene(scene: Scene, config: SamplingConfig) -> None:
    """ValueError for what does not fit together, before anything is computed."""
    if scene.height % SIZE_MULTIPLE or scene.width % SIZE_MULTIPLE:
        raise ValueError(
            f"Choose a width and height in multiples of {SIZE_MULTIPLE}: {scene.width}x{scene.height} is not."
        )
    if scene.past is not None and len(scene.past) < config.overlap:
        raise ValueError(
            f"Give at least {config.overlap} frames to go on from: the video has {len(scene.past)}."
        )
    if scene.past is not None and scene.past.shape[1:3] != (scene.height, scene.width):
        raise ValueError(
            f"Resize the frames to go on from to {scene.width}x{scene.height}: they are "
            f"{scene.past.shape[2]}x{scene.past.shape[1]}."
        )
    if scene.speech.count < 1:
        raise ValueError("Give a sound that is not empty.")
    if config.guided and scene.negative is None:
        raise ValueError("Give a negative prompt, be it an empty one: guidance compares with it.")
    if scene.speech.speakers < 2:
        return
    if scene.masks is None:
        raise ValueError(
            f"Give masks: {scene.speech.speakers} people speak, but nobody knows where they are."
        )
    if scene.picture is None and scene.past is None:
        raise ValueError("Give a picture: several speakers are told apart by where they are in it.")


def _text(model: LongCatTransformer, states: Tensor) -> Text:
    """A prompt with its padding, up to the length that the model reads."""
    states = states[: model.config.model_max_length]
    filled = states.any(1).nonzero()
    words = int(filled[-1]) + 1 if len(filled) else 0
    with torch.inference_mode():
        return model.encode_text(states[:words], model.config.model_max_length - words)
