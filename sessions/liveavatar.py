"""A LiveAvatar video on this machine: checked, planned, loaded and running; with ComfyUI's models or without a host."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial

from torch import Tensor

from ..engines.gpu.offload import BlockOffload
from ..engines.gpu.replica import replica
from ..engines.liveavatar.config import FPS, SamplingConfig
from ..engines.liveavatar.costs import Model, VideoCosts
from ..engines.liveavatar.moods import NEUTRAL
from ..engines.liveavatar.pipeline import Scene, block_count, generate
from ..engines.liveavatar.relay import decoders
from ..engines.liveavatar.speech_source import SpeechSource, nothing
from ..engines.liveavatar.stages import Stage, generate_in_stages
from ..engines.liveavatar.state import GenerationState
from ..engines.liveavatar.transformer import S2VTransformer, called_outside
from ..engines.parts.planning.advice import advice, explained, planned
from ..engines.parts.planning.plan import NO_WISH, Wish
from ..engines.parts.planning.sharing import Share
from ..engines.parts.wan.streaming import LatentDecoder
from ..loaders.liveavatar.conditioning import Condition, check_width
from ..loaders.liveavatar.fingerprint import run_fingerprint
from ..loaders.liveavatar.model import Placed, TransformerSource
from ..loaders.liveavatar.moods import Mood, check_moods, mood_at
from ..loaders.liveavatar.speech import listen, video_frames
from ..loaders.wan.fast_decoder import HostDecoder, check_fits
from ..loaders.wan.vae import HostVAE, OwnVAE
from ..media.audio import trim
from ..media.frames import AvatarStream, Resumable
from ..media.speech import LiveSpeech, Speech

logger = logging.getLogger(__name__)

BROUGHT = "ComfyUI brings or patches the weights in every call (with precision 'fp8' it does not)"
FIRST_BLOCK = "First block: kernels for this GPU are loaded, or made (about 10 s, once; they stay on disk)."


@dataclass(frozen=True)
class Inputs:
    """What a video is made from.

    Attributes:
        condition: prompt, portrait and pose.
        speech: with a wav2vec2 large as its encoder.
        decoder: stands in for the VAE's where it is given.
        moods: further prompts, which hold at their times, or while live speech asks for them.
        negative: prompt of what the video shall not show [tokens, text_dim]; needed for guidance.
    """

    model: TransformerSource
    vae: HostVAE | OwnVAE
    condition: Condition
    speech: Speech | LiveSpeech
    decoder: HostDecoder | None = None
    moods: tuple[Mood, ...] = ()
    negative: Tensor | None = None


def open_video(
    inputs: Inputs,
    config: SamplingConfig,
    wish: Wish = NO_WISH,
    max_seconds: float = 0.0,
    *,
    check_interrupt: Callable[[], None] = nothing,
    say: Callable[[str], None] = logger.info,
) -> AvatarStream:
    """The stream of a video, which can be read several times and gone on with.

    The speech is listened to at once, unless it was before; nothing else is loaded before the stream is read.

    Args:
        wish: how fast or small; the fast decoder in it is that of ``inputs``, and the last step is left out if either
            it or ``config`` says so.
        max_seconds: where the video ends if the speech does not end before; 0: with the speech.
        check_interrupt: called before every step; raises to stop.
        say: is told what is going on, for people; each text replaces the one before.

    Raises:
        ValueError: the inputs do not fit together, or the wish asks for what this machine cannot do.
        MemoryError: nothing that the wish allows fits.
    """
    check_inputs(inputs)
    _check_guidance(inputs, config, wish)
    frames = _frames(inputs.speech, max_seconds)
    if inputs.decoder is not None:
        wish = replace(wish, fast_decoder=inputs.decoder.name)
    if wish.skip_last_step:
        config = replace(config, skip_last_step=True)
    if isinstance(inputs.speech, LiveSpeech) and inputs.moods:
        inputs.speech.feed.moods = (NEUTRAL, *(mood.name for mood in inputs.moods))
    features = _listened(inputs, check_interrupt, say)
    run = _Run(inputs, features, config, wish, frames, check_interrupt, say)
    audio = inputs.speech.audio
    return AvatarStream(
        run.blocks,
        frames=frames,
        width=run.costs.width,
        height=run.costs.height,
        fps=FPS,
        audio=audio if frames is None else trim(audio, seconds=frames / FPS),
        resumable=None if frames is None else run.resumable(),
        plan=run.plan.text,
    )


def check_inputs(inputs: Inputs) -> None:
    """ValueError for everything that would otherwise fail after the models have been loaded."""
    expected = inputs.model.architecture
    if inputs.decoder is not None:
        check_fits(inputs.decoder, inputs.vae.vae)
    check_width(inputs.condition.context, expected.text_dim)
    check_moods(inputs.moods, expected.text_dim, isinstance(inputs.speech, LiveSpeech))
    if inputs.speech.speakers > 1 and inputs.speech.masks is None:
        raise ValueError("Add LiveAvatar Speaker Masks: two people speak, but nobody knows where they are.")


def _check_guidance(inputs: Inputs, config: SamplingConfig, wish: Wish) -> None:
    if not config.guided:
        return
    if inputs.negative is None:
        raise ValueError("Connect a negative prompt, be it an empty one: guidance compares with it.")
    if wish.gpus != 1:
        raise ValueError("Set gpus to 'one': with guidance the steps of a video cannot be shared among GPUs.")
    check_width(inputs.negative, inputs.model.architecture.text_dim)


def _listened(
    inputs: Inputs, check_interrupt: Callable[[], None], say: Callable[[str], None]
) -> SpeechSource:
    """The features of the speech; ValueError when the model expects others."""
    expected, source = inputs.model.architecture, listen(inputs.speech, check_interrupt, say)
    if (source.layers, source.dim) != (expected.audio_layers, expected.audio_dim):
        raise ValueError(
            f"Use wav2vec2-large-xlsr-53-english: the speech was encoded as {source.layers} layers of {source.dim}, "
            f"the model expects {expected.audio_layers} of {expected.audio_dim}."
        )
    return source


def _frames(speech: Speech | LiveSpeech, max_seconds: float) -> int | None:
    """How many frames the video has; None for live speech."""
    if isinstance(speech, LiveSpeech):
        if max_seconds:
            raise ValueError(
                "Set max_seconds of LiveAvatar Sampler to 0: live speech ends by its own max_seconds."
            )
        return None
    frames = video_frames(speech.seconds)
    return max(1, min(frames, round(max_seconds * FPS)) if max_seconds else frames)


class _Run:
    """One video with its plan: made once, and the same for loading, for advice and for going on with it later."""

    def __init__(
        self,
        inputs: Inputs,
        features: SpeechSource,
        config: SamplingConfig,
        wish: Wish,
        frames: int | None,
        check_interrupt: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.inputs, self.config, self.wish, self.frames = inputs, config, wish, frames
        self.features, self.check_interrupt, self.say = features, check_interrupt, say
        model = inputs.model
        known = Model(model.architecture, model.bytes, model.dtype, model.streams)
        blocks = None if frames is None else block_count(frames)
        self.costs = VideoCosts(known, *inputs.condition.size, config, blocks=blocks)
        self.machine = model.machine(wish)
        self.plan = planned(self.costs, self.machine, wish)

    def resumable(self) -> Resumable:
        return Resumable(
            fingerprint=self._fingerprint,
            state=partial(GenerationState, check_interrupt=self.check_interrupt),
            about={
                "width": self.costs.width,
                "height": self.costs.height,
                "frames": self.frames,
                "settings": asdict(self.config),
            },
        )

    def _fingerprint(self) -> str:
        chosen, given = self.plan.performance, self.inputs
        rounding = [chosen.fp8, chosen.caches]
        return run_fingerprint(
            given.model,
            given.vae.vae,
            given.condition,
            given.speech,
            self.features,
            self.config,
            self.frames,
            rounding,
            given.decoder,
            given.moods,
            given.negative,
        )

    def blocks(self, state: GenerationState | None = None) -> Iterator[Tensor]:
        """One pass over the video, or over what comes after ``state``; out of memory it says what would have fitted."""
        device, plan = self.inputs.model.device, self.plan
        with explained(partial(advice, self.costs, self.machine, self.wish)):
            placed, decoder = self._load()
            if plan.performance.graphs and not placed.steady:
                plan = plan.without_graphs(BROUGHT)
            planned = "\n".join(filter(None, (plan.text, placed.note)))
            said: list[str] = []

            def say(text: str) -> None:
                said.append(text)
                self.say(text)

            self.say(f"{planned}\n{FIRST_BLOCK}" if device.type == "cuda" else planned)
            stages = self._stages(placed)
            with BlockOffload(placed.waiting, device, called_outside):
                blocks = (generate_in_stages if stages else generate)(
                    stages or placed.transformer,
                    decoders(decoder, plan.shares) if stages else decoder,
                    self._scene(placed),
                    self.config,
                    self.frames,
                    self.check_interrupt,
                    after_encoding=placed.bring_back,
                    state=state,
                    performance=plan.performance,
                    say=say,
                )
                with closing(blocks):
                    for number, block in enumerate(blocks):
                        if number == 0 and device.type == "cuda" and not said:
                            self.say(planned)
                        yield block
                        # Whoever took the block may have needed the memory, as PersonaLive does.
                        placed.bring_back()

    def _load(self) -> tuple[Placed, LatentDecoder]:
        """Transformer and decoder where they compute, beside the room that the video needs."""
        given, needed = self.inputs, self.plan.caches + self.plan.workspace
        shows = given.vae if given.decoder is None else given.decoder

        def report(text: str) -> None:
            self.check_interrupt()
            self.say(text)

        # Together: to bring one of them, ComfyUI might take the other off the GPU.
        beside = [] if shows.patcher is None else [shows.patcher]
        placed = given.model.place(self.plan.performance, needed, beside, report)
        if given.decoder is not None:
            return placed, given.decoder.over(given.vae.vae)
        return placed, given.vae.vae if beside else given.vae.load()

    def _stages(self, placed: Placed) -> list[Stage]:
        """What each GPU does if there are several; the models on others than the first last as long as this pass."""
        main = self.inputs.model.device

        def model(share: Share) -> S2VTransformer:
            if share.device is None:
                return placed.transformer
            self.check_interrupt()
            return replica(placed.transformer, main, share.device)

        return [Stage(model(s), s.steps, s.device or main) for s in self.plan.shares if s.steps]

    def _scene(self, placed: Placed) -> Scene:
        condition = self.inputs.condition
        vae, device, dtype = self.inputs.vae.vae, self.inputs.model.device, placed.transformer.dtype

        def normalised(raw: Tensor) -> Tensor:
            return vae.normalise(raw.to(device)).to(dtype)

        return Scene(
            context=condition.context,
            reference=normalised(condition.reference),
            motion=normalised(condition.motion),
            speech=self.features,
            pose=None if condition.pose is None else normalised(condition.pose),
            masks=self.inputs.speech.masks,
            moods={mood.name: mood.context for mood in self.inputs.moods},
            mood_of=self._mood_of,
            negative=self.inputs.negative,
        )

    def _mood_of(self, block: int) -> str:
        speech = self.inputs.speech
        asked = speech.feed.mood if isinstance(speech, LiveSpeech) else ""
        return asked or mood_at(self.inputs.moods, block)
