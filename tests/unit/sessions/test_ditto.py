"""Videos of a tiny Ditto without a host: length, repetition, resumption, live speech, and what goes wrong."""

from __future__ import annotations

import itertools

import pytest
import torch
from avatar.engines.ditto.blinks import Blinks
from avatar.engines.ditto.conditions import Conditions, emotion_mix, emotion_row
from avatar.engines.ditto.config import EMOTIONS
from avatar.loaders.ditto.files import DittoFiles
from avatar.loaders.ditto.host_objects import open_ditto
from avatar.media.recording import Snapshots, record
from avatar.media.speech import LiveSpeech, Speech
from avatar.media.speech_feed import SpeechFeed
from avatar.media.writer import VideoWriter
from avatar.sessions.ditto import Inputs, PassState, open_video
from avatar.sessions.ditto_look import Look, performance, read_mix
from safetensors.torch import save_file

from .ditto_models import portrait, tiny

RATE = 16_000


def said(seconds, silent=False):
    random = torch.Generator().manual_seed(1)
    sound = torch.rand(round(seconds * RATE), generator=random) - 0.5
    return Speech.of([{"waveform": (sound * (not silent))[None, None], "sample_rate": RATE}])


def video(speech, look=None, **options):
    inputs = Inputs(tiny(), portrait(), speech, look or Look())
    return open_video(inputs, **{"steps": 2, **options})


def frames(stream, state=None):
    return torch.cat(list(stream.blocks(state)))


