"""The node that lets speech arrive while the video is made."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from av import Codec
from comfy_api.latest import io

from ...host.folders import inside
from ...loaders.liveavatar.speech import check_encoder
from ...media.growing_file import GrowingFile
from ...media.speech import LiveSpeech
from ...media.speech_feed import SpeechFeed, feeds
from ..running import bind, check_id, publish
from ..schema import Node, schema
from ..types import AvatarSpeech

RATES = [16_000, 22_050, 24_000, 32_000, 44_100, 48_000]


class LiveAvatarLiveSpeech(Node):
    """Speech that arrives while the video is made."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LiveAvatarLiveSpeech",
            search_aliases=["microphone", "text to speech", "conversation", "streaming audio", "chat"],
            display_name="LiveAvatar Live Speech",
            description=(
                "Speech that arrives while the video is made: posted to this ComfyUI by a program (a voice, a "
                "conversation), or from a file that grows. While nothing arrives, the person waits in silence. Use it "
                "instead of LiveAvatar Encode Speech, with Avatar Stream to Video."
            ),
            inputs=[
                io.AudioEncoder.Input(
                    "audio_encoder",
                    optional=True,
                    tooltip=(
                        "LiveAvatar hears with it: wav2vec2-large-xlsr-53-english, ours or the host's. Ditto has its "
                        "own; leave it empty there."
                    ),
                ),
                io.Float.Input(
                    "max_seconds",
                    default=600.0,
                    min=0.0,
                    max=86400.0,
                    step=0.48,
                    tooltip="The video ends after this time at the latest; 0: it ends with the speech only.",
                ),
                io.Combo.Input(
                    "sample_rate",
                    options=[str(rate) for rate in RATES],
                    default="24000",
                    tooltip=(
                        "Sample rate at which speech is kept. Posts of another rate are converted, a WAV file keeps "
                        "its own."
                    ),
                ),
                io.Float.Input(
                    "lookahead",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.04,
                    optional=True,
                    tooltip=(
                        "Seconds that sound is held back, so that the lips know what comes. For sound in real time "
                        "(a microphone), 0 reacts fastest and 0.24 halves the loss in lip sync. Speech that is posted "
                        "ahead of its time needs none."
                    ),
                ),
                io.String.Input(
                    "id",
                    default="",
                    optional=True,
                    tooltip=(
                        "Speech is posted to /liveavatar/speech/<id>. Empty: every run has a new secret id, which is "
                        "shown here. Your own id needs 16 characters or more (letters, digits, - and _); anybody who "
                        "knows it can make the person speak."
                    ),
                ),
                io.String.Input(
                    "file",
                    default="",
                    optional=True,
                    tooltip=(
                        "A growing file in the input folder (or: name.wav [temp]) instead of posts: WAV, or mono "
                        "samples without a header, .pcm (16 bits) or .f32. It ends when its header is completed, when "
                        "name.end lies beside it, or when it rests."
                    ),
                ),
                io.Float.Input(
                    "file_rests",
                    default=10.0,
                    min=0.0,
                    max=86400.0,
                    step=0.1,
                    optional=True,
                    tooltip="Seconds without growth after which the file has ended; 0: never.",
                ),
            ],
            outputs=[AvatarSpeech.Output(display_name="speech")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        """Live speech is over after a run: the next one begins anew."""
        return time.time_ns()

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Ids that can be guessed and files elsewhere are refused when the workflow is queued."""
        super().check(values)
        check_id(values.get("id", ""))
        if file := values.get("file"):
            inside(file)

    @classmethod
    def execute(
        cls,
        max_seconds: float,
        sample_rate: str,
        audio_encoder=None,
        lookahead: float = 0.0,
        id: str = "",
        file: str = "",
        file_rests: float = 10.0,
    ) -> io.NodeOutput:
        if file:
            growing = GrowingFile(inside(file), int(sample_rate), file_rests)
            rate = min(found for found in Codec("aac", "w").audio_rates if found >= growing.rate)
            feed = SpeechFeed(rate, ahead_seconds=lookahead)
            speech = LiveSpeech(feed, max_seconds, partial(growing.poll, feed), audio_encoder)
        else:
            feed = SpeechFeed(int(sample_rate), ahead_seconds=lookahead)
            speech = LiveSpeech(feed, max_seconds, encoder=audio_encoder)
        if audio_encoder is not None:
            check_encoder(speech)  # said where it is connected, and before larger models are loaded
        if not file:
            bind(feed)
            publish(feeds, feed, feed, id, "liveavatar.speech", cls.hidden)
        return io.NodeOutput(speech)
