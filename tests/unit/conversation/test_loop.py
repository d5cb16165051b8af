"""Turns, interruptions and what is remembered, on a virtual clock."""

from __future__ import annotations

import asyncio
import functools

import pytest
import torch
from avatar.conversation.loop import Manners
from avatar.conversation.talk import End, Held, Hush, Played

from tools.conversation_stage import BLOCK_SECONDS, on_stage
from tools.virtual_time import run_virtually

LONG = "It is half past three in the afternoon, and the sun is shining. Tomorrow it may rain a little in the north."
ANSWERS = {
    "What is": "What is what, if I may ask?",
    "What is the time": "It is noon, I think.",
    "the time": "It is noon.",
    "Tell me": LONG,
    "Stop": "I am silent now.",
}


def staged(**options):
    """A test that plays on a stage."""

    def wrap(play):
        @functools.wraps(play)
        def test():
            async def main():
                async with on_stage(ANSWERS, **options) as stage:
                    await play(stage)

            run_virtually(main())

        del test.__wrapped__  # pytest must not ask for a fixture called stage
        return test

    return wrap


@staged()
async def test_a_question_is_heard_answered_and_remembered(stage):
    await stage.microphone.quiet(0.5)
    await stage.microphone.say("What is", 0.8)
    await stage.microphone.quiet(4)
    assert [message["text"] for message in stage.messages("heard") if message["final"]] == ["What is"]
    assert " ".join(message["text"] for message in stage.messages("said")) == ANSWERS["What is"]
    assert stage.history() == [("user", "What is"), ("assistant", ANSWERS["What is"])]
    assert stage.states() == ["waiting", "listening", "thinking", "speaking", "listening"]
    spoken = sum(round(len(text) * 0.06 / 0.1) * 0.1 for text in stage.voice.said)
    assert stage.loud_seconds() == pytest.approx(spoken, abs=1e-6)


@staged()
async def test_work_on_the_answer_begins_before_the_turn_is_over_and_nothing_of_it_is_played(stage):
    stage.mind.delay = stage.ears.delay = stage.voice.delay = 0.05
    await stage.microphone.say("What is", 0.8)
    await stage.microphone.quiet(0.36)
    assert stage.voice.begun and stage.feed.written == 0
    assert not [message for message in stage.messages("heard") if message["final"]]
    await stage.microphone.quiet(0.2)
    assert stage.feed.written > 0
    await stage.microphone.quiet(1)
    (timings,) = stage.messages("timings")
    assert timings["turn_end"] == pytest.approx(0.4, abs=0.05)
    # The end of the turn is all that is waited for.
    assert timings["written"] - timings["turn_end"] < 0.05
    assert timings["lips"] is None  # no page has told what it shows


@staged()
async def test_a_pause_within_a_turn_drops_the_work_and_both_parts_are_one_question(stage):
    await stage.microphone.say("What is", 0.6)
    await stage.microphone.quiet(0.25)
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(3)
    assert [asked[-1] for asked in stage.mind.asked] == [("user", "What is"), ("user", "What is the time")][
        -len(stage.mind.asked) :
    ]
    assert stage.history() == [("user", "What is the time"), ("assistant", "It is noon, I think.")]
    assert all("what" not in text for text in stage.voice.said)


@staged()
async def test_a_turn_that_goes_on_before_anything_was_heard_is_taken_back(stage):
    stage.mind.delay = 1.5
    await stage.microphone.say("What is", 0.6)
    await stage.microphone.quiet(0.7)  # over, and being thought about
    assert stage.states()[-1] == "thinking"
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(5)
    assert stage.history() == [("user", "What is the time"), ("assistant", "It is noon, I think.")]
    assert [m["text"] for m in stage.messages("heard") if m["final"]] == ["What is", "What is the time"]
    assert stage.mind.ended == 1 and stage.voice.begun == ["It is noon,", "I think."]


@staged()
async def test_a_turn_that_goes_on_while_its_words_are_still_unknown_is_taken_back(stage):
    stage.ears.delay = 1.0
    await stage.microphone.say("What is", 0.6)
    await stage.microphone.quiet(0.6)
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(5)
    assert stage.history() == [("user", "What is the time"), ("assistant", "It is noon, I think.")]
    assert len(stage.mind.asked) == 1