@pytest.mark.parametrize(("seconds", "count"), [(0.1, 3), (0.5, 13), (4.0, 100)])
def test_a_video_is_as_long_as_its_sound(seconds, count):
    stream = video(said(seconds))
    assert (stream.frames, stream.height, stream.width, stream.fps) == (count, 200, 300, 25)
    assert frames(stream).shape == (count, 200, 300, 3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cpu_that_is_to_draw_in_half_precision_is_refused_before_files_are_read(dtype):
    nothing = DittoFiles({}, None, {}, None)
    with pytest.raises(ValueError, match="Choose 'auto' or 'fp32' as precision"):
        open_ditto(nothing, dtype, torch.device("cpu"))


def test_silence_makes_a_video_too():
    assert len(frames(video(said(0.5, silent=True)))) == 13


def test_max_seconds_ends_picture_and_sound():
    stream = video(said(2), max_seconds=0.4)
    assert stream.frames == 10 and len(frames(stream)) == 10
    assert stream.audio["waveform"].shape[-1] == 0.4 * RATE


def test_a_stream_can_be_read_again_and_a_seed_decides():
    speech = said(0.4)
    stream = video(speech, seed=3)
    first = frames(stream)
    assert torch.equal(frames(stream), first)
    assert not torch.equal(frames(video(speech, seed=4)), first)


def test_the_picture_outside_the_square_stays():
    made = frames(video(said(0.2)))
    assert torch.equal(made[0, 0, 0], portrait().pictures[0][0][0, 0])
    assert not torch.equal(made[0], portrait().pictures[0][0])


def test_a_pass_goes_on_where_another_ended(tmp_path):
    stream = video(said(4))
    whole = list(stream.blocks())
    fingerprint = stream.resumable.fingerprint()
    state = stream.resumable.state(None, fingerprint)
    for _ in itertools.islice(stream.blocks(state), 17):
        pass
    path = tmp_path / "state.safetensors"
    state.save(path)
    later = video(said(4))
    assert later.resumable.fingerprint() == fingerprint
    state = later.resumable.state(path, fingerprint)
    assert state.first_frame == sum(map(len, whole[:17]))
    assert torch.equal(frames(later, state), torch.cat(whole[17:]))


def test_a_stopped_video_is_written_to_its_end(tmp_path):
    stream, speech = video(said(1.2)), said(1.2)
    fingerprint = stream.resumable.fingerprint()
    options = {"width": 300, "height": 200, "audio": speech.audio, "fingerprint": fingerprint}

    class Stop(Exception):
        pass

    with pytest.raises(Stop), VideoWriter(tmp_path / "a.mp4", **options) as writer:
        snapshots = Snapshots(writer.path, 1 << 30, clock=itertools.count(0, 100).__next__)
        for reached, _ in record(stream, writer, snapshots):
            if reached == 20:
                raise Stop
    again = video(speech)
    with VideoWriter(tmp_path / "a.mp4", **options) as writer:
        assert writer.frames_written == 20
        made = [len(block) for _, block in record(again, writer, Snapshots(writer.path, 1 << 30))]
        assert sum(made) == 25  # a snapshot was due behind the first block
    assert writer.frames_written == 30


def test_another_seed_speech_or_look_is_another_video():
    prints = [
        stream.resumable.fingerprint()
        for stream in (
            video(said(0.4)),
            video(said(0.4), seed=1),
            video(said(0.44)),
            video(said(0.4), steps=3),
            video(said(0.4), Look(mouth=1.5)),
        )
    ]
    assert len(set(prints)) == len(prints)
    speech = said(0.4)
    before = video(speech).resumable.fingerprint()
    frames(video(speech))  # what was heard is remembered from now on
    assert video(speech).resumable.fingerprint() == before


def test_a_snapshot_of_another_video_or_a_damaged_one_is_refused(tmp_path):
    path = tmp_path / "state.safetensors"
    save_file({"frames": torch.tensor(5)}, path, {"fingerprint": "other"})
    with pytest.raises(ValueError, match="is of another video"):
        PassState(path, "mine")
    path.write_bytes(b"half")
    with pytest.raises(ValueError, match="is damaged"):
        PassState(path, "mine")


class Clock:
    now = 0.0

    def __call__(self):
        self.now += 0.05
        return self.now


def live(seconds, **options):
    feed = SpeechFeed(RATE, clock=Clock())
    feed.wait = lambda seconds: None
    feed.write(said(seconds).audio["waveform"][0, 0], RATE)
    feed.end()
    return LiveSpeech(feed, **options)


def test_live_speech_is_followed_and_ends_with_it():
    speech = live(1.0)
    stream = video(speech)
    assert stream.live and stream.audio is speech.feed
    made = [len(block) for block in stream.blocks()]
    assert max(made) == 5 and 25 <= sum(made) <= 30
    assert speech.feed.closed


def test_the_first_live_frames_need_little_of_the_speech():
    feed = SpeechFeed(RATE, clock=Clock())
    feed.wait = lambda seconds: None
    feed.write(said(0.6).audio["waveform"][0, 0], RATE)
    with torch.inference_mode():
        first = next(iter(video(LiveSpeech(feed)).blocks()))
    assert len(first) == 5


def test_live_speech_asks_for_emotions_by_name(monkeypatch):
    seen, condition = [], Conditions.__call__

    def noted(self, speech, first):
        rows = condition(self, speech, first)
        seen.extend((first + i, int(row[1024:1032].argmax())) for i, row in enumerate(rows))
        return rows

    monkeypatch.setattr(Conditions, "__call__", noted)
    feed = SpeechFeed(RATE, clock=Clock())
    feed.wait = lambda seconds: None
    stream = video(LiveSpeech(feed), Look("sad"))
    assert set(feed.moods) == set(EMOTIONS)
    sound = said(0.4).audio["waveform"][0, 0]
    for mood in ("", "happy", "neutral"):
        feed.write(sound, RATE, mood=mood)
    with pytest.raises(ValueError, match="Choose a mood of neutral, angry"):
        feed.write(sound, RATE, mood="bored")
    feed.end()
    frames(stream)
    sad, happy = EMOTIONS.index("sad"), EMOTIONS.index("happy")
    moods = {frame: mood for frame, mood in seen if 0 <= frame < 30 and mood != EMOTIONS.index("neutral")}
    assert [moods[frame] for frame in range(30)] == [sad] * 10 + [happy] * 10 + [sad] * 10


def test_live_speech_has_its_own_limit():
    with pytest.raises(ValueError, match="Set max_seconds of Ditto Animate to 0"):
        video(live(1.0), max_seconds=1.0)
    stream = video(live(2.0, max_seconds=0.6))
    assert sum(len(block) for block in stream.blocks()) == 15


def test_an_interrupt_stops_within_a_step():
    class Stop(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 30:
            raise Stop

    with pytest.raises(Stop):
        frames(video(said(4), steps=50, check_interrupt=check))
    assert len(calls) == 30


def test_graphs_without_a_gpu_are_refused_before_anything_is_loaded():
    with pytest.raises(ValueError, match="'CUDA graphs' needs an NVIDIA GPU; choose 'plain'"):
        video(said(0.2), speed="CUDA graphs")


def test_full_memory_says_what_helps(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tiny().engine, "paint", full)
    with pytest.raises(torch.OutOfMemoryError, match=r"max_size of Ditto Portrait lower.* 2\.0 GB .*300x200"):
        frames(video(said(0.2)))


def test_a_still_look_keeps_the_head_and_the_lids():
    quiet = performance(Look(head=0, blinks="never"), None, still=True, frames=50)
    assert quiet.driving.gains == {"expression": 1.0, "pitch": 0, "yaw": 0, "roll": 0, "translation": 0}
    assert isinstance(quiet.blinks, Blinks) and not quiet.blinks.rows.any()
    assert performance(Look(blinks="with the speech"), None, still=True, frames=50).blinks is None


def test_blinks_need_no_published_settings_and_shut_the_eyes():
    blinks = performance(Look(), None, still=True, frames=300).blinks
    shut = blinks.table[:, 3 * 11 + 1]  # the height of an upper lid, downwards
    assert shut[0] == 0 and shut.max() == pytest.approx(0.02, rel=0.02)
    assert blinks.rows.any()


def test_an_emotion_counts_from_a_neutral_start_and_may_be_weak():
    happy = EMOTIONS.index("happy")
    full, half = (performance(Look("happy", share), None, still=True, frames=50) for share in (1.0, 0.5))
    assert full.neutral_origin and full.emotions.argmax() == happy
    assert 0.4 < half.emotions[0, happy] < 0.6
    assert not performance(Look("neutral"), None, still=True, frames=50).neutral_origin


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("happy 0.7, surprise 0.3", {"happy": 0.7, "surprise": 0.3}),
        ("3 0.7, 6: 0.3", {"happy": 0.7, "surprise": 0.3}),
        (" Sad=2 ,contempt .5,", {"sad": 2, "contempt": 0.5}),
        ("angry, fear", {"angry": 1, "fear": 1}),
        ("", {}),
    ],
)
def test_a_mix_is_read_by_names_or_numbers(text, weights):
    assert read_mix(text) == (tuple(weights.get(name, 0) for name in EMOTIONS) if weights else ())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("happy 0.7 surprise 0.3", "'happy 0.7 surprise 0.3' is none"),
        ("bored 1", "'bored 1' is none"),
        ("8 1", "'8 1' is none"),
        ("happy -1", "'happy -1' is none"),
        ("happy nan", "'happy nan' is none"),
        ("happy 1e9", "'happy 1e9' is none"),
        ("happy 1, 3 1", "happy is there twice"),
        ("happy 0, sad 0", "all are 0"),
    ],
)
def test_a_mix_that_cannot_be_read_is_refused_in_one_sentence(text, fault):
    with pytest.raises(ValueError, match=fault):
        read_mix(text)


