"""HTTP connections to services: one set for each event loop, so that a request finds an open connection."""

from __future__ import annotations

import asyncio
from weakref import WeakKeyDictionary

import aiohttp

CONNECT_SECONDS = 4.0
QUIET_SECONDS = 30.0
"""A service that sends nothing for so long has failed."""

_sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, aiohttp.ClientSession] = WeakKeyDictionary()


def connections() -> aiohttp.ClientSession:
    """The connections of the running loop. Close them with `close_connections` before the loop ends."""
    loop = asyncio.get_running_loop()
    session = _sessions.get(loop)
    if session is None or session.closed:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=QUIET_SECONDS)
        # Neither proxies nor .netrc of the environment: a key goes where it belongs only.
        session = _sessions[loop] = aiohttp.ClientSession(timeout=timeout, trust_env=False)
    return session


async def close_connections() -> None:
    """Close the connections of the running loop, if there are any."""
    session = _sessions.pop(asyncio.get_running_loop(), None)
    if session is not None:
        await session.close()
