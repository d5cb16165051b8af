"""What the routes answer to requests that nobody should send."""

from __future__ import annotations

import pytest

from tests.unit.in_host import run_in_host

SERVER = """
import sys
sys.path.append({root!r})
import comfy.options
comfy.options.enable_args_parsing()
sys.argv = ["main.py", "--cpu"]
import comfy.cli_args
import utils.install_util  # before other packages bring a module of this name
import tools.pack
import asyncio, struct
import aiohttp
from aiohttp import web
from avatar.media.live import LiveStream, streams
from avatar.media.speech_feed import SpeechFeed, feeds
from avatar.serving import arriving, live as routes, speech as speech_routes, talk as talk_routes

feed = SpeechFeed(24_000)
feeds["somebody-who-speaks"] = feed
live = LiveStream(fps=25, total_frames=25, place={{}}, owner={{"workflow": "w", "node": "1"}})
streams.add(live)
streams.add(LiveStream(fps=25, total_frames=25, place={{}}, owner={{"workflow": routes.NO_ID, "node": "1"}}))
SPEECH = "/liveavatar/speech/somebody-who-speaks"

async def main(visit):
    table = web.RouteTableDef()
    table.get("/liveavatar/streams")(routes.list_streams)
    table.get("/liveavatar/stream/{{id}}/status")(routes.stream_status)
    table.get("/liveavatar/stream/{{id}}")(routes.stream_bytes)
    speech_routes.register(table)
    talk_routes.register(table)
    app = web.Application()
    app.add_routes(table)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession("http://127.0.0.1:%d" % port) as session:
        await visit(session, port)
    await runner.cleanup()
"""

ODD_REQUESTS = (
    SERVER
    + """
long = "9" * 5000
GETS = [
    (f"/liveavatar/stream/{{live.id}}?from={{long}}", {{}}, 400),
    (f"/liveavatar/stream/{{live.id}}?from=-1", {{}}, 400),
    (f"/liveavatar/stream/{{live.id}}?from=%00", {{}}, 400),
    (f"/liveavatar/stream/{{live.id}}?from=%D9%A3", {{}}, 400),
    (f"/liveavatar/stream/{{live.id}}", {{"Range": f"bytes={{long}}-"}}, 416),
    (f"/liveavatar/stream/{{live.id}}", {{"Range": "bytes=x"}}, 416),
    (f"/liveavatar/stream/{{live.id}}", {{"Range": "lines=1-2"}}, 416),
    ("/liveavatar/stream/%00", {{}}, 404),
    ("/liveavatar/stream/" + "a" * 4000, {{}}, 404),
    ("/liveavatar/stream/%3Cimg%20src=x%3E/status", {{}}, 404),
    ("/liveavatar/speech/%00", {{}}, 404),
    ("/liveavatar/streams?workflow=%00&workflow=b", {{}}, 200),
    ("/liveavatar/streams", {{}}, 200),
]
POSTS = [
    (f"?rate={{long}}", b"..", {{}}),
    ("?rate=-1", b"..", {{}}),
    ("?rate=nan", b"..", {{}}),
    ("?rate=%00", b"..", {{}}),
    ("?rate=1e4", b"..", {{}}),
    ("?rate=%D9%A3%D9%A3%D9%A3%D9%A3%D9%A3", b"..", {{}}),
    ("?rate=24000&channels=0", b"..", {{}}),
    (f"?rate=24000&channels={{long}}", b"..", {{}}),
    ("?rate=24000&format=", b"..", {{}}),
    (f"?rate=24000&format={{'f' * 6000}}", b"..", {{}}),
    ("?rate=24000&format=%3Cscript%3E", b"..", {{}}),
    ("?replace=2&rate=24000", b"..", {{}}),
    ("?replace=true", b"", {{}}),
    ("?rate=24000", b"", {{}}),
    ("?rate=24000", b"...", {{}}),
    ("?rate=24000&format=f32", struct.pack("<f", float("inf")), {{}}),
    ("", bytes(1000), {{}}),
    ("", b"no sound" * 100, {{"Content-Encoding": "gzip"}}),
    ("?mood=happy", b"", {{}}),
    ("?mood=" + "h" * 6000, b"", {{}}),
    ("?rate=24000&mood=%3Cscript%3E", b"..", {{}}),
]

async def visit(session, port):
    for path, headers, expected in GETS:
        async with session.get(path, headers=headers, skip_auto_headers=["Accept-Encoding"]) as answer:
            text = await answer.text()
            assert answer.status == expected, (path[:100], answer.status, text)
            assert len(text) < 200 and "Traceback" not in text
    for workflow, count in (("w", 1), ("another", 0), (routes.NO_ID, 0)):
        async with session.get(f"/liveavatar/streams?workflow={{workflow}}") as answer:
            assert len(await answer.json()) == count, workflow
    for query, body, headers in POSTS:
        async with session.post(SPEECH + query, data=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.status == 400, (query[:100], body[:20], answer.status, text)
            assert len(text) < 200 and text.endswith("."), text
            assert answer.content_type == "text/plain" and answer.headers["X-Content-Type-Options"] == "nosniff"
    assert feed.waiting_seconds == 0
    async with session.post(SPEECH + "?rate=24000", data=bytes(48_000)) as answer:
        assert answer.status == 200 and (await answer.json())["waiting_seconds"] == 1.0

asyncio.run(main(visit))
print("fine")
"""
)

