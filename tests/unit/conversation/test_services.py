"""Ears, mind and voice on servers: what they send, and what becomes of every fault."""

from __future__ import annotations

import asyncio
import struct
import time

import pytest
import torch
from avatar.conversation.connections import close_connections
from avatar.conversation.roles import EARS_RATE, Line, ServiceError
from avatar.conversation.server import Server
from avatar.conversation.services import EarsServer, MindServer, SoundReader, VoiceServer, chat_messages

from tools.scripted_services import RATE, Script, running_services, tone

KEY = "LIVEAVATAR_KEY_TEST"


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def url(script):
    with running_services(script) as address:
        yield address


def call(work):
    """The result of a coroutine, whose connections are closed afterwards."""

    async def main():
        try:
            return await asyncio.wait_for(work, 10)
        finally:
            await close_connections()

    return asyncio.run(main())


async def collect(pieces):
    return [piece async for piece in pieces]


def mind(url, model="scripted", key="", **options):
    return MindServer(Server(url, "language model", key, **options), model, "Be brief.")


def voice(url, model="scripted", **options):
    return VoiceServer(Server(url, "voice"), model, **options)


def ears(url, model="scripted"):
    return EarsServer(Server(url, "ears"), model, "en")


HELLO = [Line("user", "Hello.")]
SOUND = torch.zeros(EARS_RATE)


def refused(work):
    """The sentence of the error."""
    with pytest.raises(ServiceError) as error:
        call(work)
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and "Traceback" not in text
    return text


def test_sound_becomes_words(script, url):
    heard = call(ears(url).transcribe(SOUND))
    assert (heard.text, heard.language) == ("Hello.", "english")
    assert script.asked == [("/v1/audio/transcriptions", {"seconds": 1.0, "language": "en"})]


def test_an_answer_arrives_in_pieces_and_the_model_is_told_the_conversation(script, url):
    lines = [Line("user", "Hi"), Line("assistant", "Hello"), Line("user", "Are you"), Line("user", "there?")]
    pieces = call(collect(mind(url).answer(lines)))
    assert len(pieces) > 3 and "".join(pieces) == script.answer
    body = script.asked[0][1]
    assert body["stream"] is True and body["max_tokens"] == 200 and body["temperature"] == 0.7
    assert body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Are you\nthere?"},
    ]


def test_only_the_last_lines_are_told_and_the_person_begins():
    lines = [Line("user" if n % 2 == 0 else "assistant", str(n)) for n in range(9)]
    told = chat_messages("", lines, 4)
    assert [message["content"] for message in told] == ["6", "7", "8"]
    assert chat_messages("P", [Line("assistant", "Hi")], 4)[-1] == {"role": "assistant", "content": "Hi"}


@pytest.mark.parametrize("as_wav", [False, True])
def test_a_sentence_becomes_sound_as_it_arrives(script, url, as_wav):
    script.wav = as_wav
    pieces = call(collect(voice(url, voice="ana", language="Spanish").speak("Hola, mundo.")))
    assert {rate for _, rate in pieces} == {RATE} and len(pieces) > 1
    expected = (
        torch.tensor(struct.unpack(f"<{len(tone('Hola, mundo.')) // 2}h", tone("Hola, mundo."))) / 32768
    )
    assert torch.allclose(torch.cat([samples for samples, _ in pieces]), expected)
    body = script.asked[0][1]
    assert (body["voice"], body["language"], body["response_format"]) == ("ana", "Spanish", "pcm")
    assert "ref_audio" not in body


def test_a_sample_is_sent_with_its_words_to_be_cloned(script, url):
    sample = torch.rand(RATE * 3) - 0.5, RATE
    call(collect(voice(url, sample=sample, transcript="So I speak.").speak("Hi there")))
    body = script.asked[0][1]
    assert body["ref_audio"].startswith("data:audio/wav;base64,UklGR") and body["ref_text"] == "So I speak."
    assert body["task_type"] == "Base" and "voice" not in body


def test_the_key_is_sent_to_its_own_address_only(script, url, monkeypatch):
    script.key = "secret"
    assert "it wants one, and none is named" in refused(collect(mind(url).answer(HELLO)))
    said = refused(collect(mind(url, key=KEY).answer(HELLO)))
    assert said.startswith(f"Set the environment variable {KEY} to '{url.removesuffix('/v1')} KEY'")
    monkeypatch.setenv(KEY, "https://api.example.com secret")
    assert "belongs to https://api.example.com" in refused(collect(mind(url, key=KEY).answer(HELLO)))
    assert script.asked == []
    monkeypatch.setenv(KEY, f"{url.removesuffix('/v1')} wrong")
    said = refused(collect(mind(url, key=KEY).answer(HELLO)))
    assert said.startswith("Set the right key") and "wrong" not in said
    assert refused(mind(url, key=KEY).probe()).startswith("Set the right key")
    monkeypatch.setenv(KEY, f"{url.removesuffix('/v1')} secret")
    assert "".join(call(collect(mind(url, key=KEY).answer(HELLO)))).startswith("Hello, how")


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda url: collect(mind(url, "gpt-x").answer(HELLO)), "language model"),
        (lambda url: collect(voice(url, "gpt-x").speak("Hi")), "voice"),
        (lambda url: ears(url, "gpt-x").transcribe(SOUND), "ears"),
    ],
)
def test_an_unknown_model_is_named_with_those_that_are_there(url, ask, what):
    assert refused(ask(url)) == f"Choose another model: the {what} at {url} has no gpt-x; it has scripted."


