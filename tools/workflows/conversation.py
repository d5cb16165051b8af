"""The shipped workflows in which the avatar converses, or says a text."""

from __future__ import annotations

from . import notes
from .graphs import PREPARE, VIDEO, YOURS, Link, Node, Workflow, from_checkpoint, real_time, video_file

PROMPT = (
    "You are a friendly person in a video call. Answer in one to three short spoken sentences, in the language of the "
    "question."
)
SERVICES = "Who hears, thinks and speaks"
COLUMNS = {f"Model and {SERVICES.lower()}": (0, 0), YOURS: (1, 1), PREPARE: (2, 2), VIDEO: (3, 3)}


def text_to_speech() -> dict[str, Node]:
    """A text, said with a cloned voice by the person in the picture."""
    graph = from_checkpoint() | video_file()
    graph["audio"] = Node("LoadAudio", 1, {"audio": "liveavatar_speech.ogg"}, 80, "The voice to clone")
    graph["voice"] = cloned_voice()
    graph["say"] = Node(
        "AvatarSay",
        1,
        {"voice": Link("voice"), "text": "Hello! I say whatever you write here."},
        80,
        "What the person says",
    )
    graph["speech"].inputs["audio"] = Link("say")
    return graph


def conversation() -> dict[str, Node]:
    """With services on servers of this computer."""
    return talking(
        {
            "mind": Node(
                "AvatarLanguageModel",
                0,
                {
                    "url": "http://127.0.0.1:11434/v1",
                    "model": "qwen3:4b-instruct",
                    "system_prompt": PROMPT,
                    "temperature": 0.7,
                    "max_tokens": 200,
                    "turns_remembered": 20,
                    "key": "",
                },
                80,
            ),
            "voice": cloned_voice(),
            "ears": Node(
                "AvatarEars",
                0,
                {
                    "url": "http://127.0.0.1:8000/v1",
                    "model": "Systran/faster-whisper-large-v3",
                    "language": "auto",
                    "key": "",
                },
            ),
            "audio": Node("LoadAudio", 1, {"audio": "liveavatar_speech.ogg"}, 80, "The voice to clone"),
        }
    )


def without_server() -> dict[str, Node]:
    """With small models in ComfyUI itself."""
    return talking(
        {
            "mind": Node(
                "AvatarLanguageModelHere",
                0,
                {
                    "model": "Qwen/Qwen3-1.7B (4.1 GB, Apache-2.0)",
                    "system_prompt": PROMPT,
                    "download": False,
                    "temperature": 0.7,
                    "max_tokens": 200,
                    "turns_remembered": 20,
                    "device": "gpu",
                },
                80,
            ),
            "voice": Node("AvatarVoiceHere", 0, {"voice": "english: alba", "download": False}),
            "ears": Node(
                "AvatarEarsHere",
                0,
                {
                    "model": "openai/whisper-large-v3-turbo (1.6 GB, MIT)",
                    "download": False,
                    "language": "auto",
                    "device": "gpu",
                },
            ),
        }
    )


def realtime() -> dict[str, Node]:
    """With a server of OpenAI's Realtime interface."""
    return spoken_by(
        Node(
            "AvatarConversationRealtime",
            2,
            {
                "url": "ws://127.0.0.1:8765/v1",
                "model": "default",
                "instructions": PROMPT,
                "audio_encoder": Link("load", 3),
                "voice": "",
                "push_to_talk": False,
                "barge_in": True,
                "key": "",
                "max_seconds": 1800.0,
                "id": "",
            },
            extra_height=420,
        )
    )


def talking(services: dict[str, Node]) -> dict[str, Node]:
    """A conversation with these services."""
    talk = Node(
        "AvatarConversation",
        2,
        {
            "mind": Link("mind"),
            "voice": Link("voice"),
            "ears": Link("ears"),
            "audio_encoder": Link("load", 3),
            "greeting": "Hello! What shall we talk about?",
            "turn": "silence",
            "pause": 0.2,
            "longest_pause": 0.8,
            "barge_in": True,
            "download": False,
            "max_seconds": 1800.0,
            "id": "",
        },
        extra_height=420,
    )
    return services | spoken_by(talk)


def spoken_by(talk: Node) -> dict[str, Node]:
    """A conversation, as fast as it is spoken."""
    graph = real_time()
    del graph["audio"]
    graph["speech"] = talk
    graph["video"].inputs["filename_prefix"] = "video/Conversation"
    return graph


def cloned_voice() -> Node:
    """A voice that speaks like the sound of the node "audio"."""
    values = {
        "url": "http://127.0.0.1:8091/v1",
        "model": "Qwen/Qwen3-TTS-12Hz-1.7B-Base",
        "voice": "",
        "transcript": "",
        "language": "auto",
        "key": "",
        "sample": Link("audio"),
    }
    return Node("AvatarVoice", 0, values, 80)


WORKFLOWS = {
    "conversation": Workflow(
        conversation, "portrait_2_large.png", "Talk with it: services on servers", notes.CONVERSATION, COLUMNS
    ),
    "conversation_without_server": Workflow(
        without_server,
        "portrait_3.png",
        "Talk with it: all on this computer",
        notes.CONVERSATION_HERE,
        COLUMNS,
    ),
    "conversation_realtime": Workflow(
        realtime, "portrait_2_large.png", "Talk with it: a Realtime server", notes.REALTIME, COLUMNS
    ),
    "text_to_speech": Workflow(
        text_to_speech, "portrait_large.png", "A text in a cloned voice", notes.TEXT_TO_SPEECH, COLUMNS
    ),
}
