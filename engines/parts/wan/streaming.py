"""Decoding a video latent by latent: what every decoder offers, and the stream over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

import torch
from torch import Tensor

from .geometry import TEMPORAL_STRIDE

Cache = list[Tensor | None]
"""The past that a decoder's convolutions hand on from latent to latent, by slot."""
Snapshot = tuple[Cache, tuple[int, ...] | None, int]
"""A decoder's past, the size of its latents, and their number so far; see `StreamingDecoder.snapshot`."""


class LatentDecoder(Protocol):
    """Turns normalised latents into pixels, one latent frame after the other: `WanVAE`, or a `FastDecoder`.

    Attributes:
        channels: of the latents.
        slots: entries of the ``past`` that `decode_next` hands on, all None at first.
    """

    channels: int
    slots: int

    @property
    def device(self) -> torch.device: ...

    def stream(self) -> StreamingDecoder:
        """A decoder at the beginning of a video."""

    def on(self, device: torch.device) -> LatentDecoder:
        """A copy with all weights on another device."""

    def decode_next(self, latent: Tensor, past: list, done: int) -> tuple[Tensor, list]:
        """Unclamped pixels of one latent frame [B,16,1,h,w], and the past after it; ``done`` latents came before.

        The first latent of a video gives 1 frame, all others 4. Entries of the past are replaced, never changed.
        """

    def prime_next(self, latent: Tensor, past: list, done: int, left: int) -> list:
        """The past after one latent frame whose pixels nobody wants; ``left`` such frames are still to come, this one
        included."""


class StreamingDecoder:
    """Decodes one video piece by piece; the pieces joined equal a full decode bit for bit.

    Holds what the decoder hands on (of Wan's VAE the last two frames of each causal convolution's input): its memory
    depends on the frame size, not on the length of the video. Get one from `LatentDecoder.stream`. When a call
    fails (out of memory, say) the state is the one after the last latent frame decoded completely.
    """

    def __init__(self, vae: LatentDecoder) -> None:
        self._vae = vae
        self._cache: Cache = [None] * vae.slots
        self._shape: tuple[int, ...] | None = None
        self._latents = 0

    @property
    def started(self) -> bool:
        """Whether a latent was decoded already, so that the next one gives 4 frames instead of 1."""
        return self._shape is not None

    @property
    def latents(self) -> int:
        """Latents decoded so far, those of ``prime`` included."""
        return self._latents

    def state(self) -> dict[str, Tensor]:
        """The past on which the next latent depends, as views; for decoders that have decoded three or more."""
        state = {}
        for index, entry in enumerate(self._cache):
            if entry is not None:
                # Kernels are chosen by the order in memory, which a file does not keep.
                last = not entry.is_contiguous() and entry.is_contiguous(memory_format=torch.channels_last_3d)
                name = f"decoder.{index}" + (".channels_last" if last else "")
                state[name] = entry.permute(0, 2, 3, 4, 1) if last else entry
        return state

    def restore(self, state: Mapping[str, Tensor], latents: int) -> None:
        """Go on where a decoder, primed as this one was, has given this state after ``latents`` latents."""
        for name in state:
            part, _, place = name.partition(".")
            if part == "decoder":
                index, _, last = place.partition(".")
                entry = state[name].to(self._vae.device)
                self._cache[int(index)] = entry.permute(0, 4, 1, 2, 3) if last else entry
        self._latents = latents

    def snapshot(self) -> Snapshot:
        """The place of the stream, for `rewind`; it takes no memory of its own while the stream stays there."""
        return list(self._cache), self._shape, self._latents

    def rewind(self, snapshot: Snapshot) -> None:
        """Go back to where `snapshot` was taken."""
        cache, self._shape, self._latents = snapshot
        self._cache = list(cache)

    def go_to(self, vae: LatentDecoder) -> None:
        """Go on with a decoder of the same weights on another device, to which the past is copied."""
        self._cache = [None if x is None else x.to(vae.device, non_blocking=True) for x in self._cache]
        self._vae = vae

    @torch.no_grad()
    def prime(self, latents: Tensor) -> None:
        """See normalised latents [B,16,f,h,w] that precede the video: afterwards the state is as if they had been
        decoded. What only pixels of theirs depend on is not computed."""
        for index, latent in enumerate(self._each(latents)):
            left = latents.shape[2] - index
            self._cache = self._vae.prime_next(latent, self._cache, self._latents, left)

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """Decode the next normalised latents [B,16,f,h,w] -> [B,3,4f,8h,8w], clamped to [-1,1], float32.

        The first latent of an unprimed stream gives 1 frame instead of 4. ValueError when batch or size
        change within a stream.
        """
        total = TEMPORAL_STRIDE * latents.shape[2] - (0 if self.started else TEMPORAL_STRIDE - 1)
        video, end = None, 0
        for latent in self._each(latents):
            frames, self._cache = self._vae.decode_next(latent, self._cache, self._latents)
            if video is None:
                batch, channels, _, height, width = frames.shape
                video = torch.empty(batch, channels, total, height, width, device=frames.device)
            video[:, :, end : end + frames.shape[2]] = frames
            end += frames.shape[2]
        return video.clamp_(-1, 1)

    def _each(self, latents: Tensor) -> Iterator[Tensor]:
        """The latent frames in turn; when the caller asks for the next one, the last one counts."""
        vae = self._vae
        if latents.ndim != 5 or latents.shape[1] != vae.channels or latents.shape[2] < 1:
            raise ValueError(f"latents must be [B, {vae.channels}, f, h, w], not {list(latents.shape)}")
        shape = (latents.shape[0], *latents.shape[3:])
        if self._shape not in (None, shape):
            raise ValueError(
                f"this stream decodes batch, height, width {list(self._shape)} and cannot go on with "
                f"{list(shape)}; start another stream"
            )
        for latent in latents.split(1, dim=2):
            yield latent
            self._shape = shape
            self._latents += 1


def to_uint8_frames(pixels: Tensor) -> Tensor:
    """Pixels [1,3,F,H,W] in [-1,1] -> uint8 frames [F,H,W,3] on the same device, rounded (the reference
    truncates)."""
    if pixels.ndim != 5 or pixels.shape[:2] != (1, 3):
        raise ValueError(f"pixels must be [1, 3, F, H, W], not {list(pixels.shape)}")
    levels = (pixels[0].float() + 1).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)
    return levels.permute(1, 2, 3, 0).contiguous()
