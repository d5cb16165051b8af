"""A connection by WebRTC to another end of aiortc, on this machine."""

from __future__ import annotations

import asyncio
import importlib

import psutil
import pytest
from avatar.serving.webrtc.broadcast import Broadcast, available

from .test_broadcast import Made, follow

if not available():
    pytest.skip("aiortc 1.16 is not installed.", allow_module_level=True)

aiortc = importlib.import_module("aiortc")
peer = importlib.import_module("avatar.serving.webrtc.peer")

SECONDS = 20


def sockets() -> int:
    return len(psutil.Process().net_connections(kind="udp"))


def page() -> aiortc.RTCPeerConnection:
    """The other end, which wants to receive."""
    made = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
    for kind in ("audio", "video"):
        made.addTransceiver(kind, direction="recvonly")
    return made


async def connected(connection) -> None:
    for _ in range(50 * SECONDS):
        if connection.connectionState == "connected":
            return
        await asyncio.sleep(0.02)
    pytest.skip("No UDP packet gets from this machine to itself.")


def test_a_page_gets_pictures_and_sound_and_leaves_no_socket_behind():
    made = Made()
    broadcast, told, before = Broadcast(made.stream), [], sockets()

    async def watch():
        tracks = {}
        other = page()
        other.on("track", lambda track: tracks.update({track.kind: track}))
        await other.setLocalDescription(await other.createOffer())
        one = peer.Peer(broadcast, told.append)
        answer = await peer.apart(one.answer(other.localDescription.sdp))
        assert "H264" in answer and "VP8" not in answer and "opus" in answer
        await other.setRemoteDescription(aiortc.RTCSessionDescription(answer, "answer"))
        await connected(other)
        thread = follow(made, broadcast)
        made.more()
        picture = await asyncio.wait_for(tracks["video"].recv(), SECONDS)
        loud = 0
        while loud < 1000:
            sound = await asyncio.wait_for(tracks["audio"].recv(), SECONDS)
            loud = abs(sound.to_ndarray()).max()
        made.end()
        for _ in range(50 * SECONDS):
            if told and told[-1] is None:
                break
            await asyncio.sleep(0.02)
        await peer.apart(one.close())
        await other.close()
        thread.join(SECONDS)
        return picture

    picture = asyncio.run(watch())
    assert (picture.width, picture.height) == (32, 32)
    assert abs(float(picture.to_ndarray(format="rgb24").mean()) - 100) < 5
    assert told[-1] is None and max(sent.seconds for sent in told if sent) > 0
    assert sockets() == before


def test_two_videos_at_once_keep_apart_and_one_that_is_left_leaves_the_other():
    """Each page sees its own, also after the page of the other one has left."""
    greys, before = (60, 180), sockets()
    made = [Made(grey) for grey in greys]
    broadcasts = [Broadcast(one.stream) for one in made]

    async def join(broadcast):
        tracks, other, one = {}, page(), peer.Peer(broadcast, lambda sent: None)
        other.on("track", lambda track: tracks.update({track.kind: track}))
        await other.setLocalDescription(await other.createOffer())
        answer = await peer.apart(one.answer(other.localDescription.sdp))
        await other.setRemoteDescription(aiortc.RTCSessionDescription(answer, "answer"))
        await connected(other)
        return one, other, tracks["video"]

    async def leave(one, other):
        await peer.apart(one.close())
        await other.close()

    async def look(track, times):
        pictures = [await asyncio.wait_for(track.recv(), SECONDS) for _ in range(times)]
        return [float(picture.to_ndarray(format="rgb24").mean()) for picture in pictures]

    async def watch():
        pages = [await join(broadcast) for broadcast in broadcasts]
        threads = [follow(*both) for both in zip(made, broadcasts, strict=True)]
        for one in made:
            one.more()
        seen = [await look(track, 3) for _, _, track in pages]
        both = sockets()
        await leave(*pages[0][:2])
        one = sockets()
        made[1].more(2)
        seen.append(await look(pages[1][2], 15))
        for maker in made:
            maker.end()
        await leave(*pages[1][:2])
        for thread in threads:
            thread.join(SECONDS)
        return seen, both, one

    (first, second, later), both, one = asyncio.run(watch())
    for found, grey in ((first, greys[0]), (second, greys[1]), (later, greys[1])):
        assert all(abs(value - grey) < 10 for value in found), found
    assert both > one > sockets() == before


@pytest.mark.parametrize(
    "offer",
    ["", "nonsense", "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n", "v=0\r\n" + "m=audio\r\n" * 100],
)
def test_what_is_no_offer_is_refused_in_a_sentence(offer):
    one, before = peer.Peer(Broadcast(Made().stream), print), sockets()

    async def refused():
        with pytest.raises(ValueError, match="Send an offer"):
            await peer.apart(one.answer(offer))
        await peer.apart(one.close())

    asyncio.run(refused())
    assert sockets() == before


def test_a_page_without_h264_is_refused():
    async def refused():
        other = page()
        await other.setLocalDescription(await other.createOffer())
        offer = other.localDescription.sdp.replace("H264", "AV1")
        one = peer.Peer(Broadcast(Made().stream), print)
        with pytest.raises(ValueError, match=r"H\.264"):
            await peer.apart(one.answer(offer))
        await peer.apart(one.close())
        await other.close()

    asyncio.run(refused())


def test_nothing_is_sent_to_the_addresses_of_an_offer():
    lines = ["v=0", "a=candidate:1 1 udp 2 10.0.0.1 9 typ host", "a=candidate:2 1 udp 2 x.local 9 typ host"]
    offer = "\r\n".join([*lines, "a=end-of-candidates", "a=mid:0", ""])
    assert peer.without_addresses(offer) == "v=0\r\na=mid:0\r\n"
