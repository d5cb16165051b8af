"""Ears, a mind and a voice on servers with OpenAI's interface."""

from __future__ import annotations

import base64
import io
import json
import re
import struct
import wave
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import aiohttp
import torch
from torch import Tensor

from ..media.audio import clip_format, mono_samples
from .roles import EARS_RATE, Heard, Line, ServiceError
from .server import Server

PCM_RATE = 24_000
"""The rate of ``response_format: pcm`` where a server names none."""
LONGEST_ANSWER = 20_000
"""Letters after which an answer is cut off."""
LONGEST_SENTENCE = 120.0
"""Seconds of sound of one sentence."""


@dataclass(frozen=True)
class EarsServer:
    """``POST /audio/transcriptions``. ``language`` such as "en", or empty: found out by the model."""

    server: Server
    model: str
    language: str = ""

    async def probe(self) -> None:
        """ServiceError where nothing answers, or the key is refused."""
        await self.server.probe()

    async def transcribe(self, sound: Tensor) -> Heard:
        """The words of float32 samples [S] at 16 kHz."""
        form = aiohttp.FormData()
        form.add_field("file", wav(sound, EARS_RATE), filename="speech.wav", content_type="audio/wav")
        form.add_field("model", self.model)
        form.add_field("response_format", "json")
        if self.language:
            form.add_field("language", self.language)
        async with self.server.request("POST", "/audio/transcriptions", self.model, data=form) as answer:
            said = await self.server.read(answer)
        if not isinstance(said, dict) or not isinstance(said.get("text"), str):
            raise ServiceError(f"Check the address of the {self.server.what}: its answer has no text.")
        return Heard(said["text"].strip(), str(said.get("language") or ""))


@dataclass(frozen=True)
class MindServer:
    """``POST /chat/completions``, streamed.

    Args:
        prompt: what the model is told about itself.
        remembered: lines of the conversation that it is told.
    """

    server: Server
    model: str
    prompt: str
    temperature: float = 0.7
    max_tokens: int = 200
    remembered: int = 40

    async def probe(self) -> None:
        """ServiceError where nothing answers, or the key is refused."""
        await self.server.probe()

    async def answer(self, lines: Sequence[Line]) -> AsyncGenerator[str, None]:
        """The answer, in pieces as they are made."""
        body = {
            "model": self.model,
            "messages": chat_messages(self.prompt, lines, self.remembered),
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "stream": True,
        }
        letters = 0
        request = self.server.request("POST", "/chat/completions", self.model, json=body)
        async with request as answer, aclosing(_events(answer.content)) as events:
            async for event in events:
                if "error" in event:
                    raise self.server.told(event["error"])
                if piece := _piece(event):
                    letters += len(piece)
                    yield piece
                if letters > LONGEST_ANSWER:
                    return
        if not letters:
            raise ServiceError(
                f"Choose another model: {self.model} of the {self.server.what} has said nothing."
            )


@dataclass(frozen=True, eq=False)
class VoiceServer:
    """``POST /audio/speech``, streamed as PCM.

    Args:
        voice: the name of one of the server's voices; may be empty where a sample is given.
        sample: sound to clone, float32 [S] and its rate; sent as ``ref_audio`` with its words as ``ref_text``, as
            vllm-omni's Qwen3-TTS takes them.
        language: such as "English"; empty: found out by the model.
    """

    server: Server
    model: str
    voice: str = ""
    sample: tuple[Tensor, int] | None = None
    transcript: str = ""
    language: str = ""

    async def probe(self) -> None:
        """ServiceError where nothing answers, or the key is refused."""
        await self.server.probe()

    async def speak(self, text: str) -> AsyncGenerator[tuple[Tensor, int], None]:
        """The sound of a sentence, in pieces as they arrive."""
        body: dict[str, Any] = {
            "model": self.model,
            "input": text,
            "response_format": "pcm",
            "stream": True,
            **({"voice": self.voice} if self.voice else {}),
            **({"language": self.language} if self.language else {}),
        }
        if self.sample is not None:
            sound = base64.b64encode(wav(*self.sample)).decode()
            body |= {"task_type": "Base", "ref_audio": f"data:audio/wav;base64,{sound}"}
            body |= {"ref_text": self.transcript} if self.transcript else {}
        seconds = 0.0
        async with self.server.request("POST", "/audio/speech", self.model, json=body) as answer:
            if "json" in answer.content_type:
                said = await self.server.read(answer)
                raise self.server.told(said.get("error", said) if isinstance(said, dict) else said)
            reader = SoundReader(_named_rate(answer.headers.get("Content-Type", "")))
            async for data in answer.content.iter_any():
                try:
                    pieces = list(reader.push(data))
                except ValueError as error:
                    raise ServiceError(
                        f"Set the {self.server.what} to give 16-bit PCM or WAV: {error}"
                    ) from error
                for samples in pieces:
                    seconds += len(samples) / reader.rate
                    yield samples, reader.rate
                if seconds > LONGEST_SENTENCE:
                    return
        if not seconds:
            raise ServiceError(
                f"Look at the log of the {self.server.what}: it has made no sound of a sentence."
            )


