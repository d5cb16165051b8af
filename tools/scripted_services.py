"""Ears, a mind, a voice and a Realtime server that do what a script says, with OpenAI's interface. Needs aiohttp.

    python -m tools.scripted_services --port 8091

Words are known by the length of their sound, answers by the question, and sentences are said as a tone of 0.06 s per
letter, so whole conversations run without a model, at stated delays.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import math
import struct
import threading
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web

RATE = 24_000
LETTER_SECONDS = 0.06
PIECE_SECONDS = 0.1
FADE = 240  # samples
QUIET_SECONDS = 0.3
"""Silence after which the Realtime server answers."""


@dataclass
class Script:
    """What the services do; tests change it while they run.

    Attributes:
        transcripts: for sounds of up to so many seconds, their words; the last one serves longer ones too.
        answers: by the question; any other is answered with ``answer``.
        delays: seconds before the words, the first letter, and the first sound.
        letter_seconds: time between two pieces of four letters.
        speed: how much faster than real time sound is sent.
        notices: seconds of speech after which the Realtime server says that somebody speaks.
        key: asked for, where it is not empty.
        fault: "broken stream", "error in stream", "closed", "no sound", "compressed", "json" or none.
        hear, think, speak: do the work in place of the script: the words of a WAV file; the answer to messages; the
            sound of a text, as `tone` gives it.
        asked: the requests so far, path and body.
    """

    transcripts: tuple[tuple[float, str], ...] = ((1.2, "Hello."), (60.0, "What time is it?"))
    answers: dict[str, str] = field(default_factory=lambda: {"Hello.": "Hello, how are you? I am fine."})
    answer: str = "I heard you, and this is my answer. It has two sentences."
    delays: tuple[float, float, float] = (0.0, 0.0, 0.0)
    letter_seconds: float = 0.0
    speed: float = 50.0
    notices: float = 0.0
    models: tuple[str, ...] = ("scripted",)
    key: str = ""
    fault: str = ""
    wav: bool = False
    hear: Callable[[bytes], str] | None = None
    think: Callable[[list[dict[str, Any]]], str] | None = None
    speak: Callable[[str], bytes] | None = None
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def words(self, seconds: float) -> str:
        """What was said in a sound of this length."""
        return next((text for limit, text in self.transcripts if seconds <= limit), self.transcripts[-1][1])

    def reply(self, question: str) -> str:
        """The answer to a question."""
        return self.answers.get(question, self.answer)


def tone(text: str, pitch: float = 220.0) -> bytes:
    """The sound of a text: 16-bit mono samples at 24 kHz, at a pitch in Hz."""
    count = max(1, round(len(text) * LETTER_SECONDS * RATE))
    values = (
        0.3 * min(1.0, at / FADE, (count - at) / FADE) * math.sin(2 * math.pi * pitch * at / RATE)
        for at in range(count)
    )
    return b"".join(struct.pack("<h", int(32767 * value)) for value in values)


class Services:
    """The routes of a script."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def application(self) -> web.Application:
        """The server."""
        app = web.Application(client_max_size=64 << 20, middlewares=[self._admit])
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/audio/transcriptions", self.transcribe)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1/audio/speech", self.speak)
        app.router.add_get("/v1/realtime", self.realtime)
        return app

    @web.middleware
    async def _admit(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if self.script.key and request.headers.get("Authorization") != f"Bearer {self.script.key}":
            return web.json_response({"error": {"message": "Incorrect API key provided"}}, status=401)
        try:
            return await handler(request)
        except ConnectionResetError:  # a person has gone on speaking: nobody wants the answer any more
            return web.Response()

    def _unknown(self, model: Any) -> web.Response | None:
        if model in self.script.models:
            return None
        return web.json_response({"error": {"message": f"The model {model} does not exist"}}, status=404)

    async def models(self, request: web.Request) -> web.Response:
        """``GET /models``."""
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.script.models]})

    async def transcribe(self, request: web.Request) -> web.Response:
        """``POST /audio/transcriptions``."""
        form = await request.post()
        file = form["file"].file.read()
        with wave.open(io.BytesIO(file)) as sound:
            seconds = sound.getnframes() / sound.getframerate()
        self.script.asked.append((request.path, {"seconds": seconds, "language": form.get("language")}))
        if refusal := self._unknown(form.get("model")):
            return refusal
        await asyncio.sleep(self.script.delays[0])
        if self.script.hear is not None:
            return web.json_response({"text": await asyncio.to_thread(self.script.hear, file)})
        return web.json_response({"text": self.script.words(seconds), "language": "english"})

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """``POST /chat/completions``, streamed."""
        body = await request.json()
        self.script.asked.append((request.path, body))
        if refusal := self._unknown(body["model"]):
            return refusal
        if self.script.think is None:
            answer = self.script.reply(body["messages"][-1]["content"])
        else:
            answer = await asyncio.to_thread(self.script.think, body["messages"])
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await asyncio.sleep(self.script.delays[1])
        for start in range(0, len(answer), 4):
            if start > len(answer) // 2 and self.script.fault in (
                "broken stream",
                "error in stream",
                "closed",
            ):
                return await self._break(request, response)
            delta = {"choices": [{"index": 0, "delta": {"content": answer[start : start + 4]}}]}
            await response.write(f"data: {json.dumps(delta)}\n\n".encode())
            await asyncio.sleep(self.script.letter_seconds)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _break(self, request: web.Request, response: web.StreamResponse) -> web.StreamResponse:
        if self.script.fault == "error in stream":
            await response.write(b'data: {"error": {"message": "CUDA out of memory"}}\n\n')
        elif self.script.fault == "broken stream":
            await response.write(b"data: {not json\n\n")
        else:
            request.transport.close()
        return response

    async def speak(self, request: web.Request) -> web.StreamResponse:
        """``POST /audio/speech``, streamed."""
        body = await request.json()
        self.script.asked.append((request.path, body))
        if refusal := self._unknown(body["model"]):
            return refusal
        if self.script.fault == "json":
            return web.json_response({"error": {"message": "voice not found"}})
        response = web.StreamResponse(headers={"Content-Type": "audio/pcm"})
        await response.prepare(request)
        await asyncio.sleep(self.script.delays[2])
        if self.script.speak is None:
            data = b"" if self.script.fault == "no sound" else tone(body["input"])
        else:
            data = await asyncio.to_thread(self.script.speak, body["input"])
        if self.script.fault == "compressed":
            data = b"ID3" + data
        if self.script.wav:
            file = io.BytesIO()
            with wave.open(file, "wb") as writer:
                writer.setparams((1, 2, RATE, 0, "NONE", ""))
                writer.writeframes(data)
            data = file.getvalue()
        size = round(PIECE_SECONDS * RATE) * 2
        for start in range(0, len(data), size):
            await response.write(data[start : start + size])
            await asyncio.sleep(PIECE_SECONDS / self.script.speed)
        return response

    async def realtime(self, request: web.Request) -> web.WebSocketResponse:
        """``GET /realtime``: a WebSocket with the events of OpenAI's Realtime interface."""
        socket = web.WebSocketResponse(max_msg_size=1 << 22)
        await socket.prepare(request)
        visit = _Realtime(self.script, socket)
        try:
            if refusal := self._unknown(request.query.get("model")):
                await socket.send_json({"type": "error", **json.loads(refusal.body)})
                await socket.close()
                return socket
            await socket.send_json({"type": "session.created", "session": {}})
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    event = json.loads(message.data)
                    if event["type"] != "input_audio_buffer.append":
                        self.script.asked.append((request.path, event))
                    await visit.take(event)
        finally:
            visit.cancel()
        return socket


