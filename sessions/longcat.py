"""A LongCat video on this machine: checked, planned, loaded and running; with ComfyUI's models or without a host."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial

from torch import Tensor

from ..engines.gpu.offload import BlockOffload
from ..engines.longcat.config import SIZE_MULTIPLE, SamplingConfig
from ..engines.longcat.pipeline import Scene, check_scene, generate, nothing
from ..engines.longcat.plan import Video, advice, make_plan
from ..engines.longcat.schedule import schedule
from ..engines.longcat.speakers import fit_masks, speakers
from ..engines.longcat.speech import SpeechFeatures
from ..engines.longcat.state import SegmentState
from ..engines.parts.planning.advice import explained
from ..loaders.identity import device_identity, fingerprint, weights_identity
from ..loaders.liveavatar.conditioning import check_width
from ..loaders.longcat.boxes import with_background
from ..loaders.longcat.conditioning import Condition
from ..loaders.longcat.listening import check_encoder, listen
from ..loaders.longcat.model import LongCatModel
from ..loaders.wan.fast_decoder import HostDecoder, check_fits
from ..loaders.wan.vae import HostVAE, OwnVAE
from ..media.audio import trim
from ..media.frames import AvatarStream, Resumable
from ..media.speech import LiveSpeech, Speech

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised when a change to the engine lets the same inputs give other frames."""
HEARD = 8
"""Features that tell the audio encoder in a fingerprint."""
FEW_STEPS = 20
"""Fewer steps want a LoRA that was made for few."""
NO_LORA = (
    "Add a distillation LoRA (LongCat Apply LoRA), or take 50 steps: without one, {steps} steps are too few."
)
ONE_VOICE = "single"
"""Part of the name of version 1.0's checkpoint that was trained with one speaker."""


@dataclass(frozen=True)
class Inputs:
    """What a video is made from.

    Attributes:
        condition: prompt, size, and the portrait or the end of a video, if there is one.
        speech: with the version's own audio encoder.
        negative: states of the prompt of what the video shall not show [tokens, text width]; needed for guidance.
        decoder: stands in for the VAE's where it is given.
    """

    model: LongCatModel
    vae: HostVAE | OwnVAE
    condition: Condition
    speech: Speech | LiveSpeech
    negative: Tensor | None = None
    decoder: HostDecoder | None = None


def open_video(
    inputs: Inputs,
    config: SamplingConfig,
    max_seconds: float = 0.0,
    blocks_on_cpu: int | None = None,
    *,
    check_interrupt: Callable[[], None] = nothing,
    say: Callable[[str], None] = logger.info,
) -> AvatarStream:
    """The stream of a video, which can be read several times and gone on with; its length is that of the speech.

    The speech is measured at once; nothing else is loaded before the stream is read.

    Args:
        max_seconds: where the video ends if the speech does not end before; 0: with the speech.
        blocks_on_cpu: blocks of the model that wait in CPU memory; None: as few as have to.
        check_interrupt: called before every pass of the network; raises to stop.
        say: is told what is going on, for people; each text replaces the one before.

    Raises:
        ValueError: the inputs do not fit together.
        MemoryError: the video does not fit in this machine's memory.
    """
    check_inputs(inputs, config)
    version, speech = inputs.model.architecture.version, inputs.speech
    seconds = min(speech.seconds, max_seconds) if max_seconds else speech.seconds
    frames = max(1, math.ceil(seconds * version.fps - 1e-6))
    heard = config.sampled(frames, inputs.condition.past is not None) / version.fps
    features = listen(speech, inputs.model.architecture, heard, check_interrupt, say)
    run = _Run(inputs, features, config, frames, blocks_on_cpu, check_interrupt, say)
    return AvatarStream(
        run.blocks,
        frames=frames,
        width=run.scene.width,
        height=run.scene.height,
        fps=version.fps,
        audio=trim(speech.audio, seconds=frames / version.fps),
        resumable=run.resumable(),
        plan=run.plan.text,
    )


def check_inputs(inputs: Inputs, config: SamplingConfig) -> None:
    """ValueError for everything that can be known before the speech is listened to."""
    expected, speech = inputs.model.architecture, inputs.speech
    if isinstance(speech, LiveSpeech):
        raise ValueError(
            "Connect finished speech: LongCat makes whole segments and cannot follow live speech."
        )
    check_encoder(speech.encoder, expected)
    for continuing in (False, True):
        schedule(expected.version, config, continuing)
    if config.distilled and config.guided:
        raise ValueError(
            "Set both guidances to 1: a distilled model wants none (distilled 'no' makes the full schedule)."
        )
    if config.guided and inputs.negative is None:
        raise ValueError("Connect a negative prompt, be it an empty one: guidance compares with it.")
    for states in (inputs.condition.context, inputs.negative):
        if states is not None:
            check_width(states, expected.caption_channels)
    if inputs.decoder is not None:
        check_fits(inputs.decoder, inputs.vae.vae)
    if speech.speakers > 1:
        if speech.masks is None:
            raise ValueError(
                "Add LiveAvatar Speaker Masks: two people speak, but nobody knows where they are."
            )
        name = inputs.model.source.name
        if expected.version.name == "1.0" and ONE_VOICE in name:
            raise ValueError(f"Choose avatar_multi or version 1.5: {name} was trained with one speaker.")


