"""A custom node pack for `benchmarks.player`: a stream whose frames carry their number, at a given pace, with a beep at
every 25th frame.

``GET /player_probe`` gives the first frame of every block and the time (Unix, seconds) at which it was complete,
``GET /player_probe/webrtc`` what pages hold by WebRTC.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch
from aiohttp import web
from server import PromptServer

BITS, CELL = 16, 16  # of the number; pixels of a side of the square that shows a bit
RATE, FPS = 24_000, 25
HUM, BEEP = 0.02, 0.5  # how loud the sound is, and for a frame in every second

completed: list[tuple[int, float]] = []


def pack_module(name: str) -> Any:
    """A module of the pack itself, which this host has loaded under a name of its own."""
    return next(module for known, module in list(sys.modules.items()) if known.endswith(f"LiveAvatar.{name}"))


def numbered(first: int, count: int, width: int, height: int) -> torch.Tensor:
    """Frames uint8 [F, H, W, 3]: their number in black and white at the top (the highest bit at the left), below it
    something that moves."""
    numbers = torch.arange(first, first + count)
    bits = numbers[:, None] >> torch.arange(BITS - 1, -1, -1) & 1
    code = (bits * 255).to(torch.uint8).repeat_interleave(CELL, dim=1)[:, None, :, None]
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.sin((x + y) / 40 + numbers[:, None, None] / 5) * 60 + torch.sin(x / 7 - y / 11) * 40 + 128
    frames = waves.to(torch.uint8)[..., None].repeat(1, 1, 1, 3)
    frames[:, :CELL, : BITS * CELL] = code
    return frames


def beeping(frames: int) -> torch.Tensor:
    """The sound of so many frames."""
    wave = torch.sin(torch.arange(frames * RATE // FPS) * (1000 * 6.2832 / RATE))
    loud = torch.full((frames,), HUM)
    loud[::FPS] = BEEP
    return wave * loud.repeat_interleave(RATE // FPS)


class NumberedStream:
    """An AVATAR_STREAM whose blocks are complete every ``period`` seconds, give or take ``jitter``."""

    CATEGORY, FUNCTION, RETURN_TYPES = "benchmarks", "make", ("AVATAR_STREAM",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        number, whole = ("FLOAT", {"default": 0.0, "step": 0.001}), ("INT", {"default": 1, "max": 1 << 20})
        names = ("blocks", "block_frames", "width", "height", "seed")
        return {
            "required": {
                "live": ("BOOLEAN", {"default": False}),
                "period": number,
                "jitter": number,
                **dict.fromkeys(names, whole),
            },
            "optional": {"direct": ("BOOLEAN", {"default": False}), "delay": number},
        }

    @classmethod
    def IS_CHANGED(cls, **_: Any) -> float:
        """Live sound can be read once, so the stream is made anew."""
        return float("nan")

    def make(
        self,
        live: bool,
        period: float,
        jitter: float,
        blocks: int,
        block_frames: int,
        width: int,
        height: int,
        seed: int,
        direct: bool = False,
        delay: float = 0.0,
    ) -> tuple[Any]:
        frames = blocks * block_frames
        sound = beeping(frames)
        feed = pack_module("media.speech_feed").SpeechFeed(RATE)
        feed.direct = direct
        drawn = random.Random(seed)

        def start() -> Iterator[torch.Tensor]:
            completed.clear()
            begun = time.time() + delay  # as a model takes to be loaded
            for index in range(blocks):
                first = index * block_frames
                block = numbered(first, block_frames, width, height)
                samples = sound[first * RATE // FPS : (first + block_frames) * RATE // FPS]
                due = begun + (index + 1) * period + drawn.uniform(-jitter, jitter)
                time.sleep(max(0.0, due - time.time()))
                if live:
                    feed.write(samples, RATE)
                    feed.take(len(samples))
                completed.append((first, time.time()))
                yield block

        stream = pack_module("media.frames").AvatarStream(
            start,
            frames=None if live else frames,
            width=width,
            height=height,
            fps=FPS,
            audio=feed if live else {"waveform": sound[None, None], "sample_rate": RATE},
        )
        return (stream,)


NODE_CLASS_MAPPINGS = {"NumberedStream": NumberedStream}


@PromptServer.instance.routes.get("/player_probe")
async def blocks_completed(_: web.Request) -> web.Response:
    return web.json_response(completed)


@PromptServer.instance.routes.get("/player_probe/webrtc")
async def held_for_pages(_: web.Request) -> web.Response:
    """What pages that watch by WebRTC and speak keep in this process: their sockets, who is sent frames, how many
    threads encode, and conversations somebody's microphone has."""
    broadcasts = list(pack_module("serving.webrtc.broadcast").broadcasts.values())
    held = {
        "pages": pack_module("serving.webrtc.route")._viewers,
        "viewers": sum(len(broadcast._viewers) for broadcast in broadcasts),
        "encoding": sum(thread.name == "live video" for thread in threading.enumerate()),
        "microphones": len(pack_module("serving.talk")._speaking),
    }
    return web.json_response(held)
