"""The WebSocket on which live speech hears a page's microphone."""

from __future__ import annotations

import aiohttp
import numpy as np
import pytest
from avatar.media.speech_feed import SpeechFeed, feeds
from avatar.serving import speech

from .test_talk import visit

ID = "a-microphone-of-tests"
PATH = f"/liveavatar/speech/{ID}/microphone"


@pytest.fixture
def feed():
    found = SpeechFeed(24_000, limit_seconds=1.0)
    feeds[ID] = found
    yield found
    found.close()


def sound(seconds: float) -> bytes:
    return np.full(round(24_000 * seconds), 8192, "<i2").tobytes()


def test_pieces_are_spoken_in_the_order_in_which_they_come(feed):
    async def speaks(session):
        async with session.ws_connect(PATH) as socket:
            for value in range(1, 6):
                await socket.send_bytes(np.full(480, 1000 * value, "<i2").tobytes())

    visit(speech, speaks)
    heard = feed.peek(2400).view(5, 480) * 32768
    assert heard.mean(1).round().tolist() == [1000.0, 2000.0, 3000.0, 4000.0, 5000.0]


def test_what_cannot_be_taken_is_answered_in_one_sentence_and_the_rest_is_heard(feed):
    async def speaks(session):
        async with session.ws_connect(PATH) as socket:
            await socket.send_bytes(b"\0\0\0")
            assert "3 bytes are no whole number" in (await socket.receive_json())["message"]
            await socket.send_str("hello")
            assert (await socket.receive_json()) == {
                "type": "error",
                "message": "Send sound only, in binary messages.",
            }
            await socket.send_bytes(sound(0.8))
            await socket.send_bytes(sound(0.4))
            assert "would exceed 1 s" in (await socket.receive_json())["message"]

    visit(speech, speaks)
    assert feed.waiting_seconds == pytest.approx(0.8)


def test_the_connection_is_closed_when_the_speech_has_ended(feed):
    async def speaks(session):
        async with session.ws_connect(PATH) as socket:
            feed.end()
            await socket.send_bytes(sound(0.02))
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE

    visit(speech, speaks)


def test_an_unknown_id_and_an_ordinary_request_are_refused(feed):
    async def asks(session):
        async with session.get(PATH) as answer:
            assert answer.status == 400 and "as a WebSocket" in await answer.text()
        async with session.get(PATH.replace("a-", "no-")) as answer:
            assert answer.status == 404

    visit(speech, asks)


def test_a_message_that_is_too_large_closes_the_connection_without_a_fault_of_the_server(feed, caplog):
    async def speaks(session):
        async with session.ws_connect(PATH) as socket:
            await socket.send_bytes(sound(2.0))
            message = await socket.receive()
            assert message.type is aiohttp.WSMsgType.CLOSE and message.data == 1009

    visit(speech, speaks)
    assert feed.waiting_seconds == 0 and caplog.records == []
