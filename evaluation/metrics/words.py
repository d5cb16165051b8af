"""Whether the right words are said, in the right language."""

from __future__ import annotations

import importlib.util
import re
import unicodedata

from ..metric import Metric, NotMeasurable, Observed

UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
"""Letters of languages that put no spaces between words; there a letter counts as a word."""


def words(text: str) -> str:
    """Lower case, without punctuation, with letters of unspaced languages apart."""
    kept = "".join(" " if unicodedata.category(letter)[0] in "PSZ" else letter for letter in text.casefold())
    return " ".join(UNSPACED.sub(lambda match: f" {match[0]} ", kept).split())


def _errors(seen: Observed) -> float:
    if importlib.util.find_spec("jiwer") is None:
        raise NotMeasurable("Install jiwer to count wrong words.")
    import jiwer

    asked = words(str(seen.values["asked text"]))
    if not asked:
        raise NotMeasurable("The text that was asked for has no words.")
    return 100 * jiwer.wer(asked, words(str(seen.values["said text"])))


def _language(seen: Observed) -> float:
    if importlib.util.find_spec("lingua") is None:
        raise NotMeasurable("Install lingua-language-detector to tell languages apart.")
    from lingua import LanguageDetectorBuilder

    found = (
        LanguageDetectorBuilder.from_all_languages().build().detect_language_of(str(seen.values["said text"]))
    )
    asked = str(seen.values["language"]).lower()
    return float(found is not None and asked == found.iso_code_639_1.name.lower())


METRICS = (
    Metric(
        "WER",
        "%",
        "lower",
        ("asked text", "said text"),
        "wrong words, by jiwer, of what Whisper writes down; letters in Chinese and Japanese",
        _errors,
        warn=10,
        fail=25,
        weights="openai/whisper-small",
    ),
    Metric(
        "language",
        "1 or 0",
        "higher",
        ("language", "said text"),
        "whether lingua takes what was said for the language that was asked for",
        _language,
        fail=0.5,
        weights="openai/whisper-small",
    ),
)