class _Realtime:
    """One visitor of the Realtime server: sound above a threshold is speech."""

    LOUD = 1000

    def __init__(self, script: Script, socket: web.WebSocketResponse) -> None:
        self._script, self._socket = script, socket
        self._speech = self._silence = 0
        self._answering: asyncio.Task[None] | None = None
        self._count = 0
        self._question = ""
        self._finds_turns = True

    def cancel(self) -> None:
        if self._answering is not None:
            self._answering.cancel()

    async def take(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "input_audio_buffer.append":
            await self._hear(base64.b64decode(event["audio"]))
        elif kind == "session.update":
            self._finds_turns = event["session"]["audio"]["input"]["turn_detection"] is not None
            await self._socket.send_json({"type": "session.updated", "session": event["session"]})
        elif kind == "input_audio_buffer.commit":
            self._question = self._script.words(self._speech / RATE)
            self._speech = 0
        elif kind == "response.cancel":
            self.cancel()
        elif kind == "conversation.item.create":
            self._question = event["item"]["content"][0]["text"]
        elif kind == "response.create":
            self._answer(self._question)

    async def _hear(self, data: bytes) -> None:
        samples = struct.unpack(f"<{len(data) // 2}h", data)
        if max(map(abs, samples), default=0) > self.LOUD:
            before, self._speech = self._speech, self._speech + len(samples)
            if self._finds_turns and before <= self._script.notices * RATE < self._speech:
                self.cancel()
                await self._socket.send_json({"type": "input_audio_buffer.speech_started"})
            self._silence = 0
        elif self._finds_turns and self._speech:
            self._silence += len(samples)
            if self._silence >= QUIET_SECONDS * RATE:
                words = self._script.words(self._speech / RATE)
                self._speech = self._silence = 0
                await self._socket.send_json({"type": "input_audio_buffer.speech_stopped"})
                said = {"type": "conversation.item.input_audio_transcription.completed", "transcript": words}
                await self._socket.send_json(said)
                self._answer(words)

    def _answer(self, question: str) -> None:
        self.cancel()
        self._answering = asyncio.create_task(self._say(self._script.reply(question)))

    async def _say(self, answer: str) -> None:
        self._count += 1
        item = {
            "item_id": f"item_{self._count}",
            "response_id": f"response_{self._count}",
            "content_index": 0,
        }
        await self._socket.send_json({"type": "response.created", "response": {"id": item["response_id"]}})
        await asyncio.sleep(sum(self._script.delays))
        data, size = tone(answer), round(PIECE_SECONDS * RATE) * 2
        told = {"type": "response.output_audio_transcript.delta", "delta": answer, **item}
        await self._socket.send_json(told)
        for start in range(0, len(data), size):
            piece = base64.b64encode(data[start : start + size]).decode()
            await self._socket.send_json({"type": "response.output_audio.delta", "delta": piece, **item})
            await asyncio.sleep(PIECE_SECONDS / self._script.speed)
        done = {"type": "response.output_audio_transcript.done", "transcript": answer, **item}
        await self._socket.send_json(done)
        await self._socket.send_json({"type": "response.done", "response": {"id": item["response_id"]}})


@contextmanager
def running_services(script: Script, port: int = 0) -> Iterator[str]:
    """Services that run in a thread of their own; the address, ending in /v1."""
    loop, ready, address = asyncio.new_event_loop(), threading.Event(), []
    stopped = asyncio.Event()

    async def begin() -> None:
        runner = web.AppRunner(Services(script).application(), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
        ready.set()
        await stopped.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # answers to somebody who has gone without a word would be waited for
        await runner.cleanup()

    thread = threading.Thread(target=lambda: loop.run_until_complete(begin()), daemon=True)
    thread.start()
    ready.wait(10)
    try:
        yield address[0]
    finally:
        loop.call_soon_threadsafe(stopped.set)
        thread.join(10)
        loop.close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--port", type=int, default=8091)
    with running_services(Script(), options.parse_args().port) as url:
        print(f"Scripted services at {url}; Ctrl+C ends them.")
        threading.Event().wait()


if __name__ == "__main__":
    main()
