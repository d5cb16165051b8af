"""Requests that drip, that grow when they are unpacked, and that come by the dozen."""

from __future__ import annotations

from tests.unit.in_host import run_in_host

PROGRAM = """
import sys
sys.path.append({root!r})
import comfy.options
comfy.options.enable_args_parsing()
sys.argv = ["main.py", "--cpu"]
import comfy.cli_args
import utils.install_util  # before other packages bring a module of this name
import tools.pack
import asyncio, gzip, json
import aiohttp
from aiohttp import web
from avatar.jobs import memory
from avatar.jobs.access import Refusal
from avatar.serving import arriving, generate, queue
from avatar.serving.access import refused

LARGEST = 10_000
memory.LEAST_SECONDS = 1.5
arriving.memory = memory.Memory(3 * LARGEST)
queue.check_room = lambda: None

async def answer(request):
    try:
        await generate._queued(request)
    except Refusal as refusal:
        return refused(refusal)

async def ask(port, body, **headers):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    named = {{"Host": "x", "Content-Type": "application/json", **headers}}
    writer.write("POST / HTTP/1.1\\r\\n".encode())
    writer.write("".join(f"{{name}}: {{value}}\\r\\n" for name, value in named.items()).encode() + b"\\r\\n" + body)
    await writer.drain()
    status = int((await asyncio.wait_for(reader.readline(), 20)).split()[1])
    writer.close()
    return status

async def main():
    app = web.Application(client_max_size=LARGEST)
    app.router.add_post("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]
    length = "Content-Length"
    assert await ask(port, b"[]", **{{length: 2}}) == 400, "it is read, and is no object"
    assert await ask(port, b"", **{{length: LARGEST + 1}}) == 413, "before it is read"
    packed = gzip.compress(b"x" * 50 * LARGEST)
    assert len(packed) < LARGEST
    assert await ask(port, packed, **{{length: len(packed), "Content-Encoding": "gzip"}}) == 413
    assert await ask(port, b"x", **{{length: 5, "Content-Encoding": "gzip"}}) in (400, 408)
    dripping = [asyncio.create_task(ask(port, b"x", **{{length: LARGEST // 2}})) for _ in range(2)]
    await asyncio.sleep(0.5)
    assert arriving.memory.held == 3 * LARGEST
    assert await ask(port, b"[]", **{{length: 2}}) == 503, "the memory is taken"
    assert await asyncio.gather(*dripping) == [408, 408]
    assert arriving.memory.held == 0
    gone = asyncio.create_task(ask(port, b"x", **{{length: LARGEST}}))
    await asyncio.sleep(0.3)
    gone.cancel()
    await asyncio.sleep(2)
    assert arriving.memory.held == 0
    await runner.cleanup()

asyncio.run(main())
print("fine")
"""


def test_bodies_are_bounded_in_size_number_and_time():
    run_in_host(PROGRAM)
