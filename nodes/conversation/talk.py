"""The node that holds a conversation while the video is made."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from comfy_api.latest import io

from ...conversation.loop import Conversation, Manners
from ...conversation.realtime import Realtime, RealtimeConversation
from ...conversation.server import Server
from ...conversation.talk import RATE, Talk, talk_feed, talks
from ...host.progress import Progress, show_text
from ...loaders.conversation.smart_turn import find_smart_turn
from ...loaders.liveavatar.speech import check_encoder
from ...media.audio import duration, to_mono, usable
from ...media.speech import LiveSpeech
from ...media.speech_feed import SpeechFeed
from ..running import bind, check_id, publish
from ..schema import Node, schema
from ..types import AvatarEars, AvatarMind, AvatarSpeech, AvatarVoice
from .here import download_input
from .services import CATEGORY, address_input, key_input, prompt_input

TURNS = ("silence", "smart", "push to talk")
LONGEST_FILLER = 3.0
FILE, WEBRTC = PLAYERS = ("growing file", "WebRTC")


def encoder_input() -> io.Input:
    """The input for the audio encoder, which LiveAvatar needs."""
    return io.AudioEncoder.Input(
        "audio_encoder",
        optional=True,
        tooltip="wav2vec2-large-xlsr-53-english, ours or the host's: LiveAvatar hears the answers with it.",
    )


def barge_in_input() -> io.Input:
    """The switch for interruptions."""
    return io.Boolean.Input(
        "barge_in",
        default=True,
        optional=True,
        tooltip="Speaking interrupts the avatar. Off: it speaks to its end.",
    )


def common_inputs() -> list[io.Input]:
    """The last inputs of every conversation."""
    return [
        io.Float.Input(
            "max_seconds",
            default=1800.0,
            min=0.0,
            max=86400.0,
            step=0.48,
            optional=True,
            tooltip="The video ends after this time at the latest; 0: when somebody ends it.",
        ),
        io.String.Input(
            "id",
            default="",
            optional=True,
            tooltip=(
                "Pages and programs talk at /liveavatar/talk/<id>. Empty: every run has a new secret id. Your own id "
                "needs 16 characters or more; anybody who knows it can take part."
            ),
        ),
        io.Combo.Input(
            "player",
            options=list(PLAYERS),
            default=FILE,
            optional=True,
            tooltip=(
                "How pages show the video. growing file: by ComfyUI's own port. WebRTC: each frame when it is due; "
                "needs the package aiortc, and opens UDP ports of this computer while a page watches. Where it does "
                "not connect, pages play the growing file."
            ),
        ),
    ]


class TalkNode(Node):
    """A node whose run people talk to."""

    @classmethod
    def fingerprint_inputs(cls, **_) -> int:
        """A conversation is over after a run: the next one begins anew."""
        return time.time_ns()

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Ids that can be guessed are refused when the workflow is queued."""
        super().check(values)
        check_id(values.get("id", ""))

    @classmethod
    def feed(cls, audio_encoder, max_seconds: float, player: str) -> tuple[SpeechFeed, LiveSpeech]:
        """The feed of a conversation and the speech that it becomes."""
        feed = talk_feed()
        feed.direct = player == WEBRTC
        speech = LiveSpeech(feed, max_seconds, encoder=audio_encoder)
        if audio_encoder is not None:
            check_encoder(speech)  # said where it is connected, and before larger models are loaded
        bind(feed)
        return feed, speech

    @classmethod
    def begin(cls, talk: Talk, own_id: str) -> None:
        """Let pages take part, and begin."""
        about = {"hears": talk.hears, "push_to_talk": talk.push_to_talk, "barge_in": talk.barge_in}
        publish(talks, talk, talk.feed, own_id, "liveavatar.talk", cls.hidden, **about)
        talk.start()


