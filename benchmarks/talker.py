"""Does the tiny avatar talk? Lip sync, identity, seams and sharpness, read off the generated pixels.

    python -m benchmarks.talker --checkpoint talker --corpus training/.state/corpus

The checkpoint is what `training.export` writes; the speech is the corpus' held-out voices (`training.corpus` makes
it), the portraits are drawn with held-out seeds. Every number comes from frames of the streaming pipeline; the mouth
is read by `training.measure`, which knows nothing of the model; what needs no drawn face is read by `evaluation`.
`--minutes` adds the long run for identity, `--decoder` measures a small decoder in place of the VAE's.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.gpu.fp8 import require_fp8
from avatar.engines.liveavatar.condition import PRE_ROLL_FRAMES, PRIME_LATENTS, encode_reference
from avatar.engines.liveavatar.config import BLOCK_FRAMES, FPS, SamplingConfig
from avatar.engines.liveavatar.fp8_blocks import quantise_transformer
from avatar.engines.liveavatar.pipeline import Scene, block_count, generate
from avatar.engines.liveavatar.sampler import BlockSampler
from avatar.engines.liveavatar.speech_source import Tracks
from avatar.engines.liveavatar.speech_timing import feature_track
from avatar.engines.liveavatar.transformer import S2VTransformer
from avatar.engines.parts.face.boxes import Box
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT, Performance
from avatar.engines.parts.wan.fast_decoder import FastDecoder
from avatar.engines.parts.wan.geometry import TEMPORAL_STRIDE
from avatar.engines.parts.wan.streaming import to_uint8_frames
from avatar.engines.parts.wan.vae import WanVAE
from avatar.evaluation.clip import Piece
from avatar.evaluation.correlation import lagged_correlation
from avatar.evaluation.metric import Layout
from avatar.evaluation.metrics.seams import seam_changes
from avatar.evaluation.readers.change import Change
from avatar.evaluation.readers.portrait import face_distance as portrait_distance
from avatar.evaluation.readers.sharpness import Sharpness
from avatar.loaders.liveavatar.transformer import load_transformer
from avatar.loaders.wan.fast_decoder import load_tiny_decoder
from avatar.loaders.wan.text import TextEncoder
from avatar.loaders.wan.vae import load_vae
from avatar.loaders.wan.wav2vec2 import SAMPLE_RATE, AudioEncoder
from avatar.loaders.wan.wav2vec2_windows import hidden_states

from training import corpus, faces
from training.draw import mouth_box, render
from training.measure import openings
from training.motion import frames_of, still

SIZE = 192
PROMPT = "A person looks into the camera and speaks."
IDENTITY_SEED = 424242
BEFORE = 12  # latents
LAYOUT = Layout(BLOCK_FRAMES, TEMPORAL_STRIDE, BLOCK_FRAMES - PRE_ROLL_FRAMES)


@dataclass
class Talker:
    """The parts of a checkpoint folder, on one device; ``decoder`` makes the pixels."""

    model: S2VTransformer
    vae: WanVAE
    decoder: WanVAE | FastDecoder
    audio: AudioEncoder
    context: Tensor
    device: torch.device
    performance: Performance

    @classmethod
    def load(
        cls, folder: Path, device: torch.device, dtype: torch.dtype, performance: Performance = RESIDENT
    ) -> Talker:
        base, lora = folder / "base", folder / "lora" / "liveavatar.safetensors"
        model = load_transformer(base, dtype, device, lora if lora.is_file() else None)
        if performance.fp8:
            require_fp8(device)
            quantise_transformer(model)
        vae = WanVAE(load_vae(base / "Wan2.1_VAE.pth", dtype, device))
        return cls(
            model,
            vae,
            vae,
            AudioEncoder.from_folder(base / "wav2vec2-large-xlsr-53-english", device, torch.float32),
            TextEncoder.from_folder(base).encode(PROMPT).to(device, dtype),
            device,
            performance,
        )

    def with_fast_decoder(self, file: Path) -> Talker:
        """The same, with pixels from the small decoder in ``file``."""
        network = load_tiny_decoder(file).to(self.device, self.vae.dtype)
        return replace(self, decoder=FastDecoder(network, file.stem))

    def scene(self, portrait: Tensor, samples: Tensor) -> Scene:
        """Portrait [1, 3, 1, S, S] and mono samples [S] at 16 kHz, with the pre-roll put in front."""
        reference, motion = encode_reference(self.vae, portrait.to(self.device))
        silence = torch.zeros(PRE_ROLL_FRAMES * SAMPLE_RATE // FPS)
        track = feature_track(hidden_states(self.audio, torch.cat([silence, samples])))
        return Scene(self.context, reference, motion, Tracks([track]))

    def video(self, scene: Scene, frames: int, config: SamplingConfig) -> Tensor:
        """Frames [F, 3, S, S] in [-1, 1]."""
        blocks = list(generate(self.model, self.decoder, scene, config, frames, performance=self.performance))
        return pixels(torch.cat(blocks)[:frames])

    def latents(self, scene: Scene, frames: int, config: SamplingConfig) -> Tensor:
        """The latents of the same video, undecoded."""
        sampler, blocks = self.sampler(scene, config), islice(scene.speech.blocks(), block_count(frames))
        return torch.cat([sampler.next_block(features) for features in blocks], 2)

    def sampler(self, scene: Scene, config: SamplingConfig) -> BlockSampler:
        return BlockSampler(
            self.model,
            config,
            context=scene.context,
            reference=scene.reference,
            motion=scene.motion,
            performance=self.performance,
        )


def pixels(frames: Tensor) -> Tensor:
    """uint8 [F, H, W, 3] -> float [F, 3, H, W] in [-1, 1]."""
    return frames.permute(0, 3, 1, 2).float() / 127.5 - 1


def lip_sync(
    talker: Talker, recordings: list[corpus.Recording], people: list, seconds: float, config: SamplingConfig
) -> dict:
    """Correlations with the right and with another recording's target, lags, and the mouth in silence."""
    frames, right, lags, wrong, shut, spoken = round(seconds * FPS), [], [], [], [], []
    targets = [frames_of(torch.from_numpy(r.track), 0.0, frames)[:, 0] for r in recordings]
    for i, (made, (identity, portrait)) in enumerate(zip(recordings, people, strict=True)):
        samples = torch.from_numpy(made.samples[: round(seconds * SAMPLE_RATE)])
        video = talker.video(talker.scene(portrait, samples), frames, config)
        read = openings(video, identity)
        score, lag = lagged_correlation(read, targets[i])
        right.append(score)
        lags.append(lag)
        wrong.append(lagged_correlation(read, targets[i - 1], 0)[0])
        silent = targets[i] < 0.02
        shut += read[silent].tolist()
        spoken += read[targets[i] > 0.3].tolist()
    mean = lambda values: round(sum(values) / max(len(values), 1), 3)  # noqa: E731
    return {
        "correlation": mean(right),
        "each": [round(v, 3) for v in right],
        "best lag (frames)": lags,
        "correlation with another recording": mean(wrong),
        "opening in silence": mean(shut),
        "opening where the target is open": mean(spoken),
    }


