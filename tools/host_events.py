"""The messages that a ComfyUI host pushes to its page: progress, previews, results. Needs aiohttp."""

from __future__ import annotations

import asyncio
import threading
import uuid
from typing import Any

import aiohttp

from .host import Host


class HostEvents:
    """Listens to a host from a thread of its own; a context manager.

    Submit with ``host.submit(workflow, events.client_id)`` to receive the messages of that workflow.
    ``messages`` holds (type, data) pairs in order of arrival, ``previews`` the binary messages.
    """

    def __init__(self, host: Host):
        self.client_id = uuid.uuid4().hex
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.previews: list[bytes] = []
        self._url = f"{host.url}/ws?clientId={self.client_id}"
        self._connected = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> HostEvents:
        self._thread.start()
        if not self._connected.wait(30):
            raise RuntimeError(f"The host does not accept a websocket connection at {self._url}.")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._task.cancel)
        self._thread.join()

    def progress(self) -> tuple[str, float, float] | None:
        """The node that reported progress last, and its value and maximum."""
        for kind, data in reversed(self.messages):
            if kind == "progress":
                return str(data["node"]), data["value"], data["max"]
        return None

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._task = self._loop.create_task(self._listen())
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        finally:
            self._loop.close()

    async def _listen(self) -> None:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(self._url, max_msg_size=0) as socket,
        ):
            self._connected.set()
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    content = message.json()
                    self.messages.append((content["type"], content.get("data") or {}))
                elif message.type is aiohttp.WSMsgType.BINARY:
                    self.previews.append(message.data)