@staged()
async def test_a_cough_after_a_turn_does_not_lose_the_question(stage):
    stage.ears.delay = 1.0
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(0.6)
    await stage.microphone.say("(coughs)", 0.4)
    await stage.microphone.quiet(5)
    assert stage.history() == [("user", "the time"), ("assistant", "It is noon.")]


@staged()
async def test_an_interruption_stops_the_answer_and_only_what_was_heard_is_remembered(stage):
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 3)
    begun = stage.loop.time()
    await stage.microphone.say("Stop", 0.5)
    ducked = stage.when("duck", on=True) - begun
    stopped = stage.when("interrupted") - begun
    assert 0.08 <= ducked <= 0.12 and 0.25 <= stopped <= 0.3
    (interrupted,) = stage.messages("interrupted")
    assert interrupted["seconds"] <= interrupted["until"]
    await stage.microphone.quiet(4)
    assert [role for role, _ in stage.history()] == ["user", "assistant", "user", "assistant"]
    heard = stage.history()[1][1]
    assert LONG.startswith(heard) and 10 < len(heard) < 70
    assert stage.mind.asked[-1] == [("user", "Tell me"), ("assistant", heard), ("user", "Stop")]
    assert stage.messages("duck")[-1] == {"type": "duck", "on": False}
    assert stage.history()[-1] == ("assistant", "I am silent now.")


@pytest.mark.parametrize("noise", ["(coughs)", "Mhm.", ""])
def test_an_answer_goes_on_where_it_stopped_when_no_word_was_said(noise):
    async def main():
        async with on_stage(ANSWERS) as stage:
            stage.type("Tell me")
            await stage.until(lambda: stage.feed.heard_seconds > 3)
            await stage.microphone.say(noise, 0.35)
            await stage.microphone.quiet(0.6)
            assert len(stage.messages("interrupted")) == 1
            await stage.until(lambda: stage.history())
            assert stage.history() == [("user", "Tell me"), ("assistant", LONG)]
            whole = sum(round(len(text) * 0.06 / 0.1) * 0.1 for text in stage.voice.said)
            (void,) = stage.messages("interrupted")
            until = (stage.messages("void") or [void])[0]["until"]
            assert stage.loud_seconds() == pytest.approx(whole + until - void["seconds"], abs=0.02)

    run_virtually(main())


@staged()
async def test_a_noise_too_short_to_interrupt_makes_the_page_mute_for_a_moment_only(stage):
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 3)
    begun = stage.loop.time()
    await stage.microphone.say("(coughs)", 0.15)
    await stage.microphone.quiet(2)
    assert 0.08 < stage.when("duck", on=True) - begun <= 0.12
    assert stage.when("duck", on=False) - begun < 0.3
    assert len(stage.messages("duck")) == 2 and not stage.messages("interrupted")


@staged(block_seconds=0.38, player_seconds=0.3)
async def test_a_block_that_is_being_made_is_done_anew_in_silence_when_somebody_interrupts(stage):
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 3)
    taken = stage.feed.spoken_seconds
    await stage.until(lambda: stage.feed.spoken_seconds > taken)
    stage.talk.send(Hush())  # as the next block has been begun
    await stage.until(lambda: stage.messages("void"))
    (first,), (second,) = stage.messages("interrupted"), stage.messages("void")
    assert first["until"] - second["until"] == pytest.approx(BLOCK_SECONDS)
    asked = stage.loop.time()
    await stage.until(lambda: stage.shown[-1][1] >= second["until"])
    assert stage.loop.time() - asked < 0.38 + 0.3 + 0.05  # one block, and the player


@staged()
async def test_long_noise_without_words_loses_only_what_was_not_made_yet(stage):
    stage.mind.pace = 0.2
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 2.5)
    await stage.microphone.say("(coughs)", 1.5)
    await stage.microphone.quiet(6)
    (question, answer) = stage.history()
    assert question == ("user", "Tell me") and LONG.startswith(answer[1][:20])
    assert stage.states()[-1] == "listening"


@staged(manners=Manners(longest_pause=0.4, barge_in=False))
async def test_without_barge_in_an_answer_is_said_to_its_end(stage):
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 3)
    await stage.microphone.say("Stop", 0.6)
    await stage.microphone.quiet(12)
    assert stage.history() == [("user", "Tell me"), ("assistant", LONG)]
    assert stage.messages("interrupted") == stage.messages("duck") == []