class SoundReader:
    """16-bit sound that arrives in pieces of any size: plain samples, or a WAV file, which brings its own rate."""

    HEAD_BYTES = 12
    HEAD_LIMIT = 1 << 16

    def __init__(self, rate: int = PCM_RATE) -> None:
        self.rate, self._channels = rate, 1
        self._data, self._begun = b"", False

    def push(self, data: bytes) -> Iterator[Tensor]:
        """The samples [S] that are complete; ValueError for another format."""
        self._data += data
        if not self._begun:
            if len(self._data) < self.HEAD_BYTES or not self._header():
                return
            self._begun = True
        width = 2 * self._channels
        whole = len(self._data) // width * width
        if whole:
            yield mono_samples(self._data[:whole], "s16", self._channels)
            self._data = self._data[whole:]

    def _header(self) -> bool:
        """Take the header off; False while it has not arrived."""
        if clip_format(self._data) not in (None, "wav"):
            raise ValueError("the sound is compressed.")
        if not (self._data.startswith(b"RIFF") and self._data[8:12] == b"WAVE"):
            return True
        at = 12
        while at + 8 <= len(self._data):
            name, size = self._data[at : at + 4], struct.unpack_from("<I", self._data, at + 4)[0]
            if name == b"data":
                self._data = self._data[at + 8 :]
                return True
            if at + 8 + size > self.HEAD_LIMIT or (name == b"fmt " and size < 16):
                raise ValueError("the header of its WAV file is broken.")
            if at + 8 + size > len(self._data):
                return False
            if name == b"fmt ":
                kind, self._channels, self.rate, _, _, bits = struct.unpack_from(
                    "<HHIIHH", self._data, at + 8
                )
                if bits != 16 or kind not in (1, 0xFFFE) or not (1 <= self._channels <= 8):
                    raise ValueError(f"its WAV file has {bits} bits.")
                if not 8000 <= self.rate <= 96_000:
                    raise ValueError(f"its WAV file has a rate of {self.rate} Hz.")
            at += 8 + size + size % 2
        return False


def wav(samples: Tensor, rate: int) -> bytes:
    """A WAV file of float samples [S]."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(pcm(samples))
    return file.getvalue()


def pcm(samples: Tensor) -> bytes:
    """16-bit little-endian samples of float ones [S]."""
    return (samples.clamp(-1, 1) * 32767).round().to(torch.int16).numpy().tobytes()


def chat_messages(prompt: str, lines: Sequence[Line], remembered: int) -> list[dict[str, str]]:
    """A conversation as chat models take it: the prompt, then its last lines, those of one person in a row joined."""
    messages = [{"role": "system", "content": prompt}] if prompt.strip() else []
    kept = list(lines)[-max(1, remembered) :]
    while len(kept) > 1 and kept[0].role == "assistant":
        kept = kept[1:]  # models expect that the person begins
    for line in kept:
        if messages and messages[-1]["role"] == line.role:
            messages[-1] = {"role": line.role, "content": f"{messages[-1]['content']}\n{line.text}"}
        else:
            messages.append({"role": line.role, "content": line.text})
    return messages


async def _events(content: aiohttp.StreamReader) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON of server-sent events, until [DONE]."""
    try:
        async for line in content:
            if not line.startswith(b"data:"):
                continue
            data = line[5:].strip()
            if data == b"[DONE]":
                return
            event = json.loads(data)
            if isinstance(event, dict):
                yield event
    except ValueError as error:  # no JSON, or a line without end
        raise ServiceError("Look at the log of the language model: its answer cannot be read.") from error


def _piece(event: dict[str, Any]) -> str:
    try:
        return event["choices"][0]["delta"].get("content") or ""
    except (KeyError, IndexError, TypeError, AttributeError):
        return ""


def _named_rate(content_type: str) -> int:
    found = re.search(r"rate=(\d{4,5})\b", content_type)
    return int(found[1]) if found else PCM_RATE
