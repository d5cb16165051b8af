"""Who may ask for videos: programs of this machine, and others where that was switched on."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hmac import compare_digest

NETWORK = "LIVEAVATAR_HTTP_NETWORK"
"""Environment variable: 1 lets other machines in."""
KEY = "LIVEAVATAR_HTTP_KEY"
"""Environment variable: a key that every request has to carry, as 'Authorization: Bearer KEY'."""
HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
"""Headers of every answer."""
FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


class Refusal(Exception):
    """A request that is not answered: a status of HTTP and a sentence that says what to change."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, {**HEADERS, **(headers or {})}


@contextmanager
def refusing() -> Iterator[None]:
    """A ValueError within becomes a Refusal with its sentence: the request makes no sense."""
    try:
        yield
    except ValueError as error:
        raise Refusal(400, str(error)) from error


def check_access(remote: str, host: str, headers: Mapping[str, str]) -> None:
    """Refusal for who may not use the service. Pages of other origins are refused elsewhere.

    Args:
        remote: address of whoever asks.
        host: the name by which the request calls this machine, without its port.
        headers: of the request, found whatever the case of their names.
    """
    if os.environ.get(NETWORK) != "1" and not _from_here(remote, host, headers):
        raise Refusal(403, f"Set {NETWORK}=1 where the service starts: it answers its own machine only.")
    key = os.environ.get(KEY)
    given = headers.get("Authorization", "").encode(errors="surrogateescape")  # bytes as they came
    if key and not compare_digest(given, f"Bearer {key}".encode()):
        raise Refusal(
            401, "Send the service's key as 'Authorization: Bearer KEY'.", {"WWW-Authenticate": "Bearer"}
        )


def loopback(name: str) -> bool:
    """Whether a name or an address is this machine's own for itself."""
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _from_here(remote: str, host: str, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from this machine, itself and not through a proxy, and names this machine.

    A page whose name was pointed at this machine names itself.
    """
    return loopback(remote) and loopback(host) and not any(name in headers for name in FORWARDED)