@staged()
async def test_a_typed_message_interrupts_at_once(stage):
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 3)
    stage.type("Stop")
    await asyncio.sleep(0.01)
    assert len(stage.messages("interrupted")) == 1
    await stage.until(lambda: len(stage.history()) == 4)
    assert stage.history()[2:] == [("user", "Stop"), ("assistant", "I am silent now.")]


@staged(ears=False)
async def test_without_ears_messages_are_typed_and_the_microphone_is_not_listened_to(stage):
    await stage.microphone.say("Stop", 0.5)
    await stage.microphone.quiet(1)
    assert stage.ears.asked == 0
    stage.type("the time")
    await stage.until(lambda: stage.history())
    assert stage.states() == ["waiting", "thinking", "speaking", "waiting"]


@staged()
async def test_stop_talking_keeps_what_was_heard_and_the_conversation_goes_on(stage):
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 3)
    stage.talk.send(Hush())
    await asyncio.sleep(0.05)
    assert stage.feed.waiting_seconds == 0 and stage.states()[-1] == "listening"
    assert stage.history()[0] == ("user", "Tell me") and LONG.startswith(stage.history()[1][1])
    stage.type("the time")
    await stage.until(lambda: len(stage.history()) == 4)


@staged()
async def test_stop_talking_drops_a_question_whose_words_are_not_known_yet(stage):
    stage.ears.delay = 1.0
    await stage.microphone.say("What is", 0.6)
    await stage.microphone.quiet(0.6)
    assert stage.states()[-1] == "thinking"
    stage.talk.send(Hush())
    await stage.microphone.quiet(3)
    assert stage.history() == [] and stage.states()[-1] == "listening" and stage.feed.written == 0
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(5)
    assert stage.history() == [("user", "the time"), ("assistant", "It is noon.")]


@staged(manners=Manners(push_to_talk=True))
async def test_push_to_talk_hears_only_while_the_key_is_down(stage):
    await stage.microphone.say("Stop", 0.5)
    assert stage.ears.asked == 0 and stage.states()[-1] == "waiting"
    stage.talk.send(Held(True))
    await stage.microphone.say("What is", 0.6)
    await stage.microphone.quiet(1.0)  # thinking about what to say
    await stage.microphone.say("the time", 0.6)
    stage.talk.send(Held(False))
    await stage.until(lambda: stage.history())
    assert stage.history()[0] == ("user", "What is the time")


@staged(manners=Manners(push_to_talk=True))
async def test_a_key_without_words_lets_the_answer_go_on(stage):
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 3)
    stage.talk.send(Held(True))
    await stage.microphone.quiet(0.4)
    assert stage.states()[-1] == "listening"
    stage.talk.send(Held(False))
    await stage.until(lambda: stage.history())
    assert stage.history() == [("user", "Tell me"), ("assistant", LONG)]


@staged(manners=Manners(greeting="Hello, who is there?"))
async def test_the_greeting_comes_first_and_is_remembered(stage):
    await stage.until(lambda: stage.history())
    assert stage.history() == [("assistant", "Hello, who is there?")]
    assert stage.mind.asked == []


@staged(manners=Manners(longest_pause=0.4, filler=(torch.full((4800,), 0.1), 24_000)))
async def test_a_filler_is_heard_while_the_answer_is_not_there_and_is_not_remembered(stage):
    stage.mind.delay = 2.0
    stage.type("the time")
    await stage.until(lambda: stage.history())
    assert stage.history() == [("user", "the time"), ("assistant", "It is noon.")]
    values = torch.cat(stage.video)
    assert (values == 0.1).sum() == 4800 and (values == 0.25).any()
    assert (values == 0.1).nonzero()[-1] < (values == 0.25).nonzero()[0]
    (timings,) = stage.messages("timings")
    assert timings["block"] >= timings["written"] >= 2.0  # of the answer itself


@staged(finished=lambda sound: 0.9)
async def test_a_turn_that_sounds_finished_ends_after_the_short_pause(stage):
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(3)
    (timings,) = stage.messages("timings")
    assert timings["turn_end"] == pytest.approx(0.2, abs=0.05)


