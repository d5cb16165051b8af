"""The WebSocket by which pages take part in a conversation."""

from __future__ import annotations

import asyncio
import threading

import aiohttp
import pytest
import torch
from aiohttp import web
from avatar.conversation.talk import End, Held, Hush, Played, Sound, Talk, Typed, talks
from avatar.media.speech_feed import SpeechFeed

ID = "a-conversation-of-tests"


class Parrot(Talk):
    """Says what it is told, and keeps it."""

    def __init__(self, feed):
        super().__init__(feed)
        self.got = []

    async def converse(self):
        self.tell("state", state="listening")
        while True:
            message = await self.next_message()
            self.got.append(message)
            if isinstance(message, Typed):
                self.tell("said", text=message.text, turn=len(self.got))


@pytest.fixture
def parrot():
    talk = Parrot(SpeechFeed(24_000))
    talks[ID] = talk
    listening = threading.Event()
    leave = talk.join(lambda message: message["state"] == "listening" and listening.set())
    talk.start()
    assert listening.wait(10)
    leave()
    yield talk
    talk.feed.close()


def visit(routes, *visits):
    """Run visits, each with a client session, at a server that has only the route of conversations."""

    async def main():
        table = web.RouteTableDef()
        routes.register(table)
        app = web.Application()
        app.add_routes(table)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            for one in visits:
                await asyncio.wait_for(one(session), 10)
        await runner.cleanup()

    asyncio.run(main())


@pytest.fixture
def routes():
    # The module is imported here, since its neighbours in the folder need a host and this one does not.
    from avatar.serving import talk

    return talk


async def told(socket, type_):
    """The next message of a type."""
    while (message := await socket.receive_json())["type"] != type_:
        pass
    return message


async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)


def test_everything_that_a_page_sends_arrives_in_order(parrot, routes):
    async def page(session):
        async with session.ws_connect(f"/liveavatar/talk/{ID}") as socket:
            assert await told(socket, "state") == {"type": "state", "state": "listening"}
            await socket.send_bytes((1 << 14).to_bytes(2, "little") * 480)
            await socket.send_json({"type": "talk", "held": True})
            await socket.send_json({"type": "played", "seconds": 1.5})
            await socket.send_json({"type": "stop"})
            await socket.send_json({"type": "end"})
            await socket.send_json({"type": "text", "text": " Hello "})
            assert await told(socket, "said") == {"type": "said", "text": "Hello", "turn": 6}

    visit(routes, page)
    sound, *rest = parrot.got
    assert isinstance(sound, Sound) and torch.equal(sound.samples, torch.full((480,), 0.5))
    assert rest == [Held(True), Played(1.5), Hush(), End(), Typed("Hello")]


def test_what_cannot_be_read_is_answered_by_a_sentence_and_the_socket_stays(parrot, routes):
    async def page(session):
        async with session.ws_connect(f"/liveavatar/talk/{ID}") as socket:
            for wrong in (
                "",
                "[" * 9000,
                "{}",
                '{"type": "text", "text": ""}',
                '{"type": "played", "seconds": -1}',
            ):
                await socket.send_str(wrong)
                assert (await told(socket, "error"))["message"].startswith("Send a message of a known type")
            await socket.send_json({"type": "text", "text": "x" * 5000})
            assert (await told(socket, "error"))["message"].startswith("Shorten the message")
            await socket.send_bytes(b"odd")
            assert "no whole number" in (await told(socket, "error"))["message"]
            await socket.send_json({"type": "text", "text": "still here"})
            assert (await told(socket, "said"))["text"] == "still here"

    visit(routes, page)


def test_a_message_that_is_too_large_closes_the_socket(parrot, routes):
    async def page(session):
        async with session.ws_connect(f"/liveavatar/talk/{ID}") as socket:
            await socket.send_bytes(bytes(100_000))
            while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
            assert message.type is aiohttp.WSMsgType.CLOSE and message.data == 1009

    visit(routes, page)
    assert parrot.got == []


def test_one_page_speaks_at_a_time_and_all_of_them_hear(parrot, routes):
    async def pages(session):
        path = f"/liveavatar/talk/{ID}"
        async with session.ws_connect(path) as first, session.ws_connect(path) as second:
            await first.send_bytes(bytes(2))
            await until(lambda: len(parrot.got) == 1)
            await second.send_bytes(bytes(4))
            await second.send_json({"type": "text", "text": "typed by the second"})
            for socket in (first, second):
                assert (await told(socket, "said"))["text"] == "typed by the second"
            await first.close()
            await asyncio.sleep(0.05)
            await second.send_bytes(bytes(6))
            await until(lambda: len(parrot.got) == 3)

    visit(routes, pages)
    assert [len(got.samples) for got in parrot.got if isinstance(got, Sound)] == [1, 3]


def test_a_page_that_comes_later_is_told_the_transcript(parrot, routes):
    async def page(session):
        async with session.ws_connect(f"/liveavatar/talk/{ID}") as socket:
            await socket.send_json({"type": "text", "text": "once"})
            await told(socket, "said")

    async def later(session):
        async with session.ws_connect(f"/liveavatar/talk/{ID}") as socket:
            assert (await socket.receive_json())["text"] == "once"
            assert (await socket.receive_json()) == {"type": "state", "state": "listening"}

    visit(routes, page, later)


def test_the_conversation_ends_with_its_video(parrot, routes):
    async def page(session):
        async with session.ws_connect(f"/liveavatar/talk/{ID}") as socket:
            await told(socket, "state")
            threading.Timer(0.1, parrot.feed.close).start()
            await told(socket, "end")
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE

    async def too_late(session):
        async with session.get(f"/liveavatar/talk/{ID}") as answer:
            assert answer.status == 404

    visit(routes, page, too_late)


def test_plain_requests_and_unknown_ids_are_refused(parrot, routes):
    async def page(session):
        async with session.get(f"/liveavatar/talk/{ID}") as answer:
            assert answer.status == 400 and await answer.text() == "Open this address as a WebSocket."
        async with session.get("/liveavatar/talk/somebody-elses-id") as answer:
            assert answer.status == 404

    visit(routes, page)
