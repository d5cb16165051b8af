"""The conversation with a Realtime server, here a scripted one."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import torch
from avatar.conversation import realtime as module
from avatar.conversation.realtime import Realtime, RealtimeConversation
from avatar.conversation.roles import ServiceError
from avatar.conversation.server import Server
from avatar.conversation.talk import RATE, End, Held, Hush, Sound, Typed, talk_feed

from tools.scripted_services import Script, running_services

LONG = "This is a long answer that nobody wants to hear to its end, because it goes on and on."


@pytest.fixture
def script():
    return Script(
        transcripts=((60.0, "What is it?"),), answers={"What is it?": "It is a test.", "Tell me": LONG}
    )


class Visit:
    """A conversation with the scripted server, and what a page is told."""

    def __init__(self, url, **options):
        self.feed, self.errors, self.told = talk_feed(), [], []
        realtime = Realtime(Server(url, "Realtime server"), "scripted", "ana", "Be brief.", **options)
        self.talk = RealtimeConversation(self.feed, realtime, self.errors.append)
        self.talk.join(self.told.append)

    async def speak(self, seconds, loudness=0.3):
        for _ in range(round(seconds / 0.02)):
            self.talk.send(Sound(torch.full((480,), loudness)))
            await asyncio.sleep(0.002)

    def of(self, type_):
        return [message for message in self.told if message["type"] == type_]

    @property
    def heard(self):
        """Seconds of speech that were heard."""
        return self.feed.taken_before(self.feed.heard_seconds) / RATE

    async def until(self, condition):
        for _ in range(500):
            if condition():
                return
            await asyncio.sleep(0.01)
        raise AssertionError(self.told)

    async def avatar(self):
        while (piece := self.feed.take(2400)) is not None:
            await asyncio.sleep(min(piece, 0.01) if isinstance(piece, float) else 0)


def play(script, scene, **options):
    """Run a scene of a visit."""

    async def main(url):
        visit = Visit(url, **options)
        tasks = [asyncio.create_task(visit.talk.run()), asyncio.create_task(visit.avatar())]
        try:
            await asyncio.wait_for(scene(visit), 15)
        finally:
            visit.feed.close()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(*tasks)

    with running_services(script) as url:
        asyncio.run(main(url))


def events(script, type_):
    return [event for _, event in script.asked if event["type"] == type_]


def test_speech_goes_up_and_the_answer_comes_down_into_the_feed(script):
    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        await visit.speak(0.5)
        await visit.speak(0.4, 0.0)
        await visit.until(lambda: visit.of("timings"))
        await visit.until(lambda: visit.told[-1] == {"type": "state", "state": "listening"})
        assert visit.feed.taken == pytest.approx(len("It is a test.") * 0.06 * RATE, abs=1)

    visited = []

    async def kept(visit):
        visited.append(visit)
        await scene(visit)

    play(script, kept)
    (visit,) = visited
    assert [message["text"] for message in visit.of("heard")] == ["What is it?"]
    assert [message["text"] for message in visit.of("said")] == ["It is a test."]
    states = [message["state"] for message in visit.of("state")]
    assert states == ["waiting", "listening", "thinking", "speaking", "listening"]
    (session,) = events(script, "session.update")
    assert session["session"]["audio"]["output"]["voice"] == "ana"
    assert session["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}
    assert visit.errors == []


def test_an_interruption_stops_the_answer_and_the_server_learns_how_much_was_heard(script):
    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        visit.talk.send(Typed("Tell me"))
        await visit.until(lambda: visit.heard > 0.6)
        await visit.speak(0.3)
        await visit.until(lambda: visit.of("interrupted"))
        waiting = visit.feed.waiting_seconds
        await asyncio.sleep(0.2)
        assert waiting == visit.feed.waiting_seconds == 0
        await visit.until(lambda: events(script, "conversation.item.truncate"))

    play(script, scene)
    (truncated,) = events(script, "conversation.item.truncate")
    assert truncated["item_id"] == "item_1" and truncated["content_index"] == 0
    assert 500 <= truncated["audio_end_ms"] <= 1600


def test_a_slow_server_lets_no_sound_return_after_an_interruption(script):
    script.notices = 0.6

    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        visit.talk.send(Typed("Tell me"))
        await visit.until(lambda: visit.heard > 0.6)
        await visit.speak(0.4)
        await visit.until(lambda: visit.of("duck"))
        assert visit.of("interrupted") == []  # the server has not said so yet
        await visit.speak(0.4)
        await visit.until(lambda: visit.of("interrupted"))
        await visit.until(lambda: len(visit.of("duck")) == 2)
        kinds = [message["type"] for message in visit.told if message["type"] in ("duck", "interrupted")]
        assert kinds == ["duck", "interrupted", "duck"]  # the sound is void before it may be loud again
        assert [message["on"] for message in visit.of("duck")] == [True, False]

    play(script, scene)


def test_what_the_server_takes_for_no_speech_makes_the_page_mute_for_a_moment_only(script):
    script.notices = 60.0

    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        visit.talk.send(Typed("Tell me"))
        await visit.until(lambda: visit.heard > 0.6)
        await visit.speak(0.2)
        await visit.speak(0.8, 0.0)
        assert [message["on"] for message in visit.of("duck")] == [True]
        await visit.speak(0.4, 0.0)
        await visit.until(lambda: len(visit.of("duck")) == 2)
        assert not visit.of("duck")[-1]["on"] and visit.of("interrupted") == []

    play(script, scene)


def test_without_barge_in_the_answer_goes_on(script):
    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        visit.talk.send(Typed("What is it?"))
        await visit.until(lambda: visit.feed.taken > 0)
        await visit.speak(0.2)
        await asyncio.sleep(0.1)
        assert visit.of("interrupted") == visit.of("duck") == []

    play(script, scene, barge_in=False)
    assert (
        events(script, "session.update")[0]["session"]["audio"]["input"]["turn_detection"][
            "interrupt_response"
        ]
        is False
    )


def test_stop_talking_cancels_the_answer(script):
    script.speed = 2.0

    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        visit.talk.send(Typed("Tell me"))
        await visit.until(lambda: visit.feed.taken > 0)
        visit.talk.send(Hush())
        await visit.until(lambda: events(script, "response.cancel"))
        assert visit.feed.waiting_seconds == 0

    play(script, scene)


def test_an_answer_that_is_not_there_yet_is_cancelled_and_never_said(script):
    script.delays = (0, 0, 0.3)

    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        visit.talk.send(Typed("Tell me"))
        await visit.until(lambda: visit.talk._response is not None)
        visit.talk.send(Typed("What is it?"))
        await visit.until(lambda: visit.of("said"))
        assert [message["text"] for message in visit.of("said")] == ["It is a test."]

    play(script, scene)
    assert len(events(script, "response.cancel")) == 1
    assert events(script, "conversation.item.truncate") == []


def test_an_answer_that_has_arrived_is_dropped_without_a_cancel(script):
    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        visit.talk.send(Typed("Tell me"))
        await visit.until(lambda: visit.of("said") and visit.talk._response is None)
        visit.talk.send(Hush())
        await visit.until(lambda: events(script, "conversation.item.truncate"))

    play(script, scene)
    assert events(script, "response.cancel") == []


def test_after_the_end_nothing_interrupts_what_is_still_said(script):
    async def scene(visit):
        await visit.until(lambda: visit.of("state")[-1]["state"] == "listening")
        visit.talk.send(Typed("Tell me"))
        await visit.until(lambda: visit.feed.taken > 0)
        visit.talk.send(End())
        await visit.speak(0.3)
        visit.talk.send(Hush())
        await visit.talk._event('{"type": "input_audio_buffer.speech_started"}')
        await visit.talk._socket.close()
        await asyncio.sleep(0.2)
        assert visit.of("interrupted") == []
        assert [error for error in visit.errors if "has stopped" in error] == []

    play(script, scene)


def test_push_to_talk_commits_the_turn_when_the_key_goes_up(script):
    async def scene(visit):
        await visit.until(lambda: events(script, "session.update"))
        await visit.speak(0.2)
        visit.talk.send(Held(True))
        await visit.speak(0.2)
        visit.talk.send(Held(False))
        await visit.until(lambda: visit.of("said"))

    play(script, scene, push_to_talk=True)
    assert len(events(script, "input_audio_buffer.commit")) == 1
    assert events(script, "session.update")[0]["session"]["audio"]["input"]["turn_detection"] is None


def test_an_unknown_model_and_a_server_that_is_down_become_sentences(script, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    script.models = ("another",)

    async def unknown(visit):
        await visit.until(lambda: visit.errors)
        assert "The model scripted does not exist" in visit.errors[0]

    play(script, unknown)

    async def down():
        visit = Visit("http://127.0.0.1:9/v1")
        running = asyncio.create_task(visit.talk.run())
        await visit.until(lambda: len(visit.errors) >= 1)
        visit.feed.close()
        await running
        assert visit.errors[0] == "Start the Realtime server: nothing answers at http://127.0.0.1:9/v1."

    asyncio.run(down())


def test_a_server_that_refuses_or_talks_nonsense_becomes_a_sentence_and_is_asked_again(script, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)
    script.key = "secret"

    async def refused(visit):
        await visit.until(lambda: len(visit.errors) >= 2)
        assert visit.errors[0].startswith("Set the right key for the Realtime server at")

    play(script, refused)
    script.key = ""

    async def nonsense(visit):
        await visit.until(lambda: events(script, "session.update"))
        with pytest.raises(ServiceError, match="it does not talk Realtime"):
            await visit.talk._event('{"type": 5}')

    play(script, nonsense)


def test_a_broken_connection_is_made_anew(script, monkeypatch):
    monkeypatch.setattr(module, "RETRY_SECONDS", 0.05)

    async def scene(visit):
        await visit.until(lambda: len(events(script, "session.update")) == 1)
        await visit.talk._socket.close()
        await visit.until(lambda: len(events(script, "session.update")) == 2)

    play(script, scene)
