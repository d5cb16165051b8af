"""The services of a conversation one by one: text to speech, speech to text, question to answer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import torch
from comfy_api.latest import io

from ...conversation.connections import close_connections
from ...conversation.roles import EARS_RATE, Line
from ...conversation.sentences import Thoughts, sentences
from ...host.progress import check_interrupt
from ...media.audio import Resampler, duration, to_mono, usable
from ..schema import Node, schema
from ..types import AvatarEars, AvatarMind, AvatarVoice
from .services import CATEGORY

RATE = 24_000
LOOK_SECONDS = 0.1
PAUSE_SECONDS = 0.15
"""Silence between two sentences."""
LONGEST_TEXT = 100_000
LONGEST_SOUND = 600.0


def finish(work: Coroutine[Any, Any, Any]) -> Any:
    """The result of work with services; an interruption of the run stops it.

    It has a thread of its own, because the one that runs nodes has an event loop already.
    """

    async def main() -> Any:
        task = asyncio.create_task(work)
        try:
            while not task.done():
                check_interrupt()
                await asyncio.wait((task,), timeout=LOOK_SECONDS)
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait((task,))
            await close_connections()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(main())).result()


class AvatarSay(Node):
    """Text to speech."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarSay",
            search_aliases=["tts", "text to speech", "speak", "voice clone"],
            display_name="Say",
            category=CATEGORY,
            description="Says a text with a voice. A list of texts becomes a list of sounds.",
            inputs=[
                AvatarVoice.Input("voice", tooltip="Voice."),
                io.String.Input("text", multiline=True, tooltip="What shall be said."),
            ],
            outputs=[io.Audio.Output(display_name="audio")],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """An empty text is refused when the workflow is queued."""
        super().check(values)
        if "text" in values and not 0 < len(values["text"].strip()) <= LONGEST_TEXT:
            raise ValueError(f"Write what shall be said into text, at most {LONGEST_TEXT} letters.")

    @classmethod
    def execute(cls, voice, text: str) -> io.NodeOutput:
        return io.NodeOutput(finish(_said(voice, text)))


async def _said(voice, text: str) -> dict[str, Any]:
    async def whole():
        yield text

    parts = []
    async with aclosing(sentences(whole())) as pieces:
        async for sentence in pieces:
            resample = rate = None
            async with aclosing(voice.speak(sentence)) as sound:
                async for samples, rate in sound:
                    resample = resample or Resampler(rate, RATE)
                    parts.append(resample(samples))
            if resample is not None:
                parts += [resample(None), torch.zeros(round(PAUSE_SECONDS * RATE))]
    if not parts:
        raise ValueError("Write words into text: there is nothing in it to be said.")
    return {"waveform": torch.cat(parts)[None, None], "sample_rate": RATE}


class AvatarListen(Node):
    """Speech to text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarListen",
            search_aliases=["asr", "stt", "speech to text", "whisper", "transcribe"],
            display_name="Listen",
            category=CATEGORY,
            description="Writes down what is said in a sound of up to ten minutes.",
            inputs=[
                AvatarEars.Input("ears", tooltip="Ears."),
                io.Audio.Input("audio", tooltip="The speech."),
            ],
            outputs=[io.String.Output(display_name="text"), io.String.Output(display_name="language")],
        )

    @classmethod
    def execute(cls, ears, audio) -> io.NodeOutput:
        if duration(usable(audio)) > LONGEST_SOUND:
            raise ValueError(f"Trim the audio to {LONGEST_SOUND / 60:g} minutes at most (Trim Audio).")
        heard = finish(ears.transcribe(to_mono(audio, EARS_RATE)))
        return io.NodeOutput(heard.text, heard.language)


class AvatarAnswer(Node):
    """Question to answer."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarAnswer",
            search_aliases=["llm", "chat", "prompt", "ollama"],
            display_name="Answer",
            category=CATEGORY,
            description="Asks a language model.",
            inputs=[
                AvatarMind.Input("mind", tooltip="Language Model."),
                io.String.Input("question", multiline=True, tooltip="What the model is asked."),
                io.String.Input(
                    "history",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Earlier lines, question and answer in turn, one a line.",
                ),
            ],
            outputs=[io.String.Output(display_name="text"), io.String.Output(display_name="history")],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """An empty question is refused when the workflow is queued."""
        super().check(values)
        if "question" in values and not 0 < len(values["question"].strip()) <= LONGEST_TEXT:
            raise ValueError(f"Write a question, of at most {LONGEST_TEXT} letters.")

    @classmethod
    def execute(cls, mind, question: str, history: str = "") -> io.NodeOutput:
        before = [line.strip() for line in history.splitlines() if line.strip()]
        roles = ("user", "assistant")
        lines = [Line(roles[at % 2], text) for at, text in enumerate(before)]

        async def answer() -> str:
            thoughts = Thoughts()
            async with aclosing(mind.answer([*lines, Line("user", question)])) as pieces:
                kept = [thoughts.without(piece) async for piece in pieces]
            return "".join([*kept, thoughts.rest()]).strip()

        text = finish(answer())
        if not text:
            raise ValueError(
                "Set max_tokens of the language model higher, or ask again: its answer has no words."
            )
        told = (" ".join(part.split()) for part in (question, text))
        return io.NodeOutput(text, "\n".join([*before, *told]))
