"""The service's door on the host's server: who is let in, and what the others are told."""

from __future__ import annotations

from aiohttp import web

from ..jobs import access


def check_access(request: web.Request) -> None:
    """Refusal for who may not use the service. Pages of other origins are refused by the host itself."""
    access.check_access(request.remote or "", request.url.host or "", request.headers)


def refused(refusal: access.Refusal) -> web.Response:
    """The answer to a request that is refused."""
    return web.json_response({"error": str(refusal)}, status=refusal.status, headers=refusal.headers)