def face_distance(frame: Tensor, portrait: Tensor, identity: faces.Identity) -> float:
    """`portrait.face_distance` of two pictures [3, S, S] in [-1, 1], over the whole picture."""
    mouth = Box(*mouth_box(identity, SIZE)[0].round().int().tolist())
    return portrait_distance((frame + 1) * 127.5, (portrait + 1) * 127.5, mouth)


def identity_over_time(
    talker: Talker, recordings: list, person: tuple, minutes: float, config: SamplingConfig
) -> dict:
    """Distance to the portrait at blocks 1, 100, 600 and others, speech repeated as long as needed.

    All blocks are generated; only these are decoded, behind the latents of the four blocks before them, which is all
    that the decoder's first frames would remember.
    """
    identity, portrait = person
    frames = round(minutes * 60 * FPS)
    sound = torch.cat([torch.from_numpy(r.samples) for r in recordings])
    sound = sound.repeat(int(minutes * 60 * SAMPLE_RATE / len(sound)) + 1)[
        : round(minutes * 60 * SAMPLE_RATE)
    ]
    scene, count = talker.scene(portrait, sound), block_count(frames)
    latents, distances = scene.motion[:, :, -BEFORE:], {}
    sampler = talker.sampler(scene, config)
    for block, features in enumerate(islice(scene.speech.blocks(), count), 1):
        latents = torch.cat([latents, sampler.next_block(features).to(latents)], 2)[:, :, -BEFORE - 3 :]
        if block in (1, 10, 50, 100, 200, 300, 400, 500, 600, count):
            shown = pixels(to_uint8_frames(talker.decoder.decode(latents)[:, :, -12:]).cpu())
            distances[block] = sum(face_distance(f, portrait[0, :, 0], identity) for f in shown) / len(shown)
    return {f"block {block}": round(distance, 2) for block, distance in distances.items()}


