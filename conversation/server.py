"""A server with OpenAI's interface: where it is, which key it gets, and what its refusals mean."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from .connections import CONNECT_SECONDS, connections
from .roles import ServiceError

KEY_PREFIX = "LIVEAVATAR_KEY_"
KEY_NAME = re.compile(KEY_PREFIX + r"[A-Z0-9_]{1,60}")
ANSWER_BYTES = 1 << 20
SAID_BYTES = 4096
SHOWN_LETTERS = 200
SHOWN_MODELS = 8


@dataclass(frozen=True)
class Server:
    """An address such as ``http://127.0.0.1:11434/v1``, and the name of the environment variable with its key.

    The variable holds the origin that may see the key, a space, and the key: ``https://api.example.com sk-...``. So a
    workflow of somebody else, which names both, cannot send a key elsewhere, nor any other variable.

    Args:
        url: without credentials and query.
        what: the service's name in messages.
        key: empty where none is needed.
        quiet_seconds: a service that sends nothing for so long has failed; models may be loaded meanwhile.
    """

    url: str
    what: str
    key: str = ""
    quiet_seconds: float = 60.0

    def check(self, *schemes: str) -> None:
        """ValueError for an address of other schemes (by default http and https), or a wrong name of a key."""
        try:
            parts = urlsplit(self.url)
            right = parts.scheme in (schemes or ("http", "https")) and parts.hostname and parts.port != 0
        except ValueError:
            right = False
        if not right or parts.query or parts.fragment or "@" in parts.netloc or re.search(r"\s", self.url):
            raise ValueError(
                f"Write the address of the {self.what} such as http://127.0.0.1:8000/v1: it is "
                f"{self.url[:SHOWN_LETTERS]!r}."
            )
        if self.key and not KEY_NAME.fullmatch(self.key):
            raise ValueError(
                f"Write the name of an environment variable such as {KEY_PREFIX}MINE into key, never the key itself: "
                "workflows are stored in the videos."
            )

    def headers(self) -> dict[str, str]:
        """The headers that carry the key; ServiceError where it is not there, or belongs to another address."""
        if not self.key:
            return {}
        origin, _, key = os.environ.get(self.key, "").strip().partition(" ")
        parts = urlsplit(self.url)
        # A WebSocket of a server belongs to the same origin.
        own = f"{parts.scheme.replace('ws', 'http')}://{parts.netloc}"
        if not key:
            raise ServiceError(
                f"Set the environment variable {self.key} to '{own} KEY' and start ComfyUI again: the {self.what} "
                "needs a key."
            )
        if origin.rstrip("/") != own:
            raise ServiceError(
                f"Choose another key for the {self.what}: {self.key} belongs to {origin[:SHOWN_LETTERS]}, not to {own}."
            )
        return {"Authorization": f"Bearer {key.strip()}"}

    @asynccontextmanager
    async def request(self, method: str, path: str, model: str = "", **body: Any) -> AsyncIterator[Any]:
        """An answer that is fine; all other ends are a `ServiceError`, also while the answer is read."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_SECONDS, sock_read=self.quiet_seconds
        )
        try:
            async with connections().request(
                method,
                self.url.rstrip("/") + path,
                headers=self.headers(),
                allow_redirects=False,
                timeout=timeout,
                **body,
            ) as answer:
                if answer.status >= 300:
                    raise ServiceError(await self._refusal(answer, model))
                yield answer
        except (asyncio.TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise ServiceError(
                f"Look at the log of the {self.what}: it has sent nothing for {self.quiet_seconds:g} s ({self.url})."
            ) from error
        except aiohttp.ClientConnectorError as error:
            raise ServiceError(f"Start the {self.what}: nothing answers at {self.url}.") from error
        except aiohttp.ClientError as error:
            raise ServiceError(
                f"Look at the log of the {self.what}: it broke off in the middle ({self.url})."
            ) from error

    async def probe(self) -> None:
        """ServiceError where nothing answers, or the key is refused."""
        try:
            await self._models()
        except _Refused as refused:
            if refused.status in (401, 403):
                raise ServiceError(self._wrong_key()) from None

    async def read(self, answer: aiohttp.ClientResponse) -> Any:
        """The JSON of an answer; ServiceError for anything else."""
        data = bytearray()
        try:
            async for piece in answer.content.iter_any():
                data += piece
                if len(data) > ANSWER_BYTES:
                    raise ValueError
            return json.loads(data)
        except ValueError:
            raise ServiceError(
                f"Check the address of the {self.what}: {self.url} does not answer in JSON."
            ) from None

    def told(self, error: Any) -> ServiceError:
        """The error that a server reports in its answer."""
        message = error.get("message") if isinstance(error, dict) else error
        return ServiceError(f"Look at the log of the {self.what}: it says {shown(message)}.")

    def refusal(self, status: int, path: str, said: str) -> str:
        """What a refusal of this path means, and what to do about it."""
        if status in (401, 403):
            return self._wrong_key()
        if status == 404:
            return f"Check the address of the {self.what}: there is no {path} at {self.url}."
        if status == 429:
            return (
                f"Wait a moment, or choose another service: the {self.what} is busy or its quota is used up."
            )
        if 300 <= status < 400:
            return f"Write the final address of the {self.what}: {self.url} leads elsewhere."
        return f"Look at the log of the {self.what}: it refuses ({status}) and says {shown(said)}."

    async def _refusal(self, answer: aiohttp.ClientResponse, model: str) -> str:
        said = (await answer.content.read(SAID_BYTES)).decode(errors="replace")
        about_model = model and re.search(r"\bmodel\b", said, re.IGNORECASE)
        if about_model and answer.status in (400, 404, 422):
            return await self._unknown_model(model)
        return self.refusal(answer.status, answer.url.path, said)

    async def _unknown_model(self, model: str) -> str:
        try:
            known = await self._models()
        except (ServiceError, _Refused):
            known = []
        there = f"; it has {', '.join(known[:SHOWN_MODELS])}" if known else ""
        return f"Choose another model: the {self.what} at {self.url} has no {model[:SHOWN_LETTERS]}{there}."

    def _wrong_key(self) -> str:
        named = f"the one in {self.key} is not accepted" if self.key else "it wants one, and none is named"
        return f"Set the right key for the {self.what} at {self.url}: {named}."

    async def _models(self) -> list[str]:
        timeout = aiohttp.ClientTimeout(total=CONNECT_SECONDS)
        try:
            async with connections().get(
                self.url.rstrip("/") + "/models",
                headers=self.headers(),
                allow_redirects=False,
                timeout=timeout,
            ) as answer:
                if answer.status != 200:
                    raise _Refused(answer.status)
                listed = await self.read(answer)
        except (asyncio.TimeoutError, aiohttp.ClientError) as error:
            raise ServiceError(f"Start the {self.what}: nothing answers at {self.url}.") from error
        models = listed.get("data") if isinstance(listed, dict) else None
        return [str(model.get("id"))[:SHOWN_LETTERS] for model in models or [] if isinstance(model, dict)]


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        self.status = status


def shown(text: Any) -> str:
    """Foreign words in a message: on one line, and cut where they are long."""
    line = " ".join(str(text).split())
    return repr(line if len(line) <= SHOWN_LETTERS else line[:SHOWN_LETTERS] + "…")