def test_a_long_list_of_models_is_read_to_its_end(script, url):
    script.models = tuple(f"model-{number:06d}" for number in range(20_000))
    assert call(mind(url).probe()) is None
    assert "it has model-000000, model-000001" in refused(collect(mind(url, "gpt-x").answer(HELLO)))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("error in stream", "it says 'CUDA out of memory'"),
        ("broken stream", "its answer cannot be read"),
        ("closed", "it broke off in the middle"),
    ],
)
def test_a_stream_that_breaks_gives_what_came_before_and_a_sentence(script, url, fault, said):
    script.fault = fault
    got = []

    async def listen():
        async for piece in mind(url).answer(HELLO):
            got.append(piece)

    assert said in refused(listen())
    assert "".join(got) and "Hello, how are you? I am fine.".startswith("".join(got))


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("no sound", "it has made no sound"),
        ("compressed", "Set the voice to give 16-bit PCM or WAV: the sound is compressed"),
        ("json", "it says 'voice not found'"),
    ],
)
def test_a_voice_without_sound_says_so(script, url, fault, said):
    script.fault = fault
    assert said in refused(collect(voice(url).speak("Hi")))


def test_a_model_that_says_nothing_is_an_error(script, url):
    script.answer = ""
    assert "has said nothing" in refused(collect(mind(url).answer([Line("user", "?")])))


def test_a_service_that_is_down_or_somewhere_else_is_named(url):
    down = "http://127.0.0.1:9/v1"
    for work in (
        collect(mind(down).answer(HELLO)),
        collect(voice(down).speak("Hi")),
        ears(down).transcribe(SOUND),
        mind(down).probe(),
    ):
        assert refused(work).endswith(f"nothing answers at {down}.")
    wrong = url.removesuffix("/v1")
    assert "there is no /chat/completions" in refused(collect(mind(wrong).answer(HELLO)))
    assert call(mind(url).probe()) is None


def test_a_service_that_is_silent_for_too_long_is_given_up(script, url):
    script.delays = (0, 5, 0)
    begun = time.monotonic()
    assert "it has sent nothing for 0.2 s" in refused(collect(mind(url, quiet_seconds=0.2).answer(HELLO)))
    assert time.monotonic() - begun < 2


def test_a_cancelled_answer_ends_its_request_at_once(script, url):
    script.letter_seconds = 0.5

    async def main():
        answer = mind(url).answer([Line("user", "?")])
        await anext(answer)
        waiting = asyncio.create_task(anext(answer))
        await asyncio.sleep(0.05)
        waiting.cancel()
        begun = time.monotonic()
        await asyncio.wait((waiting,))
        await answer.aclose()
        return time.monotonic() - begun

    assert call(main()) < 0.2


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("127.0.0.1:8000/v1", ""),
        ("file:///etc/passwd", ""),
        ("http://user:password@host/v1", ""),
        ("http://host/v1?a=b", ""),
        ("http://host:99999/v1", ""),
        ("http://ho st/v1", ""),
        ("http://host/v1", "sk-12345"),
        ("http://host/v1", "AWS_SECRET_ACCESS_KEY"),
    ],
)
def test_addresses_and_keys_that_cannot_be_used_are_refused_before_a_run(address, key):
    with pytest.raises(ValueError, match=r"Write the (address|name)"):
        Server(address, "voice", key).check()


def test_sound_is_read_whatever_the_size_of_its_pieces():
    data = struct.pack("<6h", *range(6)) * 3
    head = b"RIFF\xff\xff\xff\xffWAVELIST\x03\0\0\0abc\0fmt " + struct.pack(
        "<IHHIIHH", 16, 1, 2, 16_000, 64_000, 4, 16
    )
    for prefix, rate, channels in ((b"", RATE, 1), (head + b"data\xff\xff\xff\xff", 16_000, 2)):
        for size in (1, 5, 1000):
            reader, whole = SoundReader(), prefix + data
            pieces = [p for at in range(0, len(whole), size) for p in reader.push(whole[at : at + size])]
            assert reader.rate == rate
            expected = torch.arange(6).repeat(3).view(-1, channels).float().mean(1) / 32768
            assert torch.allclose(torch.cat(pieces), expected)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"RIFF....WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8) + b"data....",
            "8 bits",
        ),
        (b"RIFF....WAVEfmt " + struct.pack("<IHH", 4, 1, 1), "header of its WAV file is broken"),
        (b"\0\0\0\x18ftypisom" + bytes(20), "compressed"),
    ],
)
def test_sound_of_another_format_is_refused(data, said):
    with pytest.raises(ValueError, match=said):
        list(SoundReader().push(data))
