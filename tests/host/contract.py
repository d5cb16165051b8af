"""Answers of the service, compared with its OpenAPI description."""

from __future__ import annotations

import http.client
import json
from typing import Any, NamedTuple

import pytest

from tools.environment import ROOT

DESCRIPTION = json.loads((ROOT / "serving" / "openapi.json").read_text(encoding="utf-8"))


class Answer(NamedTuple):
    """An answer with its whole body."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Service:
    """The service of a host. Every answer has to be one that the description knows.

    ``errors`` are only compared with the description: the host's own refusals have no JSON.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self._validators = pytest.importorskip("jsonschema", reason="jsonschema is needed to compare answers")

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        """Send JSON, or bytes as they are, and read the whole answer."""
        if body is not None and not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            connection.request(method, path, body, headers or {})
            got = connection.getresponse()
            answer = Answer(got.status, got.headers, got.read())
        finally:
            connection.close()
        self._compare(method, path, answer)
        return answer

    def generate(self, **wish: Any) -> Answer:
        """Ask for a video."""
        return self.ask("POST", "/liveavatar/generate", wish)

    def valid(self, wish: Any) -> bool:
        """Whether the description allows this request."""
        return self._validator("Request").is_valid(wish)

    def _compare(self, method: str, path: str, answer: Answer) -> None:
        route = next(known for known in DESCRIPTION["paths"] if _fits(known, path.partition("?")[0]))
        known = DESCRIPTION["paths"][route][method.lower()]["responses"]
        assert str(answer.status) in known, (answer.status, answer.body[:300])
        described = _resolve(known[str(answer.status)])
        kind = answer.headers.get_content_type()
        if "content" in described:
            assert kind in described["content"], (answer.status, kind, answer.body[:300])
        if kind == "application/json":
            schema = described["content"][kind]["schema"]
            self._validator(schema["$ref"].rpartition("/")[2] if "$ref" in schema else None).validate(
                answer.json
            )
            assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def _validator(self, name: str | None) -> Any:
        schema = {"type": "object"} if name is None else {"$ref": f"#/components/schemas/{name}"}
        return self._validators.Draft202012Validator({**schema, "components": DESCRIPTION["components"]})


def _fits(route: str, path: str) -> bool:
    ours, theirs = route.split("/"), path.split("/")
    return len(ours) == len(theirs) and all(
        a.startswith("{") or a == b for a, b in zip(ours, theirs, strict=True)
    )


def _resolve(response: dict[str, Any]) -> dict[str, Any]:
    if "$ref" not in response:
        return response
    return DESCRIPTION["components"]["responses"][response["$ref"].rpartition("/")[2]]
