"""Streaming video autoencoder: Wan 2.1's causal VAE, in normalised latent space.

The layers are diffusers' ``AutoencoderKLWan``. Its own ``encode`` and ``decode`` keep the feature caches of
the causal convolutions on the model and clear them on every call, so a video can only be decoded in one
piece. Here each encode call and each `StreamingDecoder` owns its caches and hands them to the encoder
or decoder.
"""

from __future__ import annotations

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from ...gpu.replica import replica
from ...gpu.swap import replace_layers
from .geometry import SPATIAL_STRIDE, TEMPORAL_STRIDE
from .streaming import Cache, StreamingDecoder
from .vae_layers import LAYERS, lay_out_for_gpu
from .vae_steps import Step, decoder_steps, encoder_steps, needs, prime, run, slots


class WanVAE:
    """Encoding and (streaming) decoding between pixels in [-1, 1] and normalised latents.

    Device and dtype follow the model's parameters at the time of each call, so a host may move the model
    between calls. Inputs may lie anywhere; they are moved chunk by chunk. Results lie on the model's device
    in float32.

    A bfloat16 or float16 model works. Normalisation, its constants and clamping are float32 in any case,
    whereas the reference rounds mean, std and 1/std to bfloat16 with the weights, which alone shifts its
    latents by 0.2% on average and 1% at most. Tiling and slicing switches of the model are not used.

    Raises ValueError for another autoencoder than Wan 2.1's (16 channels, 8x smaller in space).
    """

    def __init__(self, model: AutoencoderKLWan) -> None:
        config = model.config
        # Wan 2.2's autoencoder is the same class with residual shortcuts; older versions lack the entry.
        if getattr(config, "is_residual", False) or len(config.latents_mean) != config.z_dim:
            raise ValueError(
                f"this autoencoder has {config.z_dim} latent channels and is not Wan 2.1's; "
                "use the 16-channel Wan2.1_VAE.pth (wan_2.1_vae.safetensors)"
            )
        self.model = replace_layers(model, LAYERS)
        self.channels: int = config.z_dim
        self._spread = torch.tensor([config.latents_mean, config.latents_std], dtype=torch.float32)
        self._spread = self._spread.view(2, 1, -1, 1, 1, 1)
        self._encoder, self._decoder = encoder_steps(model.encoder), decoder_steps(model.decoder)
        self._needs = needs(self._decoder)
        self.slots: int = slots(self._decoder)

    @property
    def device(self) -> torch.device:
        """The one device of all weights; RuntimeError when they are spread over several."""
        devices = {parameter.device for parameter in self.model.parameters()}
        if len(devices) != 1:
            names = ", ".join(sorted(map(str, devices)))
            raise RuntimeError(
                f"the VAE's weights are spread over {names}; load the whole VAE onto one device first"
            )
        return devices.pop()

    @property
    def dtype(self) -> torch.dtype:
        """The dtype that the layers compute in."""
        return self.model.decoder.conv_in.weight.dtype

    def normalise(self, raw: Tensor) -> Tensor:
        """Raw latents as in a ComfyUI LATENT [B,16,f,h,w] -> normalised (z - mean) / std, float32."""
        mean, std = self._mean_and_std(raw.device)
        return (raw.float() - mean) / std

    def denormalise(self, latents: Tensor) -> Tensor:
        """Normalised latents [B,16,f,h,w] -> raw latents as in a ComfyUI LATENT, float32."""
        mean, std = self._mean_and_std(latents.device)
        return latents.float() * std + mean

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Encode a video [B,3,F,H,W] in [-1,1], F = 1 + 4k -> normalised latents [B,16,1+k,H/8,W/8] (mean, no
        noise).

        ValueError when F is not 1 + 4k or the sides are not multiples of 8.
        """
        _check_pixels(pixels)
        self._lay_out()
        frames = pixels.shape[2]
        cache: Cache = [None] * slots(self._encoder)
        starts = [0, *range(1, frames, TEMPORAL_STRIDE)]
        ends = [*range(1, frames, TEMPORAL_STRIDE), frames]
        chunks = [self._encode_chunk(pixels[:, :, a:b], cache) for a, b in zip(starts, ends, strict=True)]
        return torch.cat(chunks, dim=2)

    @torch.no_grad()
    def encode_still(self, image: Tensor, frames: int) -> Tensor:
        """Encode one image [B,3,1,H,W] shown for ``frames`` = 1 + 4k frames -> [B,16,1+k,H/8,W/8].

        Equal to ``encode`` of the repeated image bit for bit, without building that video and with less work: a step
        of the encoder that gets the same input in the same state as for the chunk before is not run again. The first
        ones settle after three chunks, the last one after 29.
        """
        if image.ndim != 5 or image.shape[2] != 1:
            raise ValueError(f"a still image must be [B, 3, 1, H, W], not {list(image.shape)}")
        _check_pixels(image)
        _check_frames(frames)
        self._lay_out()
        image = image.to(self.device, self.dtype)
        count = 1 + (frames - 1) // TEMPORAL_STRIDE
        cache: Cache = [None] * slots(self._encoder)
        latents, chunk = [self._encode_chunk(image, cache)], image.expand(-1, -1, TEMPORAL_STRIDE, -1, -1)
        settling, hidden = _Settling(), None
        while len(latents) < count:
            before, hidden = hidden, settling.run(self._encoder, chunk, cache)
            if hidden is before:
                latents += [latents[-1]] * (count - len(latents))
            else:
                latents.append(self._to_latents(hidden))
        return torch.cat(latents, dim=2)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents [B,16,f,h,w] -> pixels [B,3,1+4(f-1),8h,8w], clamped to [-1,1],
        float32."""
        return self.stream()(latents)

    def stream(self) -> StreamingDecoder:
        """A decoder at the beginning of a video, independent of all others and of encode calls."""
        self._lay_out()
        return StreamingDecoder(self)

    def on(self, device: torch.device) -> WanVAE:
        """A copy with all weights on another device."""
        self._lay_out()
        return replica(self, self.device, device, self.model)

    def decode_next(self, latent: Tensor, past: Cache, done: int) -> tuple[Tensor, Cache]:
        """See `LatentDecoder`; the pixels are in the model's dtype."""
        past = list(past)
        return run(self._decoder, self._to_model(latent), past), past

    def prime_next(self, latent: Tensor, past: Cache, done: int, left: int) -> Cache:
        """See `LatentDecoder`; what only pixels depend on is not computed."""
        past = list(past)
        prime(self._decoder, self._needs, self._to_model(latent), past, left)
        return past

    def _to_model(self, latent: Tensor) -> Tensor:
        raw = self.denormalise(latent.to(self.device)).to(self.dtype).contiguous()
        return self.model.post_quant_conv(raw)

    def _mean_and_std(self, device: torch.device) -> Tensor:
        # Kept where they were used last: to bring them to a GPU waits for all that it has to do.
        if self._spread.device != device:
            self._spread = self._spread.to(device)
        return self._spread

    def _lay_out(self) -> None:
        # cuDNN's convolutions want it so and would otherwise convert each input.
        if self.device.type == "cuda":
            lay_out_for_gpu(self.model)

    def _encode_chunk(self, pixels: Tensor, cache: Cache) -> Tensor:
        return self._to_latents(run(self._encoder, pixels.to(self.device, self.dtype), cache))

    def _to_latents(self, hidden: Tensor) -> Tensor:
        return self.normalise(self.model.quant_conv(hidden)[:, : self.channels])


