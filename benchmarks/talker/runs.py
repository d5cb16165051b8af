"""What a talker is asked to do: speak in several ways, keep still, show moods, last for minutes."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.liveavatar.condition import encode_reference
from avatar.engines.liveavatar.config import BLOCK_FRAMES, BLOCK_LATENTS, FPS, SamplingConfig
from avatar.engines.liveavatar.pipeline import block_count
from avatar.engines.parts.wan.streaming import to_uint8_frames
from avatar.loaders.wan.wav2vec2 import SAMPLE_RATE
from avatar.media.writer import VideoWriter

from benchmarks.common import Clock

from .checkpoint import PROMPT, Talker, floats
from .measures import lips, looks, strangeness
from .people import Speaking

MOODS = {
    "calm": PROMPT,
    "serious": "A serious person looks into the camera and speaks seriously.",
    "smiling": "A happy person looks into the camera and speaks with a smile.",
    "laughing": "A laughing person looks into the camera and laughs and speaks.",
}
SETTLED = 2 * FPS
"""Frames after which a mood is there."""
LOOKED_AT = (1, 10, 50, 100, 200, 300, 400, 500, 600)
BEFORE = 4 * BLOCK_LATENTS
"""Latents that the decoder sees before a block that is looked at; it remembers no more."""


@dataclass(frozen=True)
class Ways:
    """Decoders by name, each with the talker that shows its pixels; all share one transformer."""

    shown: dict[str, Talker]

    @property
    def talker(self) -> Talker:
        return next(iter(self.shown.values()))

    def speak(self, people: Sequence[Speaking], config: SamplingConfig) -> dict[str, dict]:
        """`lips` and `looks` of everybody, by decoder. Sampled once."""
        videos: dict[str, list[Tensor]] = {name: [] for name in self.shown}
        for one in people:
            scene = self.talker.scene(one.portrait, one.samples)
            latents = self.talker.latents(scene, one.frames, config)
            for name, talker in self.shown.items():
                videos[name].append(talker.decode(scene, latents, one.frames))
        return {name: {**lips(people, each), **looks(people, each)} for name, each in videos.items()}


def silence(talker: Talker, one: Speaking, seconds: float, config: SamplingConfig) -> dict[str, float]:
    """How far the mouth is open while nothing is said at all."""
    scene = talker.scene(one.portrait, torch.zeros(round(seconds * SAMPLE_RATE)))
    read = one.reader.mouth(floats(talker.video(scene, round(seconds * FPS), config)))[:, 0]
    return {"mean": round(read.mean().item(), 4), "most": round(read.max().item(), 4)}


def moods(talker: Talker, people: Sequence[Speaking], config: SamplingConfig) -> dict[str, dict[str, float]]:
    """Smile (-1 to 1) and opening that are read where the prompt asks for a mood, mean over the people."""
    found = {}
    for mood, prompt in MOODS.items():
        read = []
        for one in people:
            video = talker.video(talker.scene(one.portrait, one.samples, prompt), one.frames, config)
            read.append(one.reader.mouth(floats(video))[SETTLED:])
        every = torch.cat(read).mean(0)
        found[mood] = {"smile": round(every[3].item(), 3), "opening": round(every[0].item(), 3)}
    return found


def identity(
    talker: Talker, people: Sequence[Speaking], minutes: float, config: SamplingConfig
) -> dict[str, dict[str, float]]:
    """How strange the first person is at some blocks of a long video that says everything that `people` say, again
    and again; and how strange drawings of this person and of the next one are.

    All blocks are generated; only some are decoded, behind the latents of the blocks before them.
    """
    one, count = people[0], block_count(round(minutes * 60 * FPS))
    sound = torch.cat([each.samples for each in people])
    sound = sound.repeat(int(minutes * 60 * SAMPLE_RATE / len(sound)) + 1)[
        : round(minutes * 60 * SAMPLE_RATE)
    ]
    scene = talker.scene(one.portrait, sound)
    latents, found = scene.motion[:, :, -BEFORE:], {"drawn": strangeness(one, one.drawn[::10])}
    if len(people) > 1:
        found["somebody else, drawn"] = strangeness(one, people[1].drawn[::10])
    sampler = talker.sampler(scene, config)
    for block, features in enumerate(islice(scene.speech.blocks(), count), 1):
        latents = torch.cat([latents, sampler.next_block(features).to(latents)], 2)
        latents = latents[:, :, -BEFORE - BLOCK_LATENTS :]
        if block in (*LOOKED_AT, count):
            shown = to_uint8_frames(talker.decoder.decode(latents)[:, :, -BLOCK_FRAMES:]).cpu()
            found[f"block {block}"] = strangeness(one, shown)
    return found


def speed(ways: Ways, one: Speaking, config: SamplingConfig) -> dict[str, dict[str, float]]:
    """Seconds that each part takes for a second of video at the second time, by the clock and of the processor's
    cores together; a portrait's are for the whole video."""
    talker, seconds = ways.talker, one.frames / FPS
    clock, portrait = Clock(talker.device), one.portrait.to(talker.device)

    def timed(call: Callable[[], object], over: float = seconds) -> tuple[Counter, object]:
        call()
        before = time.process_time()
        took, result = clock.wall(call)
        return Counter(clock=took / 1000 / over, processor=(time.process_time() - before) / over), result

    found = {"portrait, once": timed(lambda: encode_reference(talker.vae, portrait), 1.0)[0]}
    found["speech"], _ = timed(lambda: talker.hear(one.samples))
    scene = talker.scene(one.portrait, one.samples)
    found["transformer"], latents = timed(lambda: talker.latents(scene, one.frames, config))
    decoders = {
        name: timed(lambda each=each: each.decode(scene, latents, one.frames))
        for name, each in ways.shown.items()
    }
    frames = next(iter(decoders.values()))[1]
    found["encoding"], _ = timed(lambda: _encode(frames, one.samples))
    rest = found["speech"] + found["transformer"] + found["encoding"]
    found |= {f"decoder: {name}": took for name, (took, _) in decoders.items()}
    found |= {f"all with {name}": rest + took for name, (took, _) in decoders.items()}
    return {name: {how: round(value, 4) for how, value in took.items()} for name, took in found.items()}


def _encode(frames: Tensor, samples: Tensor) -> None:
    """The file of a video, block by block, as the nodes write it."""
    audio = {"waveform": samples[None, None], "sample_rate": SAMPLE_RATE}
    size = frames.shape[1]
    with (
        tempfile.TemporaryDirectory() as folder,
        VideoWriter(Path(folder) / "video.mp4", width=size, height=size, fps=FPS, audio=audio) as file,
    ):
        for block in frames.split(BLOCK_FRAMES):
            file.write(block)