def test_a_mix_has_its_emotions_in_their_parts_and_takes_the_place_of_one():
    happy, sad, surprise = (EMOTIONS.index(name) for name in ("happy", "sad", "surprise"))
    mixed = performance(Look("sad", mix=read_mix("happy 3, surprise 1")), None, still=True, frames=50)
    row = mixed.emotions[0]
    assert mixed.neutral_origin and row.sum() == pytest.approx(1)
    assert row[happy] / row[surprise] == pytest.approx(3, rel=0.01)
    assert row[sad] < 1e-3
    weak = performance(Look(share=0.5, mix=read_mix("happy")), None, still=True, frames=50)
    assert 0.4 < weak.emotions[0, happy] < 0.6
    prints = {
        video(said(0.4), Look(mix=read_mix(text))).resumable.fingerprint() for text in ("3", "3, 6", "")
    }
    assert len(prints) == 3


def test_equal_weights_are_the_mix_of_the_reference():
    for labels in ([3], [0, 6], [1, 2, 5, 7], list(range(8))):
        weights = [0.25 * (label in labels) for label in range(8)]
        assert torch.allclose(emotion_mix(weights), emotion_row(labels), atol=1e-7, rtol=1e-5)


@pytest.mark.parametrize(
    "weights", [[1] * 7, [0] * 8, [-1] + [1] * 7, [float("nan")] * 8, [float("inf")] * 8]
)
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="Give 8 weights"):
        emotion_mix(weights)


def test_a_natural_emotion_is_that_of_the_published_settings():
    settings = tiny().settings
    assert torch.equal(performance(Look(), settings, still=True, frames=5).emotions, settings.emotions)
    assert performance(Look(), None, still=True, frames=5).emotions.argmax() == EMOTIONS.index("neutral")


def test_the_gaze_shifts_the_lids_points_the_right_way():
    controls = performance(Look(gaze_right=10, gaze_up=10), None, still=True, frames=5).controls(0, 5)
    shift = controls.expression.view(21, 3)
    assert (shift[[11, 15], 0] > 0).all() and (shift[[11, 15], 1] < 0).all()
    assert performance(Look(), None, still=True, frames=5).controls(0, 5).expression is None


def test_unknown_words_are_refused():
    with pytest.raises(ValueError, match="Choose emotion from natural, neutral"):
        Look("bored")
