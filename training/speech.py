"""Speech with phoneme timings from libespeak-ng (the Debian package `libespeak-ng1`, or the Python package
`espeakng-loader`), through ctypes.

audio, phonemes = Speaker().say("Good morning.", voice="en-us+f2", rate=160, pitch=60)
"""

from __future__ import annotations

import ctypes
import ctypes.util
from dataclasses import dataclass

import numpy as np

_SYNCHRONOUS = 2  # the audio comes back through the callback
_PHONEME_EVENTS, _IPA = 0x0001, 0x0002
_UTF8 = 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_EVENT_END, _EVENT_PHONEME = 0, 7


class _EventId(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    ]


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class Phoneme:
    """One phoneme: its IPA name ('' for a pause) and the second at which it starts."""

    name: str
    start: float


def _library() -> tuple[str, bytes | None]:
    """The library, and the folder of its data where that is not in its usual place."""
    try:
        import espeakng_loader
    except ImportError:
        return ctypes.util.find_library("espeak-ng") or "libespeak-ng.so.1", None
    return espeakng_loader.get_library_path(), str(espeakng_loader.get_data_path()).encode()


class Speaker:
    """The synthesiser. It keeps global state inside the library, so one per process is enough."""

    def __init__(self) -> None:
        name, data = _library()
        try:
            self._lib = ctypes.CDLL(name)
        except OSError as error:
            raise RuntimeError(
                "libespeak-ng was not found: install the package espeak-ng, or espeakng-loader with pip"
            ) from error
        self.sample_rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 200, data, _PHONEME_EVENTS | _IPA)
        if self.sample_rate <= 0:
            raise RuntimeError("libespeak-ng could not be initialised: its data folder is missing")
        self._chunks: list[np.ndarray] = []
        self._phonemes: list[Phoneme] = []
        self._callback = _Callback(self._collect)
        self._lib.espeak_SetSynthCallback(self._callback)

    def _collect(self, wav, count, events) -> int:
        if wav and count > 0:
            self._chunks.append(np.ctypeslib.as_array(wav, shape=(count,)).copy())
        i = 0
        while events[i].type != _EVENT_END:
            if events[i].type == _EVENT_PHONEME:
                name = events[i].id.string.decode("utf-8", "ignore")
                if not name.startswith("("):  # "(en)" says that a word is spoken in another language
                    self._phonemes.append(Phoneme(name, events[i].audio_position / 1000))
            i += 1
        return 0

    def say(
        self, text: str, voice: str = "en-us", rate: int = 165, pitch: int = 50, pitch_range: int = 50
    ) -> tuple[np.ndarray, list[Phoneme]]:
        """Speak `text`; returns int16 mono samples at `sample_rate` and the phonemes in order.

        `voice` is an espeak-ng voice, optionally with a variant ("en-gb+m3"); `rate` in words per minute,
        `pitch` and `pitch_range` 0..100. ValueError for an unknown voice.
        """
        self._chunks, self._phonemes = [], []
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}: list them with `espeak-ng --voices`")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        data = text.encode() + b"\0"
        self._lib.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 0, 0, _UTF8, None, None)
        self._lib.espeak_Synchronize()
        if not self._chunks:
            raise RuntimeError(f"espeak-ng made no sound for {text!r} with voice {voice!r}")
        return np.concatenate(self._chunks), self._phonemes
