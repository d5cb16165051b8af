"""Exits with 0 while ComfyUI answers. One that is busy (503) is well: restarting it would lose a video."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

URL = "http://127.0.0.1:8188/liveavatar/health"
WELL = (200, 503)
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""A proxy from the environment must not be asked for this machine."""


def status(url: str, key: str = "") -> int:
    """The status of an answer; OSError where there is none."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with HTTP.open(urllib.request.Request(url, headers=headers), timeout=8) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def main(url: str = URL) -> int:
    try:
        found = status(url, os.environ.get("LIVEAVATAR_HTTP_KEY", ""))
    except OSError as error:
        print(f"{url} does not answer: {error}", file=sys.stderr)
        return 1
    if found not in WELL:
        print(f"{url} answers {found}.", file=sys.stderr)
    return 0 if found in WELL else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
