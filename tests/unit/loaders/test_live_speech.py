"""Live speech as blocks of features, and its sound in the video."""

from __future__ import annotations

import itertools

import av
import numpy as np
import pytest
import torch
from avatar.engines.liveavatar.speech_timing import frame_features
from avatar.loaders.liveavatar.live_speech import CONTEXT_BLOCKS, LiveSource
from avatar.loaders.liveavatar.speech import listen
from avatar.media.audio import resample
from avatar.media.fragments import _Live
from avatar.media.frames import AvatarStream, FrameStream
from avatar.media.speech import LiveSpeech, Speech
from avatar.media.speech_feed import SpeechFeed
from avatar.media.writer import VideoWriter

from tests.unit.loaders.test_speech import LAYERS, Loudness

RATE = 24_000


class Clock:
    """A clock that goes on by itself whenever it is looked at."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 0.05
        return self.now


def live(feed: SpeechFeed, check_interrupt=lambda: None, **options) -> LiveSource:
    feed.wait = lambda seconds: None
    return listen(LiveSpeech(feed, encoder=Loudness(), **options), check_interrupt)


def noise(seconds: float, rate: int = RATE) -> torch.Tensor:
    return torch.rand(round(seconds * rate), generator=torch.Generator().manual_seed(1)) - 0.5


def test_live_features_are_those_of_the_finished_speech_where_context_does_not_matter():
    sound = noise(15)
    feed = SpeechFeed(RATE, clock=Clock())
    feed.write(sound, RATE)
    feed.end()
    blocks = list(live(feed).blocks())
    whole = Speech.of([{"waveform": sound[None, None], "sample_rate": RATE}], Loudness())
    track = listen(whole).tracks[0]
    assert len(blocks) == 33  # 15.12 s of them, and one in which the mouth closes
    assert {tuple(block.shape) for block in blocks} == {(1, LAYERS, 1, 12)}
    for number in (0, 1, 20, 30):
        # The finished track is stretched by up to 13 ms, so that its last feature keeps its place.
        expected = frame_features(track, 12 * number, 12)
        assert (blocks[number][0] - expected).abs().mean() < 0.1 * expected.mean()
    assert (blocks[-1] == 0).all()


def test_the_encoder_hears_a_few_seconds_of_the_past_and_what_waits():
    feed = SpeechFeed(RATE, clock=Clock())
    feed.write(noise(30), RATE)
    source = live(feed)
    list(itertools.islice(source.blocks(), 40))
    assert source.speech.encoder.longest == CONTEXT_BLOCKS * 7680 + 16000


def test_without_speech_there_is_silence_until_the_longest_time():
    feed = SpeechFeed(RATE, clock=Clock())
    blocks = list(live(feed, max_seconds=3).blocks())
    assert len(blocks) == 6 and all((block == 0).all() for block in blocks)
    assert feed.spoken_seconds == pytest.approx(6 * 0.48 - 0.12)
    assert feed.ready == float("inf") and feed.closed


def test_an_interrupt_also_stops_the_waiting():
    class Still(Clock):
        def __call__(self):
            return 5.0

    checks = []

    def check():
        checks.append(1)
        if len(checks) == 9:
            raise InterruptedError

    feed = SpeechFeed(RATE, clock=Still())
    blocks = live(feed, check_interrupt=check).blocks()
    next(blocks)
    with pytest.raises(InterruptedError):
        next(blocks)
    assert feed.closed


def test_abandoning_closes_the_feed_and_it_cannot_be_heard_again():
    feed = SpeechFeed(RATE, clock=Clock())
    source = live(feed)
    blocks = source.blocks()
    next(blocks)
    blocks.close()
    assert feed.closed
    for later in (source, listen(source.speech)):
        with pytest.raises(RuntimeError, match="Run the workflow again"):
            next(later.blocks())


def test_sound_is_fetched_while_waiting():
    feed = SpeechFeed(RATE, clock=Clock())
    polls = []

    def poll():
        polls.append(1)
        if len(polls) == 4:
            feed.write(noise(0.48) + 2, RATE)
            feed.end()

    blocks = list(live(feed, poll=poll).blocks())
    assert [bool(block.max() > 1) for block in blocks] == [False, True, False]


def test_other_consumers_say_that_the_length_is_unknown():
    stream = AvatarStream(lambda: iter(()), frames=None, width=16, height=16)
    assert stream.live and list(stream.blocks()) == []
    with pytest.raises(ValueError, match="nobody knows its length"):
        len(FrameStream(stream))


@pytest.mark.parametrize("rate", [8000, 22_050, 48_000])
def test_the_videos_sound_is_what_was_fed_in_step_with_the_picture(tmp_path, rate):
    """Speech, silence and speech again; every block is white where its sound is loud."""
    clock = Clock()
    feed = SpeechFeed(rate, clock=clock)
    time = torch.arange(2 * rate) / rate
    feed.write(0.5 * torch.sin(2 * torch.pi * 440 * time), rate)
    fed, take = [], feed.take
    feed.take = lambda size: fed.append(take(size)) or fed[-1]

    def poll():
        if feed.spoken_seconds > 4 and not feed.ended:
            feed.write(0.5 * torch.sin(2 * torch.pi * 440 * time[: rate // 2]), rate)
            feed.end()

    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=32, height=32, audio=feed) as writer:
        for number, features in enumerate(live(feed, poll=poll).blocks()):
            shade = (features[0, 0, 0, -9 if number == 0 else -12 :] * 255).clamp(0, 255).to(torch.uint8)
            writer.write(shade[:, None, None, None].expand(-1, 32, 32, 3))
    fed = torch.cat([piece for piece in fed if isinstance(piece, torch.Tensor)])
    with av.open(str(path)) as container:
        sound, pictures, start = [], [], None
        for frame in container.decode(*container.streams):
            if isinstance(frame, av.AudioFrame):
                start = frame.time if start is None else start
                sound.append(frame.to_ndarray()[0])
            else:
                pictures.append(frame.to_ndarray(format="gray").mean())
        assert container.streams.audio[0].rate == 48_000, "live sound is kept at AAC's own rate"
    sound = resample(torch.from_numpy(np.concatenate(sound))[None], 48_000, rate)[0]
    assert start == 0
    assert len(pictures) == round(len(fed) / rate * 25)
    assert abs(len(sound) - len(fed)) <= 1024
    together = min(len(sound), len(fed))
    assert (sound[:together] - fed[:together]).square().mean().sqrt() < 0.02
    loud = fed[: len(pictures) * rate // 25].reshape(len(pictures), -1).abs().amax(1) > 0.2
    assert ((torch.tensor(pictures) > 60) == loud).float().mean() > 0.95
    assert 40 < loud.sum() < len(loud) - 40


def test_a_block_that_was_taken_back_sounds_as_if_its_speech_had_been_there_before():
    class Still(Clock):
        def __call__(self):
            return self.now

    def heard(late: bool) -> list[torch.Tensor]:
        feed = SpeechFeed(RATE, clock=Still())
        source, waits = live(feed), []
        blocks = source.blocks()
        found = []
        for number in range(6):
            feed._clock.now += 0.48
            if number == 3 and not late:
                feed.write(noise(0.9), RATE)
            found.append(next(blocks))
            if number == 3 and late:
                assert not source.take_back(lambda: waits.append(1))
                feed.write(noise(0.9), RATE)
                assert source.take_back(lambda: waits.append(1)) and len(waits) == 2
                found[-1] = next(blocks)
            elif number == 4:
                assert not source.take_back(lambda: waits.append(1))
        assert feed.spoken_seconds == pytest.approx(6 * 0.48 - 0.12)
        return found

    for one, other in zip(heard(False), heard(True), strict=True):
        assert torch.equal(one, other)


def test_a_block_whose_speech_was_called_off_is_done_anew_in_silence():
    feed = SpeechFeed(RATE, lead_seconds=0.1, clock=lambda: 0.0)
    source, waits = live(feed), []
    feed.write(noise(0.9), RATE)
    blocks = source.blocks()
    loud = next(blocks)
    assert not source.take_back(lambda: waits.append(1))
    feed.write(torch.zeros(0), RATE, replace=True)
    assert source.take_back(lambda: waits.append(1)) and len(waits) == 2
    silent = next(blocks)
    still = next(live(SpeechFeed(RATE, clock=lambda: 0.0)).blocks())
    assert not torch.equal(silent, loud) and feed.spoken_seconds == pytest.approx(0.36)
    torch.testing.assert_close(silent, still)


def test_sound_of_silence_that_nobody_has_seen_is_not_written_into_the_video():
    feed = SpeechFeed(48_000, clock=lambda: 0.0)
    source, written = _Live(feed), []
    feed.take(4800)
    written.append(source.ready(4800))  # its frames are done
    feed._heard_until = 0.0
    feed.take(4800)
    written.append(source.ready(4800))  # the next ones are on their way
    feed.write(torch.ones(4800), 48_000)
    assert feed.take_back()
    block = feed.take(4800)
    written.append(source.ready(9600))
    assert written == [4800, 4800, 9600]
    assert torch.equal(source.read(4800, 9600)[0], block) and block.all()
