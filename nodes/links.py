"""Checks what comes through links: hosts compare the names of types only, and nodes of other packs give what they
like, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from comfy_api.latest import io

from ..engines.ditto.pipeline import Source
from ..engines.parts.planning.plan import Wish
from ..engines.personalive.pipeline import Portrait
from ..loaders.ditto.host_objects import ManagedDitto
from ..loaders.longcat.model import LongCatModel
from ..loaders.personalive.host_objects import ManagedPersonaLive
from ..loaders.wan.fast_decoder import HostDecoder
from ..media.frames import AvatarStream
from ..media.speech import LiveSpeech, Speech
from ..sessions.ditto_look import Look
from ..sessions.personalive import Driving


class Kind(NamedTuple):
    """What an input of a type takes: a check of the value, and words for a message."""

    fits: Callable[[Any], bool]
    words: str


def check_links(inputs: Iterable[io.Input], values: Mapping[str, Any]) -> None:
    """ValueError, naming the input, for an object that is not of its input's type; None is for `check_present`.

    Values of widgets are for `values.check_values`, and sounds for `media.audio.usable`.
    """
    for item in inputs:
        value = values.get(item.id)
        kinds = [KINDS.get(type_) for type_ in item.get_io_type().split(",")]
        if value is None or None in kinds:
            continue
        if not any(kind.fits(value) for kind in kinds):
            words = " or ".join(kind.words for kind in kinds)
            raise ValueError(f"Connect {words} to {item.id}: what comes through its link is {_told(value)}.")


def check_present(inputs: Iterable[io.Input], values: Mapping[str, Any]) -> None:
    """ValueError, naming the input, for None among the values; that of a sound says that a video has none, which is
    for `media.audio.usable`."""
    for item in inputs:
        if item.id in values and values[item.id] is None and item.get_io_type() != "AUDIO":
            raise ValueError(f"Connect something else to {item.id}: nothing comes through its link.")


def _told(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ + ("" if shape is None else f" {[*shape]}")


def _of(*classes: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, classes)


def _has(name: str) -> Callable[[Any], bool]:
    return lambda value: hasattr(value, name)


def _is_image(value: Any) -> bool:
    if not isinstance(value, torch.Tensor):  # frames that are made when they are looked at have a shape too
        return hasattr(value, "shape") and not isinstance(value, np.ndarray)
    fits = value.ndim == 4 and value.shape[-1] in (1, 3, 4) and 0 not in value.shape
    return fits and value.is_floating_point()


def _is_mask(value: Any) -> bool:
    fits = isinstance(value, torch.Tensor) and value.ndim >= 2 and 0 not in value.shape
    return fits and not value.is_complex()


def _is_prompt(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(part, (list, tuple))
        and len(part) == 2
        and isinstance(part[0], torch.Tensor)
        and isinstance(part[1], dict)
        for part in value
    )


KINDS = {
    "MODEL": Kind(_has("model"), "a model"),
    "VAE": Kind(_has("first_stage_model"), "a VAE"),
    "CLIP_VISION": Kind(_has("encode_image"), "a CLIP Vision model"),
    "AUDIO_ENCODER": Kind(_has("encode_audio"), "an audio encoder"),
    "BACKGROUND_REMOVAL": Kind(_has("encode_image"), "a background removal model"),
    "CONDITIONING": Kind(_is_prompt, "a prompt of CLIP Text Encode"),
    "IMAGE": Kind(_is_image, "pictures [pictures, height, width, 1, 3 or 4]"),
    "MASK": Kind(_is_mask, "a mask [height, width]"),
    "VIDEO": Kind(_has("get_stream_source"), "a video"),
    "AVATAR_STREAM": Kind(_of(AvatarStream), "the stream of a sampler"),
    "AVATAR_SPEECH": Kind(_of(Speech, LiveSpeech), "the speech of Encode Speech or Live Speech"),
    "AVATAR_DECODER": Kind(_of(HostDecoder), "the decoder of Load Fast Decoder"),
    "AVATAR_MOODS": Kind(_of(tuple), "the moods of LiveAvatar Mood"),
    "AVATAR_PERFORMANCE": Kind(_of(Wish), "the options of Performance Options"),
    "AVATAR_MIND": Kind(_has("answer"), "a Language Model"),
    "AVATAR_VOICE": Kind(_has("speak"), "a Voice"),
    "AVATAR_EARS": Kind(_has("transcribe"), "Ears"),
    "DITTO": Kind(_of(ManagedDitto), "the model of Ditto Load Model"),
    "DITTO_PORTRAIT": Kind(_of(Source), "the portrait of Ditto Portrait"),
    "DITTO_LOOK": Kind(_of(Look), "the look of Ditto Controls"),
    "LONGCAT": Kind(_of(LongCatModel), "the model of LongCat Load Model"),
    "PERSONALIVE": Kind(_of(ManagedPersonaLive), "the model of PersonaLive Load Model"),
    "PERSONALIVE_PORTRAIT": Kind(_of(Portrait), "the portrait of PersonaLive Portrait"),
    "PERSONALIVE_MOTION": Kind(
        _of(Driving), "the motion of PersonaLive Extract Motion, Load Motion or Head Gesture"
    ),
}
"""Every type of a link but AUDIO, by name."""
