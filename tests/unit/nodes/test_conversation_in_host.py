"""The nodes of conversations with sound that they cannot use: one sentence, before any service is asked."""

from __future__ import annotations

from tests.unit.in_host import run_in_host

PROGRAM = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util
import server, torch
sys.path.insert(0, {root!r})
import tools.pack
from avatar.nodes.conversation.send import AvatarSendSpeech
from avatar.nodes.conversation.services import AvatarVoiceNode
from avatar.nodes.conversation.talk import AvatarConversation
from avatar.nodes.conversation.text import AvatarListen

server.PromptServer.instance = None
LIVE = "http://127.0.0.1:9/liveavatar/speech/nobody-listens-here"
SERVER = {{"url": "http://127.0.0.1:9/v1", "model": "none"}}

def sound(seconds):
    return {{"waveform": torch.zeros(1, 1, round(1000 * seconds)), "sample_rate": 1000}}

class Nobody:
    answer = speak = transcribe = None

TALK = {{"mind": Nobody(), "voice": Nobody()}}

batch = {{"waveform": torch.zeros(2, 1, 9000), "sample_rate": 1000}}
for node, name, values, too_long in (
    (AvatarListen, "audio", {{"ears": Nobody()}}, (601, "to 10 minutes at most")),
    (AvatarSendSpeech, "audio", {{"address": LIVE}}, (301, "Send 300 s at most")),
    (AvatarVoiceNode, "sample", SERVER, (21, "3 to 20 seconds (Trim Audio): it has 21.0")),
    (AvatarConversation, "filler", TALK, (4, "at most 3 s (Trim Audio): it has 4.0")),
):
    wrong = [(batch, "batch of 2 sounds"), (sound(too_long[0]), too_long[1])]
    if name == "audio":
        wrong.append((None, "this video has no sound"))
    for given, sentence in wrong:
        try:
            node.execute(**values, **{{name: given}})
        except ValueError as error:
            assert sentence in str(error), error
        else:
            raise AssertionError((node, sentence))
print("fine")
"""


def test_sound_that_cannot_be_used_is_refused_in_a_sentence():
    run_in_host(PROGRAM)


ANSWERS = """
import sys
sys.argv[1:] = ["--cpu"]
import comfy.options
comfy.options.enable_args_parsing()
import utils.install_util
import server, torch
sys.path.insert(0, {root!r})
import tools.pack
from avatar.conversation.roles import ServiceError
from avatar.nodes.conversation import send
from avatar.nodes.conversation.text import AvatarAnswer

server.PromptServer.instance = None

class Mind:
    def __init__(self, *pieces):
        self.pieces = pieces

    async def answer(self, lines):
        for piece in self.pieces:
            yield piece

text, history = AvatarAnswer.execute(
    mind=Mind("<thi", "nk>Hm. ", "</think> It is", " noon. "), question="The time?", history="a\\nb"
).args
assert (text, history) == ("It is noon.", "a\\nb\\nThe time?\\nIt is noon."), (text, history)
try:
    AvatarAnswer.execute(mind=Mind("<think>Hm, hm"), question="The time?")
except ValueError as error:
    assert "Set max_tokens" in str(error), error
else:
    raise AssertionError("an answer without words")

class Server:
    url = "http://127.0.0.1:9"

    def __init__(self, *told):
        self.told = told

    def request(self, *args, **body):
        return self

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        pass

    async def read(self, answer):
        return self.told[0]

for told in ({{"ok": True}}, [1], None, {{"waiting_seconds": "soon"}}):
    try:
        send.finish(send._posted(Server(told), "/x", b"", False))
    except ServiceError as error:
        assert "Copy the address from LiveAvatar Live Speech" in str(error), error
    else:
        raise AssertionError(told)
assert send.finish(send._posted(Server({{"waiting_seconds": 1}}), "/x", b"", False)) == 1.0
print("fine")
"""


def test_an_answer_has_no_thoughts_and_foreign_json_is_no_live_run():
    run_in_host(ANSWERS)
