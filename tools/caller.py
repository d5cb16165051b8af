"""Somebody who talks with an avatar over a host's WebSocket (docs/CONVERSATION.md), for tests and benchmarks."""

from __future__ import annotations

import asyncio
import json
import math
import struct
from collections.abc import Callable
from typing import Any

import aiohttp

from .environment import ROOT

RATE = 24_000
PIECE = 480  # samples, 20 ms
TALKER = "tiny talker (shipped)"


class Caller:
    """Takes part in the conversation of an id, from when it begins; an async context manager.

    Attributes:
        told: the messages so far.
    """

    def __init__(self, url: str, id_: str) -> None:
        self.address, self.told = f"{url}/liveavatar/talk/{id_}", []

    async def __aenter__(self) -> Caller:
        self.session = aiohttp.ClientSession()
        for _ in range(1200):
            try:
                self.socket = await self.session.ws_connect(self.address)
                break
            except aiohttp.WSServerHandshakeError as error:
                assert error.status == 404
                await asyncio.sleep(0.1)
        else:
            await self.session.close()
            raise TimeoutError(f"No conversation has begun at {self.address}.")
        self._listening = asyncio.create_task(self._listen())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listening.cancel()
        await self.session.close()

    async def _listen(self) -> None:
        async for message in self.socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self.told.append(message.json())

    async def send(self, **message: Any) -> None:
        """Send a message."""
        await self.socket.send_json(message)

    async def hum(self, seconds: float, loudness: float = 0.3) -> None:
        """Make a sound of one pitch, at the pace of real time."""
        values = (
            round(32767 * loudness * math.sin(2 * math.pi * 200 * at / RATE))
            for at in range(round(seconds * RATE))
        )
        await self.say(b"".join(struct.pack("<h", value) for value in values))

    async def say(self, sound: bytes) -> None:
        """Speak 16-bit samples at ``RATE``, at the pace of real time."""
        clock = asyncio.get_running_loop()
        due = clock.time()
        for start in range(0, len(sound), 2 * PIECE):
            await self.socket.send_bytes(sound[start : start + 2 * PIECE])
            due += PIECE / RATE
            await asyncio.sleep(max(0.0, due - clock.time()))

    def of(self, type_: str) -> list[dict[str, Any]]:
        """The messages of a type."""
        return [message for message in self.told if message["type"] == type_]

    async def until(self, condition: Callable[[], Any], timeout: float = 60) -> Any:
        """The first true value of a condition."""
        for _ in range(round(timeout * 20)):
            if found := condition():
                return found
            await asyncio.sleep(0.05)
        raise AssertionError(f"This has not happened: {self.told[-20:]}")


def conversation_workflow(url: str, id_: str, size: tuple[int, int]) -> dict[str, Any]:
    """The shipped workflow of a conversation, with the shipped talker and one server for all services.

    Args:
        url: of the services, which know a model called "scripted".
        size: of the video, (width, height).
    """
    workflow = json.loads((ROOT / "workflows" / "api" / "conversation.json").read_text(encoding="utf-8"))
    inputs = {node["class_type"]: node["inputs"] for node in workflow.values()}
    for service in ("AvatarLanguageModel", "AvatarVoice", "AvatarEars"):
        inputs[service].update(url=url, model="scripted")
    del inputs["AvatarVoice"]["sample"], inputs["LiveAvatarSampler"]["decoder"]
    inputs["LiveAvatarLoadCheckpoint"].update(checkpoint=TALKER, lora=TALKER)
    inputs["LiveAvatarReferenceImage"].update(size="exact", width=size[0], height=size[1])
    inputs["LiveAvatarSampler"].update(steps=2, performance="auto")
    inputs["AvatarConversation"].update(greeting="", longest_pause=0.6, max_seconds=0.0, id=id_)
    unused = ("LoadAudio", "LiveAvatarLoadFastDecoder")
    return {number: node for number, node in workflow.items() if node["class_type"] not in unused}