class _Settling:
    """Runs chunks that are all the same through steps, and leaves out those that have nothing new to see."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Tensor, Cache, Tensor]] = {}

    def run(self, steps: list[Step], x: Tensor, cache: Cache) -> Tensor:
        """`vae_steps.run`; gives the very tensor of the chunk before where it would be equal."""
        for number, step in enumerate(steps):
            before = cache[step.slots]
            seen, state, result = self._last.get(number, (None, None, None))
            if seen is not x or not _same(state, before):
                part = list(before)
                result = step.run(x, part)
                cache[step.slots] = part
                self._last[number] = x, before, result
            x = result
        return x


def _check_pixels(pixels: Tensor) -> None:
    if pixels.ndim != 5 or pixels.shape[1] != 3:
        raise ValueError(f"pixels must be [B, 3, F, H, W], not {list(pixels.shape)}")
    height, width = pixels.shape[3:]
    if height % SPATIAL_STRIDE or width % SPATIAL_STRIDE:
        raise ValueError(f"height and width must be multiples of {SPATIAL_STRIDE}, not {height}x{width}")
    _check_frames(pixels.shape[2])


def _check_frames(frames: int) -> None:
    if frames < 1 or (frames - 1) % TEMPORAL_STRIDE:
        raise ValueError(f"the number of frames must be 1 + 4k (1, 5, 9, ...), not {frames}")


def _same(before: list, after: list) -> bool:
    return all(
        a is b or (a is not None and b is not None and torch.equal(a, b))
        for a, b in zip(before, after, strict=True)
    )