@staged()
async def test_lips_move_when_the_page_has_shown_the_block(stage):
    async def page():
        while True:
            await asyncio.sleep(0.1)
            stage.talk.send(Played(max(0.0, stage.feed.heard_seconds - 0.3)))

    showing = asyncio.create_task(page())
    await asyncio.sleep(0.5)
    stage.type("the time")
    await stage.until(lambda: stage.messages("timings"))
    showing.cancel()
    (timings,) = stage.messages("timings")
    parts = [timings[part] for part in ("turn_end", "ears", "mind", "voice", "written", "block", "lips")]
    assert parts == sorted(parts) and parts[-1] > parts[-2] + 0.2


@staged()
async def test_errors_become_a_sentence_and_the_next_question_is_answered(stage):
    stage.mind.fails = "Start the language model: nothing answers."
    stage.type("Tell me")
    await stage.until(lambda: stage.errors)
    assert stage.messages("error") == [{"type": "error", "message": stage.mind.fails}]
    await stage.until(lambda: stage.states()[-1] == "listening")
    assert stage.history()[0] == ("user", "Tell me") and LONG.startswith(stage.history()[1][1])
    stage.mind.fails = None
    stage.ears.fails = "Start the ears: nothing answers."
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(1)
    assert stage.errors[-1] == stage.ears.fails and stage.states()[-1] == "listening"
    stage.ears.fails = None
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(4)
    assert stage.history()[-1] == ("assistant", "It is noon.")


@staged()
async def test_an_answer_that_failed_before_its_first_word_leaves_nothing_behind(stage):
    def broken(lines):
        raise ValueError("a fault")

    answer, stage.mind.answer = stage.mind.answer, broken
    stage.type("the time")
    await stage.until(lambda: stage.errors)
    assert "Ask again" in stage.errors[0]
    await stage.until(lambda: stage.states()[-1] == "listening")
    stage.mind.answer = answer
    stage.type("Stop")
    await stage.until(lambda: stage.history())
    assert stage.mind.asked[-1] == [("user", "Stop")]


@staged()
async def test_ears_that_break_lose_one_question_only(stage):
    async def broken(sound):
        raise RuntimeError("out of memory")

    transcribe, stage.ears.transcribe = stage.ears.transcribe, broken
    await stage.microphone.say("What is", 0.6)
    await stage.microphone.quiet(1)
    assert stage.errors == ["Ask again: this answer has failed (RuntimeError('out of memory'))."]
    assert stage.states()[-1] == "listening"
    stage.ears.transcribe = transcribe
    await stage.microphone.say("the time", 0.6)
    await stage.microphone.quiet(4)
    assert stage.history() == [("user", "the time"), ("assistant", "It is noon.")] and len(stage.errors) == 1


@staged()
async def test_the_end_lets_the_answer_be_said_and_the_video_end(stage):
    stage.type("the time")
    await stage.until(lambda: stage.feed.waiting_seconds > 0.3)
    stage.talk.send(End())
    await stage.until(lambda: stage.feed.take(1) is None)
    assert stage.loud_seconds() > 0.3


@staged()
async def test_after_the_end_nothing_interrupts_what_is_still_said(stage):
    stage.type("Tell me")
    await stage.until(lambda: stage.feed.heard_seconds > 2)
    stage.talk.send(End())
    await stage.microphone.say("Stop", 0.4)
    stage.talk.send(Hush())
    await stage.microphone.quiet(0.1)
    assert stage.errors == [] and stage.messages("interrupted") == []
    waiting = stage.feed.waiting_seconds
    assert waiting > 1
    await asyncio.sleep(waiting + 1)
    assert stage.feed.waiting_seconds == 0 and stage.states()[-1] == "listening"


@staged()
async def test_thirty_minutes_of_conversation_keep_no_more_than_their_words(stage):
    for _ in range(30):
        stage.type("the time")
        await asyncio.sleep(60)
    assert stage.loop.time() > 1800
    assert len(stage.history()) == 60
    tasks = [task for task in asyncio.all_tasks() if not task.done()]
    assert len(tasks) < 8
    assert len(stage.feed._waiting) == 0 and stage.talk._reply is None and stage.talk._unfinished == ()
