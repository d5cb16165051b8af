"""The node that posts sound to a live run of another ComfyUI."""

from __future__ import annotations

import re
from typing import Any

from comfy_api.latest import io

from ...conversation.roles import ServiceError
from ...conversation.server import Server
from ...conversation.services import wav
from ...media.audio import duration, to_mono, usable
from ..schema import Node, schema
from .services import CATEGORY
from .text import finish

RATE = 24_000
LONGEST_SECONDS = 300.0
PLACE = re.compile(r"(https?://[^/?#\s]+(?:/api)?)(/liveavatar/speech/[A-Za-z0-9_-]{16,128})/?")


class AvatarSendSpeech(Node):
    """Posts sound to a live run."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarSendSpeech",
            search_aliases=["live speech", "post audio", "remote", "tts"],
            display_name="Send Speech",
            category=CATEGORY,
            description=(
                "Sends the AUDIO of any node to LiveAvatar Live Speech in another ComfyUI, which speaks it at once. "
                "(This one cannot listen while it runs a workflow: it runs one at a time.)"
            ),
            inputs=[
                io.String.Input(
                    "address",
                    default="http://127.0.0.1:8188/liveavatar/speech/",
                    tooltip="The address that LiveAvatar Live Speech shows, with its id.",
                ),
                io.Audio.Input("audio", tooltip="What shall be spoken, up to five minutes."),
                io.Boolean.Input(
                    "replace",
                    default=False,
                    optional=True,
                    tooltip="In place of what still waits to be spoken. Off: behind it.",
                ),
            ],
            outputs=[io.Float.Output(display_name="waiting seconds")],
            is_output_node=True,
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> float:
        """Sound is sent with every run."""
        return float("nan")

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """An address of something else is refused when the workflow is queued."""
        super().check(values)
        if "address" in values and not PLACE.fullmatch(values["address"].strip()):
            raise ValueError(
                "Copy the address from LiveAvatar Live Speech: http://host:port/liveavatar/speech/ and an id."
            )

    @classmethod
    def execute(cls, address: str, audio, replace: bool = False) -> io.NodeOutput:
        if duration(usable(audio)) > LONGEST_SECONDS:
            raise ValueError(f"Send {LONGEST_SECONDS:g} s at most at a time (Trim Audio).")
        origin, path = PLACE.fullmatch(address.strip()).groups()
        body = wav(to_mono(audio, RATE), RATE)
        return io.NodeOutput(finish(_posted(Server(origin, "other ComfyUI"), path, body, replace)))


async def _posted(server: Server, path: str, body: bytes, replace: bool) -> float:
    async with server.request("POST", f"{path}?replace={int(replace)}", data=body) as answer:
        told = await server.read(answer)
    seconds = told.get("waiting_seconds") if isinstance(told, dict) else None
    if not isinstance(seconds, (int, float)):
        raise ServiceError(
            f"Copy the address from LiveAvatar Live Speech once more: what answers at {server.url} is none."
        )
    return float(seconds)