def seams(video: Tensor) -> dict:
    """Mean change from frame to frame, and sharpness early and late.

    Four frames share a latent, so a seam shows only where a border of blocks is compared with one of latents.
    """
    frames = ((video + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    piece = Piece(torch.arange(len(frames)).double() / FPS, frames)
    inside, latents, blocks = seam_changes(Change().read(piece).values, LAYOUT)
    sharp = Sharpness().read(piece).values
    return {
        "change inside latents": round(inside.mean().item(), 3),
        "change between latents of a block": round(latents.mean().item(), 3),
        "change between blocks": round(blocks.mean().item(), 3),
        "sharpness of frames 0-8": round(sharp[:9].mean().item(), 3),
        "sharpness of later frames": round(sharp[9:].mean().item(), 3),
    }


def comparisons(talker: Talker, scene: Scene, identity: faces.Identity, target: Tensor) -> dict:
    """4 steps against 32, and the streaming decode against the full one."""
    frames = len(target)
    few, many = (talker.latents(scene, frames, SamplingConfig(steps=steps)) for steps in (4, 32))
    prime = scene.motion[:, :, :PRIME_LATENTS]
    decoder = talker.decoder.stream()
    decoder.prime(prime)
    streamed = torch.cat([decoder(block) for block in few.split(3, 2)], 2)
    full = talker.decoder.decode(torch.cat([prime, few.to(prime)], 2))[:, :, -streamed.shape[2] :]
    read = {}
    for name, latents in (("4", few), ("32", many)):
        whole = talker.decoder.decode(torch.cat([prime, latents.to(prime)], 2))[:, :, -streamed.shape[2] :]
        video = pixels(to_uint8_frames(whole).cpu()[PRE_ROLL_FRAMES:])[:frames]
        read[f"lip sync with {name} steps"] = round(
            lagged_correlation(openings(video, identity), target)[0], 3
        )
    return {
        **read,
        "latent difference 4 / 32 steps (rms)": round((few - many).float().square().mean().sqrt().item(), 4),
        "streamed - full decode (max)": (streamed - full).abs().max().item(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--decoder", type=Path, help="a small decoder in place of the VAE's")
    parser.add_argument("--corpus", type=Path, default=Path("training/.state/corpus"))
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument(
        "--skip-last-step", action="store_true", help="leave out each block's last forward pass"
    )
    parser.add_argument("--fp8", action="store_true", help="matrix products in float8 (a GPU is needed)")
    parser.add_argument("--attention8", action="store_true", help="attention to keys and values in 8 bits")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    performance = Performance(
        fp8=args.fp8, caches=CacheFormat.ATTENTION8 if args.attention8 else CacheFormat.MODEL
    )
    config = SamplingConfig(steps=args.steps, skip_last_step=args.skip_last_step)
    talker = Talker.load(args.checkpoint, device, getattr(torch, args.dtype), performance)
    if args.decoder:
        talker = talker.with_fast_decoder(args.decoder)
    recordings = corpus.load(args.corpus, held_out=True)[: args.clips]
    everybody = faces.sample(len(recordings), torch.Generator().manual_seed(IDENTITY_SEED))
    drawn = render(everybody, still(len(recordings), 1), SIZE).transpose(1, 2)
    people = [
        ({k: v[i : i + 1] for k, v in everybody.items()}, drawn[i : i + 1]) for i in range(len(recordings))
    ]

    name = talker.decoder.name if args.decoder else "full"
    report: dict = {"decoder": name, "lip sync": lip_sync(talker, recordings, people, args.seconds, config)}
    frames = round(args.seconds * FPS)
    samples = torch.from_numpy(recordings[0].samples[: round(args.seconds * SAMPLE_RATE)])
    scene = talker.scene(people[0][1], samples)
    begin = time.perf_counter()
    video = talker.video(scene, frames, config)
    report["seconds per second of video"] = round((time.perf_counter() - begin) / args.seconds, 2)
    report["seams"] = seams(video)
    target = frames_of(torch.from_numpy(recordings[0].track), 0.0, frames)[:, 0]
    report["comparisons"] = comparisons(talker, scene, people[0][0], target)
    if args.minutes:
        report["identity"] = identity_over_time(talker, recordings, people[0], args.minutes, config)
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
