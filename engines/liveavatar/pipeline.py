"""Speech and a portrait in, blocks of video frames out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ..parts.kv.cache import CacheFormat
from ..parts.planning.performance import RESIDENT, Performance
from ..parts.wan.geometry import TEMPORAL_STRIDE
from ..parts.wan.streaming import LatentDecoder
from .condition import PRE_ROLL_FRAMES, PRIME_LATENTS, pose_block
from .config import BLOCK_FRAMES, BLOCK_LATENTS, SamplingConfig
from .decoding import Decoding
from .fallback import Fallback
from .guidance import GuidedSampler
from .moods import NEUTRAL
from .sampler import BlockSampler
from .speakers import routing_masks
from .speech_source import SpeechSource, nothing
from .state import GenerationState
from .transformer import S2VTransformer


@dataclass(frozen=True)
class Scene:
    """Everything that a video is made from; latents are normalised.

    Attributes:
        context: text embedding of the prompt [tokens, text_dim].
        reference: latent of the portrait [1, 16, 1, h, w].
        motion: latents of the whole motion history [1, 16, frames, h, w]; see `condition.encode_reference`.
        negative: with guidance, text embedding of what the video shall not show [tokens, text_dim].
        speech: features of the sound behind 0.12 s of silence (the pre-roll), so that picture and sound start
            together.
        pose: latents of a pose video, 3 per block; see `condition.encode_pose`.
        masks: for several speakers, which pixels are whose [speakers, frames or 1, H, W].
        moods: text embeddings of further prompts, by name.
        mood_of: says by which prompt a block is made; asked once, when the block's speech is there.
    """

    context: Tensor
    reference: Tensor
    motion: Tensor
    speech: SpeechSource
    pose: Tensor | None = None
    masks: Tensor | None = None
    moods: Mapping[str, Tensor] = field(default_factory=dict)
    mood_of: Callable[[int], str] = lambda block: NEUTRAL
    negative: Tensor | None = None

    def on(self, device: torch.device) -> Scene:
        """The same with its latents and its prompt on another device."""
        pose = None if self.pose is None else self.pose.to(device)
        latents = {"reference": self.reference.to(device), "motion": self.motion.to(device), "pose": pose}
        return replace(self, context=self.context.to(device), **latents)

    def pose_of(self, block: int) -> Tensor | None:
        """A block's pose latents [1, 16, 3, h, w]."""
        return None if self.pose is None else pose_block(self.pose, block)

    def masks_of(self, block: int, rows: int, columns: int) -> Tensor | None:
        """Routing masks of a block's latent frames [speakers, 3, rows, columns], each from its middle video frame."""
        if self.masks is None:
            return None
        first = block * BLOCK_LATENTS
        middle = torch.arange(first, first + BLOCK_LATENTS) * TEMPORAL_STRIDE + TEMPORAL_STRIDE // 2
        indices = (middle - PRE_ROLL_FRAMES).clamp(0, self.masks.shape[1] - 1)
        return routing_masks(self.masks[:, indices], rows, columns)


def block_count(frames: int) -> int:
    """Blocks that are generated for a video of ``frames`` frames."""
    return -(-(frames + PRE_ROLL_FRAMES) // BLOCK_FRAMES)


def generate(
    model: S2VTransformer,
    vae: LatentDecoder,
    scene: Scene,
    config: SamplingConfig,
    frames: int | None,
    check_interrupt: Callable[[], None] = nothing,
    after_encoding: Callable[[], None] = nothing,
    state: GenerationState | None = None,
    performance: Performance = RESIDENT,
    say: Callable[[str], None] = logging.warning,
) -> Iterator[Tensor]:
    """Yield uint8 frames [F, H, W, 3] on the CPU, block by block: 9 frames first, then 12 each.

    The last block may reach beyond ``frames``; the consumer trims it. None goes on until the speech ends, which
    only live speech does; a block whose silence the speech takes back is done anew. Memory does not grow with the
    length. ``after_encoding``: see `SpeechSource.blocks`. ``vae`` only decodes here, so a `FastDecoder` may stand in
    for it. ``state`` lets the pass be saved, and go on from where another one was saved. ``performance`` says how the
    caches are kept; when the device runs out of memory they go to CPU memory once, and ``say`` is told. With
    ``performance.ahead`` frames come when the first step of the next block has been asked for; an error in that block
    comes after them.
    """
    given = {
        "context": scene.context,
        "reference": scene.reference,
        "motion": scene.motion,
        "moods": scene.moods,
        "check_interrupt": check_interrupt,
        "performance": performance,
        "say": say,
    }
    if config.guided:
        sampler = GuidedSampler(model, config, negative=scene.negative, **given)
    else:
        sampler = BlockSampler(model, config, **given)
    decoder = vae.stream()
    decoder.prime(scene.motion[:, :, :PRIME_LATENTS])
    first = 0 if state is None else state.attach([sampler], decoder)
    attempt = Fallback(sampler, decoder, CacheFormat.INT8 if performance.fp8 else CacheFormat.MODEL, say)
    ahead = performance.ahead and frames is not None  # live speech has no next block yet while one is decoded
    decoding = Decoding(decoder, attempt, beside=sampler.device if ahead else None)
    last = None if frames is None else block_count(frames)
    with closing(scene.speech.blocks(first, after_encoding)) as speech:
        try:
            while sampler.block_index != last and (features := next(speech, None)) is not None:
                # Not before: an audio encoder may have taken the place of the decoder's weights.
                decoding.begin()
                block = sampler.block_index
                shown = scene.pose_of(block), scene.masks_of(block, len(sampler.rows), len(sampler.columns))
                mood = scene.mood_of(block)
                for latents in attempt.each(sampler.denoise, features, *shown, None, mood):  # noqa: B007 - the last ones count
                    # The device has a step to do while somebody takes the frames.
                    yield from decoding.frames()
                    if sampler.block_index == block and scene.speech.take_back(sampler.wait):
                        sampler.begin_again()
                        break
                else:
                    decoding.put(block, latents)
                    # Nobody shall wait for the first frames, nor for those that live speech has just asked for.
                    if block == first or not ahead:
                        yield from decoding.frames()
        finally:
            # The last ones, and those that are done when an error comes; none when the stream is closed.
            yield from decoding.frames()
