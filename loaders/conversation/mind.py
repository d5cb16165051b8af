"""A small Qwen in this process, by transformers."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from ...conversation.roles import Line
from ...conversation.services import chat_messages
from ...conversation.worker import Worker
from .ears import stopping
from .files import MINDS, find


def mind_here(
    label: str, device: str, download: bool, progress: Callable[[int, int], None], **options: Any
) -> Qwen:
    """A mind of a model of `MINDS`. Raises as `files.find` does."""
    _, folder = find(MINDS, label, download, progress)
    return Qwen(folder, device, **options)


class Qwen:
    """See `conversation.roles.Mind`; the arguments are those of `conversation.services.MindServer`."""

    def __init__(
        self,
        folder: Path,
        device: str,
        prompt: str,
        temperature: float = 0.7,
        max_tokens: int = 200,
        remembered: int = 40,
    ) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self._prompt, self._remembered = prompt, remembered
        kind = torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=kind
        )
        self._model = model.to(device).eval()
        self._sampling: dict[str, Any] = {"max_new_tokens": max_tokens, "do_sample": temperature > 0}
        if temperature > 0:
            self._sampling["temperature"] = temperature
        self._worker = Worker("mind")

    async def probe(self) -> None:
        """Nothing can be missing."""

    async def answer(self, lines: Sequence[Line]) -> AsyncGenerator[str, None]:
        """The answer, in pieces as they are made."""
        messages = chat_messages(self._prompt, lines, self._remembered)
        stream = self._worker.stream(lambda put, stop: self._write(messages, put, stop))
        try:
            async for piece in stream:
                yield piece
        finally:
            await stream.aclose()

    @torch.inference_mode()
    def _write(
        self, messages: list[dict[str, str]], put: Callable[[str], None], stop: threading.Event
    ) -> None:
        from transformers import TextStreamer

        class Told(TextStreamer):
            def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
                if text:
                    put(text)

        inputs = self._tokenizer.apply_chat_template(
            messages,
            add_generation_prompt=True,
            enable_thinking=False,  # of Qwen3's template; others do not read it
            return_tensors="pt",
            return_dict=True,
        )
        self._model.generate(
            **inputs.to(self._model.device),
            **self._sampling,
            streamer=Told(self._tokenizer, skip_prompt=True, skip_special_tokens=True),
            stopping_criteria=stopping(stop),
        )
