"""Checks values of inputs against a node's schema, in the same way on every host."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
from comfy_api.latest import io

SHOWN_CHOICES = 20
SHOWN_LETTERS = 80
LINES = "\n\r\t"
"""The control characters of a text of several lines."""


def check_values(inputs: Iterable[io.Input], values: Mapping[str, Any]) -> None:
    """ValueError, naming the input, for a value that its schema does not allow.

    Hosts check numbers that are typed in, but neither NaN nor values that come through a link, and ComfyUI 0.3.75
    checks no choices at all.
    """
    for item in inputs:
        if item.id in values and (fault := _fault(item, values[item.id])):
            raise ValueError(fault)


def shown(value: Any) -> str:
    """A value in an error message: quoted, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN_LETTERS else f"{text[:SHOWN_LETTERS]}…"


def _fault(item: io.Input, value: Any) -> str | None:
    if isinstance(item, io.Combo.Input):
        # A file may have been uploaded since, or lie in another folder than the listed one: the node looks for it.
        known = isinstance(value, str) if item.upload else value in item.options
        return None if known else _not_in_list(item, value)
    if isinstance(item, io.Int.Input):
        return _out_of_range(item, value, Integral, "a whole number")
    if isinstance(item, io.Float.Input):
        return _out_of_range(item, value, Real, "a number")
    if isinstance(item, io.Boolean.Input) and not isinstance(value, (Integral, np.bool_)):
        return f"Set {item.id} to true or false: it is {shown(value)}."  # any text is true, also "false"
    if isinstance(item, io.String.Input):
        return _not_a_line(item, value)
    return None


# Where hosts find the same fault, the sentence begins with their words.


def _not_in_list(item: io.Combo.Input, value: Any) -> str:
    choices = ", ".join(map(str, item.options[:SHOWN_CHOICES])) or "it is empty"
    more = ", …" if len(item.options) > SHOWN_CHOICES else ""
    return f"Value not in list: choose another {item.id} than {shown(value)} ({choices}{more})."


def _out_of_range(item: io.Int.Input | io.Float.Input, value: Any, kind: type, words: str) -> str | None:
    if not isinstance(value, kind) or value != value:  # NaN is not itself
        fault = f"Value {shown(value)} is not {words}"
    elif value < item.min:
        fault = f"Value {shown(value)} smaller than min of {item.min}"
    elif value > item.max:
        fault = f"Value {shown(value)} bigger than max of {item.max}"
    else:
        return None
    return f"{fault}: set {item.id} to {words} from {item.min} to {item.max}."


def _not_a_line(item: io.String.Input, value: Any) -> str | None:
    if not isinstance(value, str):
        return f"Set {item.id} to a text: it is {shown(value)}."
    # Control characters and halves of surrogate pairs: no file can have such a name, and no program reads them.
    allowed = LINES if item.multiline else ""
    if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in allowed for letter in value):
        return f"Take the control characters out of {item.id}: {shown(value)}."
    return None