class AvatarConversation(TalkNode):
    """A conversation with ears, a mind and a voice."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarConversation",
            search_aliases=["chat", "talk", "voice assistant", "microphone", "real time", "interview"],
            display_name="Conversation",
            category=CATEGORY,
            description=(
                "Talk with the avatar while the video is made: it hears, thinks, answers, and can be interrupted. Use "
                "it in place of Encode Speech, with Avatar Stream to Video."
            ),
            inputs=[
                AvatarMind.Input("mind", tooltip="Language Model."),
                AvatarVoice.Input("voice", tooltip="Voice."),
                AvatarEars.Input("ears", optional=True, tooltip="Ears. Without them, messages are typed."),
                encoder_input(),
                io.String.Input(
                    "greeting",
                    default="",
                    optional=True,
                    tooltip="What the avatar says first. Empty: nothing.",
                ),
                io.Combo.Input(
                    "turn",
                    options=list(TURNS),
                    default=TURNS[0],
                    optional=True,
                    tooltip=(
                        "When it is the avatar's turn. silence: after longest_pause. smart: after pause, where Smart "
                        "Turn finds the sentence finished; needs onnxruntime. push to talk: when the key is let go."
                    ),
                ),
                io.Float.Input(
                    "pause",
                    default=0.2,
                    min=0.1,
                    max=2.0,
                    step=0.05,
                    optional=True,
                    tooltip="smart: seconds of silence after which Smart Turn is asked.",
                ),
                io.Float.Input(
                    "longest_pause",
                    default=0.8,
                    min=0.2,
                    max=5.0,
                    step=0.05,
                    optional=True,
                    tooltip="Seconds of silence after which it is the avatar's turn in any case.",
                ),
                barge_in_input(),
                io.Audio.Input(
                    "filler",
                    optional=True,
                    tooltip="A short sound (mm, ...) of at most 3 s for the time until the answer begins.",
                ),
                download_input("Smart Turn (9 MB, BSD-2-Clause)", optional=True),
                *common_inputs(),
            ],
            outputs=[AvatarSpeech.Output(display_name="speech")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        mind,
        voice,
        ears=None,
        audio_encoder=None,
        greeting: str = "",
        turn: str = TURNS[0],
        pause: float = 0.2,
        longest_pause: float = 0.8,
        barge_in: bool = True,
        filler=None,
        download: bool = False,
        max_seconds: float = 1800.0,
        id: str = "",
        player: str = FILE,
    ) -> io.NodeOutput:
        manners = Manners(turn == "push to talk", pause, longest_pause, barge_in, greeting, _short(filler))
        feed, speech = cls.feed(audio_encoder, max_seconds, player)
        say = partial(show_text, hidden=cls.hidden)
        finished = None
        if turn == "smart" and ears is not None:
            finished = find_smart_turn(download, Progress())
        cls.begin(Conversation(feed, mind, voice, ears, manners, finished, on_error=say), id)
        return io.NodeOutput(speech)


class AvatarConversationRealtime(TalkNode):
    """A conversation with a Realtime server."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="AvatarConversationRealtime",
            search_aliases=["openai realtime", "speech to speech", "localai", "voice assistant", "chat"],
            display_name="Conversation (Realtime)",
            category=CATEGORY,
            description=(
                "Talk with the avatar through a server of OpenAI's Realtime interface, which hears, thinks and speaks: "
                "speech-to-speech of Hugging Face, LocalAI, OpenAI."
            ),
            inputs=[
                address_input(
                    "ws://127.0.0.1:8765/v1", "8765 is the port of speech-to-speech; wss:// for a service"
                ),
                io.String.Input("model", default="default", tooltip="Name of the model on that server."),
                prompt_input("instructions"),
                encoder_input(),
                io.String.Input(
                    "voice",
                    default="",
                    optional=True,
                    tooltip="Name of one of the server's voices. Empty: its own choice.",
                ),
                io.Boolean.Input(
                    "push_to_talk",
                    default=False,
                    optional=True,
                    tooltip="Turns are what is said while the key is down. Off: the server finds them.",
                ),
                barge_in_input(),
                key_input(),
                *common_inputs(),
            ],
            outputs=[AvatarSpeech.Output(display_name="speech")],
            hidden=[io.Hidden.unique_id, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def check(cls, values: dict[str, Any]) -> None:
        """Addresses and keys that cannot be used are refused when the workflow is queued."""
        super().check(values)
        if "url" in values:
            Server(values["url"], "Realtime server", values.get("key", "")).check(
                "ws", "wss", "http", "https"
            )

    @classmethod
    def execute(
        cls,
        url: str,
        model: str,
        instructions: str,
        audio_encoder=None,
        voice: str = "",
        push_to_talk: bool = False,
        barge_in: bool = True,
        key: str = "",
        max_seconds: float = 1800.0,
        id: str = "",
        player: str = FILE,
    ) -> io.NodeOutput:
        server = Server(url, "Realtime server", key)
        realtime = Realtime(server, model, voice, instructions, barge_in, push_to_talk)
        feed, speech = cls.feed(audio_encoder, max_seconds, player)
        cls.begin(RealtimeConversation(feed, realtime, partial(show_text, hidden=cls.hidden)), id)
        return io.NodeOutput(speech)


def _short(filler) -> tuple | None:
    if filler is None:
        return None
    if (seconds := duration(usable(filler))) > LONGEST_FILLER:
        raise ValueError(
            f"Give Conversation a filler of at most {LONGEST_FILLER:g} s (Trim Audio): it has {seconds:.1f}."
        )
    return to_mono(filler, RATE), RATE
