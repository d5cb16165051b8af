"""A pool of encoded clips on the device, made anew while training goes on."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .corpus import Recording
from .figures.clips import Ahead, Clip, ClipSource
from .motion import FPS
from .parallel import Condition
from .texts import Texts
from .train_wav2vec import normalize
from .vae import VAE
from .wav2vec import MouthReader, layers_of

BLOCKS = 5
FRAMES = 12 * BLOCKS
MOODS = ("calm", "serious", "smiling", "laughing")
LEAD = 9  # frames before the clip: three latents
STILL = 13  # frames of the portrait at rest that are encoded; the encoder has settled after them
UNHEARD = 0.25
"""Share of the calm clips whose text means nothing: any other prompt gives a calm face."""


@torch.no_grad()
def feature_tracks(reader: MouthReader, recordings: list[Recording], device: str) -> list[Tensor]:
    """Per recording, the 25 layers as 30 features per second [length, 25, C], half precision."""
    tracks = []
    for made in recordings:
        sound = normalize(torch.from_numpy(made.samples)[None])[0].to(device)
        layers = layers_of(reader.wav2vec2, sound)
        length = int(layers.shape[1] / 50 * 30)
        track = F.interpolate(layers.transpose(1, 2), size=length, mode="linear", align_corners=True)
        tracks.append(track.permute(2, 0, 1).half())
    return tracks


def clip_features(track: Tensor, start: float, frames: int) -> Tensor:
    """Features of video frames from second `start` on: [25, C, frames]; the track's end is held."""
    index = (torch.arange(round(start * FPS), round(start * FPS) + frames) * 30 + FPS // 2) // FPS
    return track[index.clamp(max=len(track) - 1).to(track.device)].permute(1, 2, 0)


@dataclass
class Encoded:
    """Clips as the transformer sees them; the first axis is the clip.

    clean [N, 16, 15, h, w]; rest [N, 16, 4, h, w] the still portrait; features [N, 25, C, 60];
    weight [N, 1, 1, h, w]; from_rest [N]; mood [N] as places in `MOODS`.
    """

    clean: Tensor
    rest: Tensor
    features: Tensor
    weight: Tensor
    from_rest: Tensor
    mood: Tensor

    def parts(self) -> tuple[Tensor, ...]:
        return self.clean, self.rest, self.features, self.weight, self.from_rest, self.mood

    def take(self, index: Tensor) -> Encoded:
        return Encoded(*(part[index] for part in self.parts()))

    def store(self, index: Tensor, other: Encoded) -> None:
        for mine, theirs in zip(self.parts(), other.parts(), strict=True):
            mine[index] = theirs


class Encoder:
    """Draws clips and encodes picture and sound. `chunk` clips are drawn at once, ahead of being asked for."""

    def __init__(self, vae: VAE, tracks: list[Tensor], source: ClipSource, size: int, chunk: int) -> None:
        self.vae, self.tracks, self.source, self.size, self.chunk = vae, tracks, source, size, chunk
        depth = 1 + source.drawers.count // chunk
        self._ahead = Ahead(lambda: source.draw(chunk, FRAMES, LEAD), self._pixels, depth)

    def close(self) -> None:
        """Draw nothing more."""
        self._ahead.close()

    def encode(self, clip: Clip) -> Encoded:
        return self._encode(clip, *self._pixels(clip))

    def draw(self, count: int) -> Encoded:
        """`count` new clips."""
        parts = []
        for _ in range(0, count, self.chunk):
            clip, drawn = self._ahead.next()
            parts.append(self._encode(clip, *drawn).parts())
        return Encoded(*(torch.cat(part)[:count] for part in zip(*parts, strict=True)))

    def _pixels(self, clip: Clip) -> tuple[Tensor, Tensor]:
        return clip.rest_bytes(self.size), clip.bytes(self.size)

    @torch.no_grad()
    def _encode(self, clip: Clip, rest: Tensor, video: Tensor) -> Encoded:
        device = self.source.device
        with torch.autocast(torch.device(device).type, torch.bfloat16):
            rest = self.vae.encode(clip.shown(rest).expand(-1, -1, STILL, -1, -1))
            clean = self.vae.encode(clip.shown(video))[:, :, 1 + LEAD // 4 :]
        features = [
            clip_features(self.tracks[i], start, FRAMES)
            for i, start in zip(clip.recording, clip.start, strict=True)
        ]
        weight = clip.face_weight(self.size, 4.0, cell=8)
        kind = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
        return Encoded(
            clean.to(kind),
            rest.to(kind),
            torch.stack(features),
            weight,
            clip.from_rest.to(device),
            torch.tensor([MOODS.index(mood) for mood in clip.moods], device=device),
        )


def motion_of(rest: Tensor) -> Tensor:
    """The 19 motion latents of a portrait that stood still: the start-up of the encoder, then its settled state."""
    return torch.cat([rest, rest[:, :, -1:].expand(-1, -1, 15, -1, -1)], 2)


def condition_of(clips: Encoded, texts: Texts) -> Condition:
    """Conditions as inference has them. Clips that begin at rest are the beginning of a video; the others lie
    somewhere later, mostly with a reference that was generated (a settled latent) instead of the encoded picture.
    The text names the mood; for some of the calm clips it is noise."""
    count, device = len(clips.clean), clips.clean.device
    rest = clips.rest.float()

    def rand() -> Tensor:
        return torch.rand(count, device=device)

    settled = ~clips.from_rest & (rand() < 0.7)
    reference = torch.where(settled[:, None, None, None, None], rest[:, :, -1:], rest[:, :, :1])
    near, far = (1 + rand() * 20).long(), (1 + rand() * 1000).long()
    start = torch.where(clips.from_rest, 0, 3 * torch.where(rand() < 0.5, near, far))
    sink = torch.where(rand() < 0.7, 30, (4 + rand() * 27).long().clamp(max=30))
    text, rows = texts.pick(clips.mood)
    unheard = (clips.mood == MOODS.index("calm")) & (rand() < UNHEARD)
    text = torch.where(unheard[:, None, None], torch.randn_like(text), text)
    return Condition(
        reference=reference,
        motion=motion_of(rest),
        features=clips.features.float(),
        text=text,
        text_rows=torch.where(unheard, (1 + rand() * text.shape[1]).long().clamp(max=text.shape[1]), rows),
        start=start,
        sink=sink,
    )
