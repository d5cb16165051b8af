"""One page that watches by WebRTC. Needs aiortc; everything here runs in one thread with an event loop of its own.

Nobody outside is asked: no STUN and no TURN server. What an offer says of its sender's addresses is left out: else
whoever may watch could have packets sent anywhere, and names of the local network would be looked up by multicast. So
this side sends nothing before the page has reached it with the password of the answer.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from av import Packet

from .broadcast import Broadcast, Sent

T = TypeVar("T")

MOST_WAITING = 100
"""Packets: a connection that takes no more for so long is given up."""


class Track(MediaStreamTrack):
    """Packets that are sent as they come."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.packets: asyncio.Queue[Packet] = asyncio.Queue()

    async def recv(self) -> Packet:
        return await self.packets.get()


class Peer:
    """A page's connection.

    Args:
        broadcast: what it watches.
        told: is given each step that was sent, and None when no more comes; is called in this thread.
    """

    def __init__(self, broadcast: Broadcast, told: Callable[[Sent | None], None]) -> None:
        self._broadcast, self._told = broadcast, told
        self._sound, self._picture = Track("audio"), Track("video")
        self._leave: Callable[[], None] = lambda: None
        self._connection: RTCPeerConnection | None = None

    async def answer(self, offer: str) -> str:
        """The answer to a page's offer, both as SDP. ValueError where the offer cannot be used."""
        self._connection = connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.on("connectionstatechange", self._changed)
        try:
            for track, names in ((self._sound, ("opus",)), (self._picture, ("H264", "rtx"))):
                connection.addTrack(track)
                known = RTCRtpSender.getCapabilities(track.kind).codecs
                sent = [codec for codec in known if codec.name in names]
                connection.getTransceivers()[-1].setCodecPreferences(sent)
            await connection.setRemoteDescription(RTCSessionDescription(without_addresses(offer), "offer"))
            await connection.setLocalDescription(await connection.createAnswer())
        except Exception as error:  # what aiortc raises for what it cannot read is of many kinds
            raise ValueError(
                f"Send an offer to receive one sound and one video in H.264: {error}."
            ) from error
        return connection.localDescription.sdp

    async def close(self) -> None:
        """The page has left."""
        self._leave()
        if self._connection is not None:
            await self._connection.close()

    async def _changed(self) -> None:
        if self._connection.connectionState == "connected":
            loop = asyncio.get_running_loop()
            self._leave = self._broadcast.join(lambda sent: loop.call_soon_threadsafe(self._send, sent))
        elif self._connection.connectionState in ("failed", "closed"):
            self._leave()
            self._told(None)

    def _send(self, sent: Sent | None) -> None:
        if sent is None or self._sound.packets.qsize() > MOST_WAITING:
            self._leave()
            self._told(None)
            return
        self._sound.packets.put_nowait(sent.sound)
        if sent.picture is not None:
            self._picture.packets.put_nowait(sent.picture)
        self._told(sent)


def without_addresses(offer: str) -> str:
    """An offer that does not say where its sender is."""
    lines = offer.splitlines()
    kept = [line for line in lines if not line.startswith(("a=candidate:", "a=end-of-candidates"))]
    return "\r\n".join(kept) + "\r\n"


_loop: asyncio.AbstractEventLoop | None = None
_lock = threading.Lock()


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that runs in the thread of all peers."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="webrtc", daemon=True).start()
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, _loop))
