"""Block-wise causal sampling: one block of latent frames after the other, at constant memory."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from ..gpu.chain import on
from ..gpu.graphs import CaptureError
from ..gpu.transfer import send
from ..parts import regions
from ..parts.kv.cache import CacheFormat
from ..parts.kv.packed import make_caches, move_to_cpu
from ..parts.planning.performance import RESIDENT, Performance
from ..parts.wan.rope import RotaryEmbedding, Rotation, concatenate
from ..parts.wan.schedule import Schedule, clip_noise
from .audio_injection import SpeechTokens
from .captured import CapturedSteps
from .config import BLOCK_LATENTS, SamplingConfig
from .costs import cache_shape
from .framepack import motion_rotation
from .moods import NEUTRAL, Prompts
from .transformer import S2VTransformer, TextKV

PREFILL_TIME = 30
"""Temporal position of the reference while the condition is prefilled, and until the video catches up with it."""
LAYERS_PER_PIECE = 10
"""Layers of a forward pass between two pauses."""
CALLED = "From here on steps are called one by one."
MOVED = f"ComfyUI moved the model's weights, which CUDA graphs cannot follow. {CALLED}"


@dataclass(frozen=True)
class BlockInputs:
    """What all denoising steps of one block share, as `S2VTransformer` takes it."""

    text: list[TextKV]
    speech: list[SpeechTokens | None]
    rotation: Rotation
    start: int
    pose: Tensor
    speaker_mask: Tensor | None


class BlockSampler:
    """Generates the latents of a talking video block by block.

    The state is the caches, the number of blocks done and the first generated frame; none of it grows. Caches are
    kept per denoising step, so the steps of a video can be shared among several samplers, each on its own device:
    together they give, bit for bit, what one sampler gives (LiveAvatar, section 3.3).

    Attributes:
        steps: the denoising steps that this sampler does, counted from 0 over all samplers.
        caches: for each of them its cache.
        block_index: number of blocks done.
        first_latent: the first generated latent frame [1, 16, 1, h, w], which becomes the reference at the second
            clip. A sampler that does not do the last step has to be given it before.

    Args:
        model: the transformer; its device and dtype are used throughout.
        config: steps, seed, window and sink.
        context: text embedding of the prompt [tokens, text_dim].
        moods: those of further prompts, by name, with which blocks can be made; see `denoise`.
        reference: normalised latent of the reference image [1, 16, 1, h, w].
        motion: normalised latents of the motion history [1, 16, frames, h, w]; the last 19 count.
        check_interrupt: called before every forward pass; raises to stop the run.
        performance: how the caches are kept, and whether steps are CUDA graphs; the rest of it concerns the model.
        steps: consecutive denoising steps to do; None for all.
        pause: called before every forward pass and after every `LAYERS_PER_PIECE` layers of it.
        prefilled: False for a sampler that `set_conditions` shall prefill together with others.
        say: told in one sentence when steps cannot be CUDA graphs any more.

    Raises:
        ValueError: steps are to be CUDA graphs where there are none.
    """

    def __init__(
        self,
        model: S2VTransformer,
        config: SamplingConfig,
        *,
        context: Tensor,
        reference: Tensor,
        motion: Tensor,
        moods: Mapping[str, Tensor] = MappingProxyType({}),
        check_interrupt: Callable[[], None] = lambda: None,
        performance: Performance = RESIDENT,
        steps: range | None = None,
        pause: Callable[[], None] | None = None,
        prefilled: bool = True,
        say: Callable[[str], None] = logging.warning,
    ) -> None:
        self.model, self.config, self.check_interrupt = model, config, check_interrupt
        self._pause, self._say = pause, say
        self.device = reference.device
        self.schedule = Schedule(config.steps, config.shift, config.skip_last_step)
        self.steps = range(len(self.schedule)) if steps is None else steps
        self.rope = RotaryEmbedding(model.config.head_dim, config.half_precision_rope)
        self.height, self.width = reference.shape[-2:]
        self.rows, self.columns = range(self.height // 2), range(self.width // 2)
        self.block_index = 0
        self.first_latent: Tensor | None = None
        self._clip: int | None = None
        self._placed: tuple[int, Tensor] | None = None
        with torch.inference_mode():
            self.still = model.encode_time(0.0, self.device)
            timesteps = self.schedule.timesteps.tolist()
            self.times = {step: model.encode_time(timesteps[step], self.device) for step in self.steps}
            self.prompts = Prompts(model, context, moods, self.device)
            shape = cache_shape(model.config, self.height, self.width, config)
            size = (shape.layers, shape.reference_tokens, shape.heads, shape.head_dim)
            self._reference_keys = torch.empty(size, device=self.device, dtype=model.dtype)
            caches = make_caches(
                shape,
                len(self.steps),
                self.device,
                model.dtype,
                performance.caches,
                performance.caches_on_cpu,
            )
        self.caches = dict(zip(self.steps, caches, strict=True))
        self._captured = CapturedSteps(self._forward, model, self.device) if performance.graphs else None
        self.motion = motion
        if prefilled:
            self.set_condition(reference, motion)

    def set_condition(self, reference: Tensor, motion: Tensor) -> None:
        """Prefill the condition part of all caches; the rolling part and the time positions go on."""
        set_conditions([self], reference, motion)

    def condition_store(self) -> Callable[[int, Tensor, Tensor], None]:
        """What keeps the condition's keys and values, as `S2VTransformer.prefill` hands them out, on any device."""
        rotation = self.condition_rotation()
        reference_tokens = self._reference_keys.shape[1]

        def store(layer: int, k: Tensor, v: Tensor) -> None:
            with on(self.device):
                k, v = (x.to(self.device, non_blocking=True) for x in (k, v))
                self._reference_keys[layer] = k[0, :reference_tokens]
                rotated = regions.rotate(k, rotation)
                for cache in self.caches.values():
                    cache.set_condition(layer, rotated, v)

        self._placed = None
        for cache in self.caches.values():
            cache.reference_time = PREFILL_TIME
        return store

    def condition_rotation(self) -> Rotation:
        """Rotations of reference and motion tokens during the prefill."""
        motion = motion_rotation(self.rope, len(self.rows), len(self.columns), self.device)
        return concatenate([self._reference_rotation(PREFILL_TIME), motion])

    @torch.inference_mode()
    def prepare_block(
        self,
        features: Tensor,
        pose: Tensor | None = None,
        speaker_mask: Tensor | None = None,
        mood: str = NEUTRAL,
    ) -> BlockInputs:
        """Everything of the next block that its steps share.

        Args:
            features: wav2vec2 features of its 12 video frames [speakers, layers, audio_dim, 12].
            pose: latents of the pose video [1, 16, 3, h, w].
            speaker_mask: where each speaker is heard [speakers, 3, h / 2, w / 2]; needed for more than one.
            mood: the prompt: NEUTRAL, or one of ``moods``. The portrait's keys and values stay those of NEUTRAL.
        """
        if features.shape[0] > 1 and speaker_mask is None:
            raise ValueError(
                f"{features.shape[0]} speakers need a mask each that says which part of the picture is theirs."
            )
        start = self.block_index * BLOCK_LATENTS
        if pose is None:  # a clip of zeros, but the bias of their projection is part of the model
            pose = torch.zeros(
                1, self.model.config.cond_dim, BLOCK_LATENTS, self.height, self.width, device=self.device
            )
        return BlockInputs(
            text=self.prompts.of(mood),
            speech=self.model.encode_speech(send(features, self.device)),
            rotation=self.rope.grid(
                range(start, start + BLOCK_LATENTS), self.rows, self.columns, self.device
            ),
            start=start,
            pose=self.model.encode_pose(send(pose, self.device)),
            speaker_mask=None
            if speaker_mask is None
            else send(speaker_mask.flatten(1)[..., None], self.device),
        )

    @torch.inference_mode()
    def predict(self, inputs: BlockInputs, latents: Tensor, step: int) -> Tensor:
        """Flow of the current block at denoising step ``step``, one of ``steps``; writes the block's keys and values
        into that step's cache."""
        self.check_interrupt()
        cache = self.caches[step]
        cache.advance()
        time = self.reference_time(inputs.start, step)
        if time != cache.reference_time:
            cache.place_reference(time, self._rotated_reference(time))
        if self._pause is not None:
            self._pause()
        # Prompts of moods do not stay on the device.
        own = inputs.text is self.prompts.own
        if self._captured is None or not own or not self._sees_full_window():
            return self._forward(step, latents, inputs, self._pause)
        try:
            flow = self._captured(step, cache.shape.slot(cache.blocks), latents, inputs)
        except CaptureError as error:
            self._captured = None
            self._say(f"{error} {CALLED}")
            return self._forward(step, latents, inputs, self._pause)
        if self._captured.moved:  # and probably will be again
            self._captured = None
            self._say(MOVED)
        return flow

    def _forward(
        self, step: int, latents: Tensor, inputs: BlockInputs, pause: Callable[[], None] | None = None
    ) -> Tensor:
        attend = self.caches[step].attend
        return self.model(
            latents,
            self.times[step],
            inputs.text,
            inputs.speech,
            attend if pause is None else _in_pieces(attend, pause),
            inputs.rotation,
            inputs.pose,
            inputs.speaker_mask,
        )

    def next_block(
        self,
        features: Tensor,
        pose: Tensor | None = None,
        speaker_mask: Tensor | None = None,
        latents: Tensor | None = None,
        mood: str = NEUTRAL,
    ) -> Tensor:
        """The next block's latents [1, 16, 3, h, w] after the last of ``steps``; arguments as for `denoise`."""
        *_, latents = self.denoise(features, pose, speaker_mask, latents, mood)
        return latents

    @torch.inference_mode()
    def denoise(
        self,
        features: Tensor,
        pose: Tensor | None = None,
        speaker_mask: Tensor | None = None,
        latents: Tensor | None = None,
        mood: str = NEUTRAL,
    ) -> Iterator[Tensor]:
        """Latents [1, 16, 3, h, w] of the next block after each of ``steps``; a block is done when all were asked for.

        Args:
            features, pose, speaker_mask, mood: see `prepare_block`.
            latents: the block after the step before the first of ``steps``; None draws the noise of the first one.

        Raises:
            ValueError: ``latents`` or ``first_latent`` are missing.
        """
        clip, position = divmod(self.block_index, self.config.clip_blocks)
        if clip == 1 and position == 0 and self.config.replace_sink:
            if self.first_latent is None:
                raise ValueError("The second clip needs the first latent frame; give it to the sampler.")
            self.set_condition(self.first_latent, self.motion)
        inputs = self.prepare_block(features, pose, speaker_mask, mood)
        if latents is None:
            if self.steps[0] > 0:
                raise ValueError(f"Step {self.steps[0]} needs the latents after step {self.steps[0] - 1}.")
            latents = self._noise(clip, position)
        for step in self.steps:
            flow = self.predict(inputs, latents, step)
            latents = self.schedule.step(latents, flow, step)
            if step == self.steps[-1]:
                self.finish_block(latents)
            yield latents

    def replays_next(self, mood: str = NEUTRAL) -> bool:
        """Whether steps of the next block are CUDA graphs, which those made with another mood's prompt are not."""
        return mood == NEUTRAL and self._captured is not None and self._sees_full_window()

    def _sees_full_window(self) -> bool:
        return all(self.block_index + 1 >= cache.shape.slots for cache in self.caches.values())

    def finish_block(self, latents: Tensor) -> None:
        """Count the block as done, and after the last step of the first one keep its first frame."""
        if self.block_index == 0 and self.steps[-1] == len(self.schedule) - 1:
            self.first_latent = latents[:, :, :1].clone()
        self.block_index += 1

    @property
    def replays(self) -> bool:
        """Whether steps are CUDA graphs, or will be once the window is full."""
        return self._captured is not None

    @property
    def caches_on_cpu(self) -> bool:
        """Whether all windows of keys and values wait in CPU memory already."""
        return all(cache.on_cpu for cache in self.caches.values())

    @torch.inference_mode()
    def move_caches_to_cpu(self, format: CacheFormat, count: int | None = None) -> None:
        """Take less of the device from the next block on, also after a block that could not be finished: the windows of
        ``count`` more steps, or of all, wait in CPU memory.

        Caches in the model's format are kept in ``format`` from then on; others keep theirs.
        """
        # Nobody else may hold what is given up one by one.
        caches, self.caches = list(self.caches.values()), {}
        self.caches = dict(zip(self.steps, move_to_cpu(caches, format, count), strict=True))
        self.drop_unfinished()

    def drop_unfinished(self) -> None:
        """Forget what steps of a block that could not be finished have left, so that it can be done again without
        CUDA graphs, whose memory is given up."""
        self._placed = self._captured = None
        self.begin_again()

    def wait(self) -> None:
        """Wait until the device has done the steps that were asked for."""
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()

    def begin_again(self) -> None:
        """Do the block anew of which some steps are done: what they have written is written over before it is read."""
        for cache in self.caches.values():
            cache.blocks = self.block_index

    def state(self) -> dict[str, Tensor]:
        """What earlier blocks have left for the next one, as views; also after a block that could not be finished.

        What follows from the arguments is not in it. The states of samplers that share a video's steps can be joined
        to that of one sampler.
        """
        first = {} if self.first_latent is None else {"first_latent": self.first_latent}
        return {**first, **dict(self._windows())}

    @torch.inference_mode()
    def restore(self, state: Mapping[str, Tensor], blocks: int) -> None:
        """Go on as samplers with the same arguments that have given this state after ``blocks`` blocks.

        KeyError when the state lacks something, ValueError when it is of another format or size.
        """
        self.block_index = blocks
        self.first_latent = state["first_latent"].to(self.device)
        if self.config.replace_sink and blocks > self.config.clip_blocks:
            self.set_condition(self.first_latent, self.motion)
        for cache in self.caches.values():
            cache.blocks = blocks
        name, first = next(self._windows(), ("", None))
        if name and state[name].dtype == torch.int8 and first.dtype != torch.int8:
            self.move_caches_to_cpu(CacheFormat.INT8)  # as had been done there, when memory ran out
        for name, part in self._windows():
            saved = state[name]
            if (saved.dtype, saved.shape) != (part.dtype, part.shape):
                raise ValueError(f"{name} was saved as {saved.dtype} {list(saved.shape)}.")
            part.copy_(saved)

    def _windows(self) -> Iterator[tuple[str, Tensor]]:
        """Views of all that the next block can see of earlier ones in the caches, with a name each.

        The oldest block of a full window is left out: the next one takes its place before it looks.
        """
        for step, cache in self.caches.items():
            for index, part in enumerate(cache.window()):
                for first, last in cache.shape.kept(self.block_index + 1):
                    yield f"window.{step}.{index}.{first}", part[first:last]

    def _noise(self, clip: int, position: int) -> Tensor:
        # Drawn per clip, so that a block's noise does not depend on what was generated before it.
        if self._clip != clip:
            size = (self.model.config.in_dim, self.config.clip_latents, self.height, self.width)
            self._clip, self._clip_noise = clip, clip_noise(size, self.config.seed + clip)
        first = position * BLOCK_LATENTS
        noise = self._clip_noise[None, :, first : first + BLOCK_LATENTS]
        return send(noise, self.device).to(self.model.dtype)

    def _reference_rotation(self, time: int) -> Rotation:
        return self.rope.grid(range(time, time + 1), self.rows, self.columns, self.device)

    def _rotated_reference(self, time: int) -> Tensor:
        # The steps of a block mostly ask for the same one.
        if self._placed is None or self._placed[0] != time:
            rotation = self._reference_rotation(time)
            self._placed = time, regions.rotate(self._reference_keys, rotation)
        return self._placed[1]

    def reference_time(self, start: int, step: int) -> int:
        """Temporal position of the reference for the block that starts at latent frame ``start``, at ``step``."""
        distance = self.config.sink_distance
        if distance is None:
            # It depends on nothing that was drawn before, so steps can be done in any order, and on any device.
            distance = random.Random(f"{self.config.seed} {start} {step}").randint(4, PREFILL_TIME)
        return PREFILL_TIME + max(0, start - (PREFILL_TIME - distance))


@torch.inference_mode()
def set_conditions(samplers: Sequence[BlockSampler], reference: Tensor, motion: Tensor) -> None:
    """Prefill the condition part of the caches of samplers that share a video's steps: the first one's model computes
    it, and the others get copies.

    Args:
        reference, motion: as for `BlockSampler`, on the first one's device.
    """
    first = samplers[0]
    first.check_interrupt()
    stores = [sampler.condition_store() for sampler in samplers]

    def store(layer: int, k: Tensor, v: Tensor) -> None:
        for keep in stores:
            keep(layer, k, v)

    rotation = first.condition_rotation()
    first.model.prefill(reference, motion, first.still, first.prompts.own, rotation, store)


def _in_pieces(attend: Callable[..., Tensor], pause: Callable[[], None]) -> Callable[..., Tensor]:
    def attending(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if layer and layer % LAYERS_PER_PIECE == 0:
            pause()
        return attend(layer, q, k, v)

    return attending
