"""How far speech features depend on how they are encoded, and what memory long speech takes.

    python -m benchmarks.speech --speech a.wav b.mp3                     # a small random audio encoder
    python -m benchmarks.speech --speech a.wav --encoder models/liveavatar/<name>/wav2vec2-large-xlsr-53-english
    python -m benchmarks.speech --speech a.wav --memory 3600             # seconds of speech, without the comparison

Deviations are relative: root mean square of the difference over the standard deviation, per hidden layer; the mean
and the worst of the 25 are printed. The truth is one pass over the whole sound (all files joined, repeated as often
as needed). Memory is the process's own (anonymous) memory; the decoded sound itself lies in a mapped file.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import wave
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.engines.liveavatar.condition import PRE_ROLL_FRAMES
from avatar.engines.liveavatar.config import BLOCK_FRAMES, FPS
from avatar.engines.liveavatar.speech_timing import FEATURE_RATE, TRACK_RATE, frame_indices
from avatar.loaders.liveavatar import live_speech
from avatar.loaders.liveavatar.speech import listen
from avatar.loaders.wan.wav2vec2 import SAMPLE_RATE, AudioEncoder
from avatar.loaders.wan.wav2vec2_windows import hidden_state_windows, hidden_states, loudness
from avatar.media.audio import to_mono
from avatar.media.mapped_sound import map_audio
from avatar.media.speech import LiveSpeech, Speech
from avatar.media.speech_feed import SpeechFeed

from tools.tiny_checkpoint import write_audio_encoder

BLOCK = BLOCK_FRAMES * SAMPLE_RATE // FPS


def deviation(found: Tensor, truth: Tensor) -> str:
    """Of hidden layers [25, ...]: mean and worst."""
    found, truth = found.flatten(1).float(), truth.flatten(1).float()
    relative = (found - truth).square().mean(1).sqrt() / truth.std(1)
    return f"mean {relative.mean():.3f}, worst layer {relative.max():.3f}"


def windowed(encoder: AudioEncoder, sound: Tensor) -> str:
    """Windows of a minute against one pass."""

    def read(start: int, stop: int) -> Tensor:
        return sound[start:stop]

    statistics = loudness(read, len(sound), lambda: None)
    windows = hidden_state_windows(encoder, read, len(sound), statistics)
    return deviation(torch.cat([part for _, part in windows], dim=1), hidden_states(encoder, sound))


def live(encoder: AudioEncoder, sound: Tensor, context_blocks: int, future_seconds: float) -> str:
    """Live features of sound that waits, against one pass; the first 2 seconds are left out."""
    live_speech.CONTEXT_BLOCKS, live_speech.FUTURE_SECONDS = context_blocks, future_seconds
    feed = SpeechFeed(SAMPLE_RATE)
    feed.write(sound, SAMPLE_RATE)
    blocks = len(sound) // BLOCK - 1
    source = listen(LiveSpeech(feed, encoder=encoder))
    found = torch.cat(list(islice(source.blocks(), blocks))[4:])
    lead = torch.zeros(PRE_ROLL_FRAMES * SAMPLE_RATE // FPS)
    states = hidden_states(encoder, torch.cat((lead, sound))).float()
    places = frame_indices(4 * BLOCK_FRAMES, (blocks - 4) * BLOCK_FRAMES) * (FEATURE_RATE / TRACK_RATE)
    low = places.long()
    truth = torch.lerp(states[:, low], states[:, low + 1], (places - low)[:, None])
    return deviation(found.permute(1, 0, 3, 2), truth)


def own_megabytes() -> float:
    """Anonymous memory of this process; where the system does not tell it, the peak of all memory."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory(encoder: AudioEncoder, sound: Tensor, seconds: float) -> None:
    """Read the features of a long file block by block and print what memory is taken on the way."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.wav")
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
            part = (sound.clamp(-1, 1) * 32767).short().numpy().tobytes()
            for _ in range(int(seconds * SAMPLE_RATE / len(sound)) + 1):
                file.writeframesraw(part)
        begun = time.perf_counter()
        source = listen(Speech.of([map_audio(path, folder)], encoder))
        print(f"decoded and looked through in {time.perf_counter() - begun:.1f} s, {own_megabytes():.0f} MB")
        blocks = int(seconds * FPS) // BLOCK_FRAMES
        for number, _ in enumerate(islice(source.blocks(), blocks)):
            if number % max(1, blocks // 12) == 0:
                print(f"  {number * BLOCK_FRAMES / FPS:7.0f} s: {own_megabytes():.0f} MB", flush=True)
        print(f"all features in {time.perf_counter() - begun:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--speech", nargs="+", required=True, help="sound files")
    parser.add_argument("--encoder", help="wav2vec2 folder; default: a small random one")
    parser.add_argument("--seconds", type=float, default=130.0, help="of the comparison of windows")
    parser.add_argument("--memory", type=float, metavar="SECONDS", help="measure memory over so much speech")
    args = parser.parse_args()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        if args.encoder is None:
            write_audio_encoder(Path(folder))
        encoder = AudioEncoder.from_folder(args.encoder or folder, dtype=torch.float32)
    sound = torch.cat([to_mono(map_audio(path), SAMPLE_RATE) for path in args.speech])
    if args.memory:
        memory(encoder, sound, args.memory)
        return
    repeated = sound.repeat(int(args.seconds * SAMPLE_RATE / len(sound)) + 1)
    print(f"windows of a minute: {windowed(encoder, repeated[: int(args.seconds * SAMPLE_RATE)])}")
    for blocks, future in ((4, 0.0), (8, 0.0), (17, 0.0), (34, 0.0), (17, 0.24), (17, 0.48), (17, 1.0)):
        found = live(encoder, sound[: 30 * SAMPLE_RATE], blocks, future)
        print(f"live, {blocks * BLOCK / SAMPLE_RATE:4.1f} s heard, {future:g} s ahead: {found}", flush=True)


if __name__ == "__main__":
    main()