UNFINISHED_POSTS = (
    SERVER
    + """
async def visit(session, port):
    writers = []
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = ["POST " + SPEECH + "?rate=24000 HTTP/1.1", "Host: x", "Content-Length: 20000000", "", ""]
        writer.write("\\r\\n".join(head).encode())
        writer.write(bytes(4_000_000))
        await writer.drain()
        writers.append((reader, writer))
    def bodies():
        for task in asyncio.all_tasks():
            coroutine = task.get_coro()
            while coroutine is not None:
                frame = getattr(coroutine, "cr_frame", None)
                if frame is not None and isinstance(frame.f_locals.get("data"), bytearray):
                    yield len(frame.f_locals["data"])
                context = frame.f_locals.get("self") if frame is not None else None
                generator = getattr(context, "gen", None)  # of an asynccontextmanager that is being entered
                coroutine = generator.ag_await if generator is not None else getattr(coroutine, "cr_await", None)
    await asyncio.sleep(1.0)
    assert sum(bodies()) >= 12_000_000
    assert arriving.memory.held == 3 * 3 * 20_000_000
    arriving.memory.most = 200_000_000
    async with session.post(SPEECH + "?rate=24000", data=bytes(8_000_000)) as answer:
        assert answer.status == 503 and int(answer.headers["Retry-After"]), "the memory is taken"
        assert "takes the memory" in await answer.text()
    feed.close()
    for reader, writer in writers:
        assert b" 410 " in await asyncio.wait_for(reader.readline(), 5)
        writer.close()
    await asyncio.sleep(0.2)
    assert sum(bodies()) == 0 and arriving.memory.held == 0

asyncio.run(main(visit))
print("fine")
"""
)

OTHER_PAGES = (
    SERVER
    + """
from comfy.cli_args import args

ROUTES = [
    ("POST", SPEECH + "?rate=24000", b"..", 200),
    ("GET", SPEECH + "/microphone", None, 400),
    ("GET", "/liveavatar/talk/nobody", None, 404),
    ("POST", SPEECH + "/end", None, 200),
]
PAGES = [{{"Origin": "null"}}, {{"Sec-Fetch-Site": "cross-site"}}]

async def visit(session, port):
    async def ask(method, path, body, headers):
        async with session.request(method, path, data=body, headers=headers) as answer:
            return answer.status, await answer.text()
    for method, path, body, _ in ROUTES:
        for headers in PAGES:
            status, text = await ask(method, path, body, headers)
            assert status == 403 and text.startswith("Ask from a program"), (path, headers, status, text)
    assert feed.waiting_seconds == 0 and not feed.ended
    for method, path, body, expected in ROUTES:
        assert (await ask(method, path, body, {{"Sec-Fetch-Site": "same-origin"}}))[0] == expected, path
    args.enable_cors_header = "*"
    for headers in PAGES:
        assert (await ask("POST", SPEECH + "/end", None, headers))[0] == 200

asyncio.run(main(visit))
print("fine")
"""
)


@pytest.mark.parametrize(
    "program", [ODD_REQUESTS, UNFINISHED_POSTS, OTHER_PAGES], ids=["odd", "unfinished", "other pages"]
)
def test_odd_requests_get_a_sentence_and_unfinished_ones_keep_no_memory(program):
    run_in_host(program)
