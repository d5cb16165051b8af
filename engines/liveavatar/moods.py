"""Further prompts of a video, its moods: each is prepared once, and every block is made with one of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..gpu.transfer import send
from .transformer import S2VTransformer, TextKV

NEUTRAL = "neutral"
"""The name of the video's own prompt, with which the portrait is prefilled whatever the mood is."""


class Prompts:
    """Keys and values of all prompts of a video.

    Those of the video's own prompt and of the present mood are on the device (80 MB for 100 words of the 14B model),
    the others wait in CPU memory.

    Args:
        context: text embedding of the video's own prompt [tokens, text_dim].
        moods: those of its moods, by name.
        device: the model's.
    """

    def __init__(
        self, model: S2VTransformer, context: Tensor, moods: Mapping[str, Tensor], device: torch.device
    ) -> None:
        self._device = device
        self.own = model.encode_text(context.to(device))
        self._waiting = {
            name: _on(torch.device("cpu"), model.encode_text(mood.to(device))) for name, mood in moods.items()
        }
        self._present: tuple[str, list[TextKV]] = NEUTRAL, self.own

    def of(self, mood: str) -> list[TextKV]:
        """The prompt of a mood, for each layer; ValueError when there is none of this name."""
        if mood == NEUTRAL:
            return self.own
        if mood not in self._waiting:
            raise ValueError(
                f"Choose a mood of {', '.join([NEUTRAL, *self._waiting])}: there is no {mood:.40}."
            )
        if self._present[0] != mood:
            self._present = mood, _on(self._device, self._waiting[mood])
        return self._present[1]


def _on(device: torch.device, prompt: list[TextKV]) -> list[TextKV]:
    return [TextKV(send(text.k, device), send(text.v, device), text.last) for text in prompt]
