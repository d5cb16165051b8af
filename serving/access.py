"""The service's door on the host's server: who is let in, and what the others are told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps

from aiohttp import web

from ..jobs import access

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
READING = ("GET", "HEAD")


def check_access(request: web.Request) -> None:
    """Refusal for who may not use the service."""
    access.check_access(request.remote or "", request.url.host or "", request.headers)
    if request.method not in READING:
        check_page(request)


def check_page(request: web.Request) -> None:
    """Refusal for pages of other origins that the host lets pass, because they do not say where they come from.

    A frame in a sandbox and a file say ``null``, and any page can be such a frame. The host refuses the others
    itself, and lets in whom it was told to.
    """
    hidden = request.headers.get("Origin") == "null" or request.headers.get("Sec-Fetch-Site") == "cross-site"
    if hidden and not _others_are_let_in():
        raise access.Refusal(403, "Ask from a program: pages of other origins are not answered.")


def _others_are_let_in() -> bool:
    """Whether the host was started with ``--enable-cors-header``."""
    from comfy.cli_args import args

    return args.enable_cors_header is not None


def for_own_pages(handler: Handler) -> Handler:
    """A handler for programs and for pages of the host, which are told in plain text why they are refused."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            check_page(request)
            return await handler(request)
        except access.Refusal as refusal:
            return refused(refusal, plain=True)

    return answer


def refused(refusal: access.Refusal, *, plain: bool = False) -> web.Response:
    """The answer to a request that is refused, as JSON or as plain text."""
    about = {"status": refusal.status, "headers": refusal.headers}
    if plain:
        response = web.Response(text=str(refusal), **about)
    else:
        response = web.json_response({"error": str(refusal)}, **about)
    if refusal.headers.get("Connection") == "close":
        response.force_close()
    return response
