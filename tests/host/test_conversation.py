"""Conversations in the real host, with scripted services and the tiny model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress

import aiohttp
import pytest

from tools.caller import Caller
from tools.host import Host, HostError
from tools.scripted_services import Script, running_services

from .test_live_speech import loudness
from .workflows import Api, add, change, every, only, put_conversation, small, tiny

RATE = 24_000
ID = "a-test-that-converses-"


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    with running_services(script) as address:
        yield address


@pytest.fixture
def talk(ready: Host, url: str, request: pytest.FixtureRequest) -> Iterator[Api]:
    """A run that holds a conversation with the scripted services, under an id of its own."""
    workflow = small(seconds=0)
    name = request.node.name.split("[")[0]
    del workflow[only(workflow, "LoadAudio")]
    put_conversation(workflow, url, longest_pause=0.4, max_seconds=60.0, id=ID + name)
    change(workflow, "AvatarStreamToVideo", filename_prefix=f"video/{name}")
    yield workflow
    ready.interrupt()


def test_a_typed_and_a_spoken_question_are_answered_in_the_video(ready, talk, script):
    id_ = talk[only(talk, "AvatarConversation")]["inputs"]["id"]
    prompt = ready.submit(talk)

    async def converse():
        async with Caller(ready.url, id_) as page:
            await page.send(type="text", text="Hello.")
            await page.until(lambda: page.of("timings"))
            await page.until(lambda: page.told[-1] == {"type": "state", "state": "listening"})
            await page.hum(0.8)
            await page.hum(0.6, 0)
            await page.until(lambda: len(page.of("timings")) == 2)
            await page.until(lambda: page.told[-1] == {"type": "state", "state": "listening"})
            await page.send(type="end")
            await page.until(lambda: page.of("end"))
            return page.told

    told = asyncio.run(converse())
    entry = ready.wait(prompt)
    assert ready.errors(entry) == []
    assert [message["text"] for message in told if message["type"] == "heard" and message["final"]] == [
        "Hello.",
        "Hello.",
    ]
    said = " ".join(message["text"] for message in told if message["type"] == "said")
    assert said == " ".join([script.answers["Hello."]] * 2)
    chat = [body for path, body in script.asked if path.endswith("completions")]
    assert [message["role"] for message in chat[-1]["messages"]] == ["system", "user", "assistant", "user"]
    loud, frames = loudness(ready.saved_video(entry))
    assert abs(len(loud) - frames) <= 1
    answer = 0.06 * len("Hello, how are you? I am fine.") * 25
    assert 2 * answer * 0.8 < (loud > 0.05).sum() < 2 * answer * 1.2


def test_two_conversations_of_one_run_keep_apart(ready, talk, url):
    node = talk[only(talk, "AvatarConversation")]
    first = node["inputs"]["id"]
    second = first + "-2"
    other = add(talk, "AvatarConversation", **{**node["inputs"], "id": second, "greeting": "I am the other."})
    speech = [only(talk, "LiveAvatarSampler"), 0]
    sampler = add(talk, "LiveAvatarSampler", **{**talk[speech[0]]["inputs"], "speech": [other, 0]})
    video = talk[only(talk, "AvatarStreamToVideo")]["inputs"]
    add(talk, "AvatarStreamToVideo", **{**video, "stream": [sampler, 0], "filename_prefix": "video/other"})
    prompt = ready.submit(talk)

    async def converse(id_, words):
        async with Caller(ready.url, id_) as page:
            await page.send(type="text", text=words)
            await page.until(lambda: [m for m in page.of("heard") if m["final"]])
            # In which order the host makes the two videos is chance, and one that has not begun cannot end.
            while not page.of("end"):
                with suppress(ConnectionError):
                    await page.send(type="end")
                await asyncio.sleep(0.5)
            return page.told

    async def both():
        return await asyncio.gather(converse(first, "For the first."), converse(second, "For the second."))

    one, two = asyncio.run(both())
    assert ready.errors(ready.wait(prompt)) == []
    assert "For the second." not in str(one) and "For the first." not in str(two)
    assert "I am the other." not in str(one)


def test_a_service_that_is_down_is_named_and_the_avatar_idles_on(ready, talk):
    change(talk, "AvatarLanguageModel", url="http://127.0.0.1:9/v1")
    id_ = talk[only(talk, "AvatarConversation")]["inputs"]["id"]
    prompt = ready.submit(talk)

    async def converse():
        async with Caller(ready.url, id_) as page:
            await page.send(type="text", text="Hello.")
            await page.until(lambda: page.of("error"))
            await page.send(type="end")
            await page.until(lambda: page.of("end"))
            return page.told

    told = asyncio.run(converse())
    error = next(message for message in told if message["type"] == "error")
    assert error["message"] == "Start the language model: nothing answers at http://127.0.0.1:9/v1."
    entry = ready.wait(prompt)
    assert ready.errors(entry) == []
    loud, _ = loudness(ready.saved_video(entry))
    assert len(loud) and loud.max() < 0.01


def test_the_conversation_is_over_with_an_interrupted_run(ready, talk):
    id_ = talk[only(talk, "AvatarConversation")]["inputs"]["id"]
    ready.submit(talk)

    async def converse():
        async with Caller(ready.url, id_) as page:
            await page.until(lambda: page.of("state"))
            ready.interrupt()
            await page.until(lambda: page.of("end"))

    asyncio.run(converse())


def test_a_page_of_another_site_is_refused(ready, talk):
    id_ = talk[only(talk, "AvatarConversation")]["inputs"]["id"]
    ready.submit(talk)

    async def converse():
        async with Caller(ready.url, id_) as page:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await page.session.ws_connect(page.address, headers={"Origin": "https://evil.example"})
            assert refused.value.status == 403

    asyncio.run(converse())


@pytest.mark.parametrize(
    ("node", "inputs", "said"),
    [
        ("AvatarConversation", {"id": "short"}, "16 to 128 letters"),
        ("AvatarLanguageModel", {"url": "file:///etc/passwd"}, "Write the address"),
        ("AvatarVoice", {"key": "sk-secret"}, "never the key itself"),
        ("AvatarConversation", {"turn": "whenever"}, "Value not in list"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_queued(ready, talk, node, inputs, said):
    change(talk, node, **inputs)
    with pytest.raises(HostError, match=said):
        ready.submit(talk)


def test_text_is_said_heard_and_answered_by_nodes_of_their_own(ready, url, script):
    script.transcripts = ((60.0, "What was said."),)
    workflow: Api = {
        "1": {"class_type": "AvatarVoice", "inputs": {"url": url, "model": "scripted"}},
        "2": {"class_type": "AvatarEars", "inputs": {"url": url, "model": "scripted"}},
        "3": {
            "class_type": "AvatarLanguageModel",
            "inputs": {"url": url, "model": "scripted", "system_prompt": ""},
        },
        "4": {"class_type": "AvatarSay", "inputs": {"voice": ["1", 0], "text": "One, two. Three!"}},
        "5": {"class_type": "AvatarListen", "inputs": {"ears": ["2", 0], "audio": ["4", 0]}},
        "6": {"class_type": "AvatarAnswer", "inputs": {"mind": ["3", 0], "question": ["5", 0]}},
        "7": {"class_type": "PreviewAny", "inputs": {"source": ["6", 1]}},
        "8": {
            "class_type": "SaveAudio",
            "inputs": {"audio": ["4", 0], "filename_prefix": "audio/said"},
        },
    }
    entry = ready.run(workflow)
    assert entry["outputs"]["7"]["text"] == [f"What was said.\n{script.answer}"]
    sentences = [body["input"] for path, body in script.asked if path.endswith("speech")]
    assert sentences == ["One, two.", "Three!"] or sentences == ["One, two. Three!"]
    heard = [body["seconds"] for path, body in script.asked if path.endswith("transcriptions")]
    assert heard[0] == pytest.approx(sum(len(text) * 0.06 + 0.15 for text in sentences), abs=0.01)


def small_workflow(name: str, url: str) -> Api:
    """A shipped workflow on the tiny model, with the scripted services."""
    workflow = tiny(name)
    change(workflow, "LiveAvatarReferenceImage", size="exact", width=64, height=64)
    for type_ in ("AvatarLanguageModel", "AvatarVoice", "AvatarEars", "AvatarConversationRealtime"):
        for node in every(workflow, type_):
            address = url.replace("http", "ws") if type_.endswith("Realtime") else url
            workflow[node]["inputs"].update(url=address, model="scripted")
    return workflow


def test_the_workflow_of_a_text_says_it(ready, url, script):
    workflow = small_workflow("text_to_speech", url)
    change(workflow, "AvatarSay", text="One, two, three.")
    # The tests' sound is too short to be cloned.
    del workflow[only(workflow, "AvatarVoice")]["inputs"]["sample"]
    loud, frames = loudness(ready.video(workflow))
    assert frames >= 0.06 * len("One, two, three.") * 25 and loud.max() > 0.1
    assert next(body["input"] for path, body in script.asked if path.endswith("speech")).startswith(
        "One, two"
    )


@pytest.mark.parametrize("name", ["conversation", "conversation_realtime"])
def test_the_workflow_of_a_conversation_answers(ready, url, name):
    workflow = small_workflow(name, url)
    (node,) = [one for one in workflow.values() if one["class_type"].startswith("AvatarConversation")]
    node["inputs"]["id"] = id_ = ID + name
    for voice in every(workflow, "AvatarVoice"):
        del workflow[voice]["inputs"]["sample"]
    prompt = ready.submit(workflow)

    async def converse():
        async with Caller(ready.url, id_) as page:
            await page.until(lambda: {"type": "state", "state": "listening"} in page.told)
            await page.send(type="text", text="Hello.")
            await page.until(lambda: [m for m in page.of("said") if "Hello, how" in m["text"]])
            await page.until(lambda: page.of("timings"))
            await page.send(type="end")
            await page.until(lambda: page.of("end"))

    asyncio.run(converse())
    entry = ready.wait(prompt)
    assert ready.errors(entry) == []
    loud, _ = loudness(ready.saved_video(entry))
    assert (loud > 0.05).sum() > 20


def test_sound_for_a_run_that_does_not_listen_is_refused_in_a_sentence(ready, url):
    workflow = {
        "1": {"class_type": "AvatarVoice", "inputs": {"url": url, "model": "scripted"}},
        "2": {"class_type": "AvatarSay", "inputs": {"voice": ["1", 0], "text": "Hello there."}},
        "3": {
            "class_type": "AvatarSendSpeech",
            "inputs": {"audio": ["2", 0], "address": f"{ready.url}/liveavatar/speech/nobody-listens-here"},
        },
    }
    with pytest.raises(HostError, match="there is no /liveavatar/speech/nobody-listens-here"):
        ready.run(workflow)
    workflow["3"]["inputs"]["address"] = "http://127.0.0.1:8188/prompt"
    with pytest.raises(HostError, match="Copy the address"):
        ready.submit(workflow)