class _Run:
    """One video with its plan: made once, and the same for loading, for advice and for going on with it later."""

    def __init__(
        self,
        inputs: Inputs,
        features: SpeechFeatures,
        config: SamplingConfig,
        frames: int,
        blocks_on_cpu: int | None,
        check_interrupt: Callable[[], None],
        say: Callable[[str], None],
    ) -> None:
        self.inputs, self.config, self.frames, self.features = inputs, config, frames, features
        self.check_interrupt, self.say = check_interrupt, say
        model = inputs.model
        self.scene = _scene(inputs, features)
        check_scene(self.scene, config)
        self.video = Video(
            model.architecture,
            model.weights,
            self.scene.height,
            self.scene.width,
            config,
            blocks_on_cpu,
            model.precision.attention8,
        )
        self.machine = model.machine()
        self.plan = make_plan(self.video, self.machine)

    def resumable(self) -> Resumable:
        about = {"width": self.scene.width, "height": self.scene.height, "frames": self.frames}
        return Resumable(
            fingerprint=self._fingerprint,
            state=partial(SegmentState, check_interrupt=self.check_interrupt),
            about={**about, "settings": asdict(self.config)},
        )

    def _fingerprint(self) -> str:
        given = self.inputs
        return fingerprint(
            "longcat",
            FORMAT,
            given.condition,
            given.negative,
            self.config,
            self.frames,
            given.speech.sounds,
            given.speech.masks,
            self.features.read(0, min(HEARD, self.features.count)),
            given.model.identity(),
            weights_identity(given.vae.vae.model.named_parameters()),
            device_identity(given.model.device, given.model.precision.dtype),
            *([] if given.decoder is None else [given.decoder.identity()]),
        )

    def blocks(self, state: SegmentState | None = None) -> Iterator[Tensor]:
        """One pass over the video, or over what comes after ``state``; out of memory it says what would have fitted."""
        given, plan = self.inputs, self.plan
        with explained(partial(advice, self.video, self.machine)):
            self.say(self._line())
            shows = [given.vae] if given.decoder is None else [given.vae, given.decoder]
            # Together: to bring one of them, ComfyUI might take the others off the GPU.
            beside = [one.patcher for one in shows if one.patcher is not None]
            placed = given.model.place(plan.blocks_on_cpu, plan.kept + plan.workspace, beside)
            vae = given.vae.vae if beside else given.vae.load()
            decoder = None if given.decoder is None else given.decoder.over(vae)
            with BlockOffload(placed.waiting, given.model.device):
                blocks = generate(
                    placed.transformer,
                    vae,
                    self.scene,
                    self.config,
                    self.frames,
                    given.model.device,
                    decoder=decoder,
                    check_interrupt=self.check_interrupt,
                    after_listening=placed.bring_back,
                    state=state,
                    attention8=given.model.precision.attention8,
                )
                with closing(blocks):
                    for block in blocks:
                        yield block
                        # Whoever took the block may have needed the memory.
                        placed.bring_back()

    def _line(self) -> str:
        segments = self.config.segments(self.frames, self.scene.past is not None)
        parts = f"{segments} segments" if segments > 1 else "1 segment"
        line = f"{parts} of {self.config.steps} steps; {self.plan.text}"
        if self.config.steps < FEW_STEPS and not self.inputs.model.distilled:
            line += "\n" + NO_LORA.format(steps=self.config.steps)
        return line


def _scene(inputs: Inputs, features: SpeechFeatures) -> Scene:
    """The engine's inputs; ValueError when they do not fit together."""
    condition, architecture = inputs.condition, inputs.model.architecture
    height, width = condition.size
    masks = None
    if inputs.speech.masks is not None:
        # Where the model looks is found in the first latent, so the first mask of each speaker counts.
        masks = with_background(fit_masks(inputs.speech.masks[:, 0], height, width))
        speakers(masks, features.speakers, height // SIZE_MULTIPLE, width // SIZE_MULTIPLE, architecture)
    portrait = condition.portrait
    return Scene(
        prompt=condition.context,
        speech=features,
        height=height,
        width=width,
        negative=inputs.negative,
        picture=None if portrait is None else inputs.vae.vae.normalise(portrait),
        past=condition.last_frames(architecture.version.fps),
        masks=masks,
    )
