"""The conversation with a server of OpenAI's Realtime interface, which hears, thinks and speaks by itself.

The microphone goes up as it comes; the server finds the turns. What it says goes into the feed. When it hears the
person, the answer stops, and the server is told how much of it was really heard: it remembers no more than that.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp
from torch import Tensor

from ..media.audio import mono_samples
from ..media.speech_feed import Closed, Full, SpeechFeed
from .connections import connections
from .onset import Onset
from .roles import ServiceError
from .server import Server
from .services import pcm
from .spoken import Spoken
from .talk import RATE, WATCH_SECONDS, End, Held, Hush, Played, Sound, Talk, Typed
from .timings import Timings

MESSAGE_BYTES = 4 << 20
HEARTBEAT_SECONDS = 20.0
RETRY_SECONDS = 3.0
LONGEST_RETRY = 30.0


@dataclass(frozen=True)
class Realtime:
    """What is asked of the server."""

    server: Server
    model: str
    voice: str = ""
    instructions: str = ""
    barge_in: bool = True
    push_to_talk: bool = False


class RealtimeConversation(Talk):
    """See the module."""

    def __init__(
        self, feed: SpeechFeed, realtime: Realtime, on_error: Callable[[str], None] = lambda text: None
    ) -> None:
        super().__init__(feed, on_error)
        self._realtime, self.push_to_talk = realtime, realtime.push_to_talk
        self.barge_in = realtime.barge_in
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._response: str | None = None  # that the server is making
        self._spoken: Spoken | None = None
        self._item: dict[str, Any] = {}
        self._turn = 0
        self._void: set[str] = set()
        self._timings: Timings | None = None
        self._watching: asyncio.Task[None] | None = None
        self._onset = Onset(RATE)

    async def converse(self) -> None:
        """Talk until cancelled; a connection that breaks is made anew."""
        taking = asyncio.create_task(self._take_all())
        wait = RETRY_SECONDS
        try:
            while True:
                begun = self.now()
                try:
                    await self._visit()
                except ServiceError as error:
                    self.error(str(error))
                if self.now() - begun > LONGEST_RETRY:
                    wait = RETRY_SECONDS
                self._stop()
                self.tell("state", state="waiting")
                await asyncio.sleep(wait)
                wait = min(LONGEST_RETRY, 2 * wait)
        finally:
            taking.cancel()
            if self._watching is not None:
                self._watching.cancel()

    async def _visit(self) -> None:
        """One connection, from its beginning to its end."""
        server = self._realtime.server
        address = f"{server.url.rstrip('/')}/realtime?model={quote(self._realtime.model, safe='')}"
        try:
            socket = await connections().ws_connect(
                address, headers=server.headers(), max_msg_size=MESSAGE_BYTES, heartbeat=HEARTBEAT_SECONDS
            )
        except aiohttp.WSServerHandshakeError as error:
            path = error.request_info.real_url.path
            raise ServiceError(server.refusal(error.status, path, error.message)) from error
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            raise ServiceError(f"Start the {server.what}: nothing answers at {server.url}.") from error
        async with socket:
            self._socket, self._response = socket, None
            await self._send("session.update", session=self._session())
            self.rest()
            try:
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        await self._event(message.data)
            finally:
                self._socket = None
        raise ServiceError(
            f"Look at the log of the {server.what}: it has closed the connection ({server.url})."
        )

    def _session(self) -> dict[str, Any]:
        sound = {"type": "audio/pcm", "rate": RATE}
        turns = {"type": "server_vad", "interrupt_response": self._realtime.barge_in, "create_response": True}
        heard = {"format": sound, "turn_detection": None if self.push_to_talk else turns, "transcription": {}}
        said = {"format": sound, **({"voice": self._realtime.voice} if self._realtime.voice else {})}
        return {
            "type": "realtime",
            "model": self._realtime.model,
            "instructions": self._realtime.instructions,
            "output_modalities": ["audio"],
            "audio": {"input": heard, "output": said},
        }

    # What the page sends.

    async def _take_all(self) -> None:
        while True:
            message = await self.next_message()
            if isinstance(message, Played):
                self.shown(message.seconds)
            elif isinstance(message, End):
                self.feed.end()
            elif self._socket is not None:
                await self._take(message)

    async def _take(self, message: Any) -> None:
        if isinstance(message, Sound):
            self._may_interrupt(message.samples)
            if self.held_key or not self.push_to_talk:
                audio = base64.b64encode(pcm(message.samples)).decode()
                await self._send("input_audio_buffer.append", audio=audio)
        elif isinstance(message, Typed):
            await self._interrupt(cancel=True)
            self.tell("heard", text=message.text, final=True)
            content = [{"type": "input_text", "text": message.text}]
            item = {"type": "message", "role": "user", "content": content}
            await self._send("conversation.item.create", item=item)
            self._begin_turn()
            await self._send("response.create")
        elif isinstance(message, Hush):
            await self._interrupt(cancel=True)
            self.rest()
        elif isinstance(message, Held) and self.push_to_talk and message.held != self.held_key:
            self.held_key = message.held
            if message.held:
                await self._interrupt(cancel=True)
                self.tell("state", state="listening")
            else:
                await self._send("input_audio_buffer.commit")
                self._begin_turn()
                await self._send("response.create")

    def _may_interrupt(self, samples: Tensor) -> None:
        """Let the pages be mute until the server has had the time to say that somebody interrupts."""
        if self._spoken is not None and self.barge_in and not self.push_to_talk:
            self.duck(self._onset.hear(samples))

    async def _send(self, type_: str, **values: Any) -> None:
        if self._socket is not None:
            with suppress(ConnectionError, aiohttp.ClientError):  # the visit ends, and says so
                await self._socket.send_json({"type": type_, **values})

    # What the server tells.

    async def _event(self, data: str) -> None:
        try:
            event = json.loads(data)
            # Servers of the interface's first version leave "output_" away.
            kind = event["type"].replace("response.audio", "response.output_audio")
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            what = self._realtime.server.what
            raise ServiceError(f"Check the address of the {what}: it does not talk Realtime.") from error
        if kind == "error":
            self.error(str(self._realtime.server.told(event.get("error"))))
        elif kind == "input_audio_buffer.speech_started":
            if self._realtime.barge_in:
                await self._interrupt(cancel=False)
                self.tell("state", state="listening")
        elif kind == "input_audio_buffer.speech_stopped":
            self._begin_turn()
        elif kind == "conversation.item.input_audio_transcription.completed":
            self._mark("ears")
            self.tell("heard", text=str(event.get("transcript", "")).strip(), final=True)
        elif kind == "response.created":
            self._response = _response(event).get("id")
        elif kind == "response.output_audio.delta":
            await self._speak(event)
        elif kind == "response.output_audio_transcript.done":
            if event.get("response_id") not in self._void:
                self.tell("said", text=str(event.get("transcript", "")).strip(), turn=self._turn)
        elif kind == "response.output_audio.done":
            self._complete(event.get("response_id"))
        elif kind == "response.done":
            response = _response(event)
            if response.get("id") == self._response:
                self._response = None
            self._complete(response.get("id"))
            if response.get("status") == "failed":
                details = response.get("status_details") or {}
                self.error(str(self._realtime.server.told(details.get("error", "the answer failed"))))

    async def _speak(self, event: dict[str, Any]) -> None:
        response = event.get("response_id")
        if response in self._void:
            return  # on its way when the answer was interrupted
        try:
            samples = mono_samples(base64.b64decode(event["delta"], validate=True), "s16", 1)
        except (ValueError, KeyError, TypeError) as error:
            what = self._realtime.server.what
            raise ServiceError(f"Set the {what} to give 16-bit PCM: its sound cannot be read.") from error
        if self._spoken is None:
            self._spoken = Spoken(self.feed)
            self._spoken.begin("answer")
            self._item = {"item_id": event.get("item_id"), "content_index": event.get("content_index", 0)}
            self._response = response
            self._mark("voice")
            self._mark("written")
            self.tell("state", state="speaking")
            if self._watching is not None:
                self._watching.cancel()
            self._watching = asyncio.create_task(self._watch(self._spoken))
        try:
            self._spoken.write(samples, RATE)
        except Full:
            self.error("Ask for shorter answers: more than five minutes of this one wait to be spoken.")
            await self._interrupt(cancel=True)
        except Closed:
            pass  # the video is about to end

    def _complete(self, response: str | None) -> None:
        if self._spoken is not None and response not in self._void:
            with suppress(Closed, Full):
                self._spoken.complete()

    async def _interrupt(self, cancel: bool) -> None:
        """Stop what is said, and tell the server how much of it was heard."""
        if self.feed.ended:
            return  # what waits is said
        begun, item, response = self._spoken is not None, self._item, self._response
        heard, self._response = self._stop(), None
        if response is not None:  # else there is nothing to cancel: the answer is only played
            self._void.add(response)
            if cancel:
                await self._send("response.cancel")
        if begun and item["item_id"] is not None:
            place = {"item_id": item["item_id"], "content_index": item["content_index"]}
            await self._send("conversation.item.truncate", **place, audio_end_ms=round(1000 * heard))

    def _stop(self) -> float:
        """Drop what was not heard of the answer; the seconds that were."""
        spoken = self._spoken
        if spoken is None or self.feed.ended:
            return 0.0
        self._spoken = None
        played = self.played()
        spoken.take_out(played)
        self.tell_void(played)
        self._nobody_interrupts()
        return spoken.heard_samples / self.feed.rate

    async def _watch(self, spoken: Spoken) -> None:
        """Follow an answer until it was heard."""
        measured = False
        while self._spoken is spoken and not (spoken.finished and spoken.all_heard(self.played())):
            await asyncio.sleep(WATCH_SECONDS)
            if not measured and self._timings is not None:
                measured = self.measured(self._turn, self._timings, spoken.first)
        if self._spoken is spoken:
            self._spoken = None
            self._nobody_interrupts()
            self.rest()

    def _nobody_interrupts(self) -> None:
        self._onset.reset()
        self.duck(False)

    def _begin_turn(self) -> None:
        self._turn += 1
        self._timings = Timings(self.now, self.now())
        self._timings.mark("turn_end")
        self.tell("state", state="thinking")

    def _mark(self, part: str) -> None:
        if self._timings is not None:
            self._timings.mark(part)


def _response(event: dict[str, Any]) -> dict[str, Any]:
    found = event.get("response")
    return found if isinstance(found, dict) else {}
