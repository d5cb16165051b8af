"""Texts that name a mood, and what the text encoder makes of them."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import tools.pack  # noqa: F401  (registers the package `avatar`)

# isort: split
from avatar.loaders.wan.text import TextEncoder

from tools import checkpoint_shapes, tiny_checkpoint

TEXT_FILE = "models_t5_umt5-xxl-enc-bf16.pth"
TEXT_DIM = 32
_WORDS = {
    "calm": ("", "calm ", "friendly "),
    "serious": ("serious ", "stern ", "grave "),
    "smiling": ("smiling ", "happy ", "cheerful "),
    "laughing": ("laughing ", "amused ", "delighted "),
}
_DOES = {
    "calm": ("speaks", "talks", "speaks calmly"),
    "serious": ("speaks seriously", "speaks without a smile", "frowns and speaks"),
    "smiling": ("smiles and speaks", "speaks with a smile", "speaks happily"),
    "laughing": ("laughs and speaks", "speaks with a laugh", "laughs"),
}
_WHO = ("person", "woman", "man")
_STYLES = ("", "A flat drawing: ", "A soft drawing: ", "A pencil sketch: ")


def sentences(mood: str) -> list[str]:
    """Descriptions of a video in this mood; the mood is in the verb, before the noun, or both."""
    plain_words, plain_verbs = _WORDS["calm"], _DOES["calm"]
    pairs = [(word, verb) for word in _WORDS[mood] for verb in _DOES[mood]]
    if mood != "calm":
        pairs += [(word, plain_verbs[0]) for word in _WORDS[mood]]
        pairs += [(plain_words[0], verb) for verb in _DOES[mood]]
    found = [
        f"{style}{'An' if word[:1] in tuple('aeiou') and word else 'A'} {word}{who}{look} {verb}."
        for style in _STYLES
        for word, verb in pairs
        for who in _WHO
        for look in ("", " looks into the camera and")
    ]
    return [*found, *tiny_checkpoint.SENTENCES[:1]] if mood == "calm" else found


def write_text_encoder(folder: Path) -> None:
    """A random UMT5 encoder of one narrow layer, and a tokenizer that knows the words of `sentences`."""
    known = [*tiny_checkpoint.SENTENCES, *(text for mood in _WORDS for text in sentences(mood))]
    vocabulary = tiny_checkpoint.write_tokenizer(folder / "google" / "umt5-xxl", known)
    shapes = checkpoint_shapes.text_encoder_shapes(
        vocabulary, TEXT_DIM, dim_attn=32, ffn_dim=32, heads=2, layers=1
    )
    torch.save(tiny_checkpoint.weights(shapes, torch.float16), folder / TEXT_FILE)


@dataclass(frozen=True)
class Texts:
    """Encoded sentences of each mood, padded: rows [moods, sentences, R, TEXT_DIM], of which `count` are real."""

    moods: tuple[str, ...]
    rows: Tensor
    count: Tensor

    def pick(self, mood: Tensor) -> tuple[Tensor, Tensor]:
        """A sentence for each mood of `mood` [B]: rows [B, R, TEXT_DIM] and how many are real [B]."""
        index = torch.randint(self.rows.shape[1], mood.shape, device=mood.device)
        return self.rows[mood, index], self.count[mood, index]


def encode(device: torch.device | str, moods: tuple[str, ...] = tuple(_WORDS), most: int = 96) -> Texts:
    """The same number of sentences for each mood, through the encoder that is exported."""
    with tempfile.TemporaryDirectory() as folder:
        write_text_encoder(Path(folder))
        encoder = TextEncoder.from_folder(Path(folder))
        made = [[encoder.encode(text).float() for text in _spread(sentences(mood), most)] for mood in moods]
    longest = max(len(rows) for each in made for rows in each)
    rows = torch.zeros(len(moods), most, longest, TEXT_DIM)
    for i, each in enumerate(made):
        for j, row in enumerate(each):
            rows[i, j, : len(row)] = row
    count = torch.tensor([[len(row) for row in each] for each in made])
    return Texts(moods, rows.to(device), count.to(device))


def _spread(texts: list[str], most: int) -> list[str]:
    """`most` of the texts, evenly taken; the last one is always among them."""
    return [texts[(k * (len(texts) - 1)) // (most - 1)] for k in range(most)]
