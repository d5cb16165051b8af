"""Who may use the routes that make videos: programs of this machine, and others where that was switched on."""

from __future__ import annotations

import ipaddress
import os
from hmac import compare_digest

from aiohttp import web

NETWORK = "LIVEAVATAR_HTTP_NETWORK"
"""Environment variable: 1 lets other machines in."""
KEY = "LIVEAVATAR_HTTP_KEY"
"""Environment variable: a key that every request has to carry, as 'Authorization: Bearer KEY'."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


class Refusal(Exception):
    """A request that is not answered: a status and a sentence. Not an aiohttp one, because its body is JSON."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers or {}

    def response(self) -> web.Response:
        """The answer."""
        return web.json_response(
            {"error": str(self)}, status=self.status, headers={**HEADERS, **self.headers}
        )


def check_access(request: web.Request) -> None:
    """Refusal for who may not use the service. Pages of other origins are refused by the host itself."""
    if os.environ.get(NETWORK) != "1" and not _from_here(request):
        raise Refusal(
            403, f"Set {NETWORK}=1 where ComfyUI starts: this service answers its own machine only."
        )
    key = os.environ.get(KEY)
    given = request.headers.get("Authorization", "").encode(errors="surrogateescape")  # bytes as they came
    if key and not compare_digest(given, f"Bearer {key}".encode()):
        raise Refusal(
            401, "Send the service's key as 'Authorization: Bearer KEY'.", {"WWW-Authenticate": "Bearer"}
        )


def _from_here(request: web.Request) -> bool:
    """Whether a request comes from this machine, itself and not through a proxy, and names this machine.

    A page whose name was pointed at this machine names itself.
    """
    return (
        _loopback(request.remote or "")
        and _loopback(request.url.host or "")
        and not any(name in request.headers for name in FORWARDED)
    )


def _loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
