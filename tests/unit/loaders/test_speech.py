"""Speech in step with the video: pre-roll, lengths, rates, several speakers."""

from __future__ import annotations

import math
import weakref
from dataclasses import replace
from itertools import islice

import pytest
import torch
from avatar.engines.liveavatar.speech_timing import (
    feature_track,
    frame_features,
    frame_indices,
    track_blocks,
    track_parts,
)
from avatar.loaders.liveavatar.speech import WindowedSource, check_encoder, listen, video_frames
from avatar.loaders.wan.wav2vec2 import AudioEncoder
from avatar.loaders.wan.wav2vec2_windows import hidden_state_windows, loudness
from avatar.media.audio import pad, to_mono
from avatar.media.speech import Speech
from torch.nn.functional import interpolate
from torch.utils._python_dispatch import TorchDispatchMode

from tools.tiny_checkpoint import AUDIO_DIM, write_audio_encoder

LAYERS = 25


class Loudness:
    """An encoder whose every feature is the loudest sample of its frame."""

    def __init__(self, width: int = 1, dtype: torch.dtype = torch.float32) -> None:
        self.width, self.dtype = width, dtype
        self.longest = self.calls = 0

    def encode_audio(self, audio, sample_rate):
        assert sample_rate == 16000 and audio.shape[:2] == (1, 1)
        self.calls += 1
        self.longest = max(self.longest, audio.shape[-1])
        loudest = audio[0].abs().unfold(-1, 400, 320).amax(-1)[..., None]
        layer = loudest.to(self.dtype).expand(-1, -1, self.width)
        return {"encoded_audio_all_layers": [layer] * LAYERS}


def silence(seconds: float, rate: int = 16000, channels: int = 1) -> dict:
    return {"waveform": torch.zeros(1, channels, round(seconds * rate)), "sample_rate": rate}


def constant(seconds: float, rate: int = 16000, channels: int = 1) -> dict:
    audio = silence(seconds, rate, channels)
    audio["waveform"] += 0.5
    return audio


def block_count(speech: Speech) -> int:
    """How many blocks the video of a speech has."""
    return -(-(video_frames(speech.seconds) + 3) // 12)


def heard(speech: Speech, speaker: int = 0) -> torch.Tensor:
    """The first layer's first feature of every generated frame, the pre-roll included."""
    blocks = islice(listen(speech).blocks(), block_count(speech))
    return torch.cat([features[speaker, 0, 0] for features in blocks])


@pytest.mark.parametrize(
    ("samples", "rate"),
    [(16000, 16000), (1, 16000), (640, 16000), (641, 16000), (44100, 44100), (96001, 96000)],
)
def test_the_video_shows_all_of_the_sound(samples, rate):
    frames = max(1, math.ceil(25 * samples / rate))
    assert video_frames(samples / rate) == frames
    assert video_frames(Speech.of([constant(samples / rate, rate)]).seconds) == frames


@pytest.mark.parametrize("rate", [8000, 16000, 44101])
@pytest.mark.parametrize("frame", [0, 1, 7, 8, 9, 20, 50, 99])
def test_a_sound_is_heard_by_the_frame_that_shows_it(rate, frame):
    audio = silence(12, rate)
    audio["waveform"][..., frame * rate // 25 : (frame + 1) * rate // 25] = 0.5
    features = heard(Speech.of([audio], Loudness()))
    # The pre-roll, the first three of the generated frames, is not shown.
    assert (features > 0.4).nonzero().flatten().tolist() == [frame + 3]


def test_the_pre_roll_is_silent_and_the_sound_lasts_to_the_last_frame():
    features = heard(Speech.of([constant(3.0)], Loudness()))
    assert (features[:3] == 0).all()
    assert (features[4:78] > 0.49).all()


def test_every_generated_frame_has_features_though_the_last_block_is_longer_than_the_sound():
    for seconds in (0.1, 0.36, 0.37, 3.0, 10.03):
        speech = Speech.of([constant(seconds)], Loudness())
        needed = block_count(speech) * 12
        assert listen(speech).tracks[0].shape[1] > round((needed - 1) * 1.2)


def test_two_speakers_start_together_and_the_shorter_one_falls_silent():
    first, second = constant(1.0, 8000), constant(3.0, 48000, channels=2)
    speech = Speech.of([first, second], Loudness())
    one, two = listen(speech).tracks
    assert one.shape == two.shape
    one, two = heard(speech, 0), heard(speech, 1)
    assert one[5] > 0.49 and two[5] > 0.49
    assert one[30:].max() < 0.01 and two[77] > 0.49


@pytest.mark.parametrize(
    "audio",
    [silence(1.0), silence(0.1), constant(0.1, 8000), constant(0.5, 96000, channels=2)],
    ids=["silence", "0.1 s of silence", "0.1 s at 8 kHz", "96 kHz stereo"],
)
def test_unusual_sounds_give_finite_features(tmp_path_factory, audio):
    folder = tmp_path_factory.mktemp("wav2vec2")
    write_audio_encoder(folder)
    track = listen(Speech.of([audio], AudioEncoder.from_folder(folder))).tracks[0]
    assert track.shape[::2] == (LAYERS, AUDIO_DIM)
    assert torch.isfinite(track.float()).all()


def minutes(count: float) -> dict:
    return silence(60 * count, 8000)


@pytest.mark.parametrize("audios", [[silence(1.0)], [silence(1.0), silence(0.5)], [minutes(2)]])
def test_a_speech_is_listened_to_once_also_with_other_masks(audios):
    encoder, said = Loudness(), []
    speech = Speech.of(audios, encoder)
    first = listen(speech, say=said.append)
    calls = encoder.calls
    again = listen(replace(speech, masks=torch.ones(2, 1, 8, 8)), say=said.append)
    assert calls == encoder.calls > 0 and len(said) == 1
    assert torch.equal(next(first.blocks()), next(again.blocks()))


def test_listening_that_was_interrupted_begins_anew():
    def stop():
        raise InterruptedError

    speech = Speech.of([silence(1.0)], Loudness())
    with pytest.raises(InterruptedError):
        listen(speech, stop)
    assert speech.encoder.calls == 0 and listen(speech).speakers == 1


def test_the_next_video_of_long_speech_is_stopped_by_its_own_interrupt():
    def stop():
        raise InterruptedError

    speech = Speech.of([minutes(2)], Loudness())
    listen(speech)
    with pytest.raises(InterruptedError):
        next(listen(speech, stop).blocks())
    next(listen(speech).blocks())


class OtherLayers(Loudness):
    """An encoder with fewer layers than the model mixes."""

    def encode_audio(self, audio, sample_rate):
        return {
            "encoded_audio_all_layers": super().encode_audio(audio, sample_rate)["encoded_audio_all_layers"][
                :13
            ]
        }


@pytest.mark.parametrize("hear", [check_encoder, listen])
def test_what_cannot_hear_for_the_model_is_refused(hear):
    with pytest.raises(ValueError, match=r"^Connect wav2vec2-large-xlsr-53-english as the audio encoder"):
        hear(Speech.of([silence(1.0)]))
    with pytest.raises(ValueError, match=r"^This audio encoder gives 13 layers .* load wav2vec2-large"):
        hear(Speech.of([silence(1.0)], OtherLayers()))


def test_an_encoder_is_checked_on_a_single_frame_however_long_the_speech_is():
    speech = Speech.of([silence(30)], Loudness())
    check_encoder(speech)
    assert speech.encoder.longest == 400 and not speech.heard


class Context(Loudness):
    """An encoder that hears its whole window, so that it matters which windows there are."""

    def encode_audio(self, audio, sample_rate):
        layers = super().encode_audio(audio, sample_rate)["encoded_audio_all_layers"]
        return {"encoded_audio_all_layers": [layer + audio.std(correction=0) for layer in layers]}


def long_sound(seconds: float, rate: int, channels: int, seed: int = 0) -> dict:
    noise = torch.rand(1, channels, round(seconds * rate), generator=torch.Generator().manual_seed(seed))
    return {"waveform": noise - 0.5, "sample_rate": rate}


def whole_track(encoder, audio: dict, total: float) -> torch.Tensor:
    """The track of the whole sound, made from all windows at once."""
    waveform = to_mono(pad(audio, 0.12, total - 0.12 - audio["waveform"].shape[-1] / audio["sample_rate"]))

    def read(start, stop):
        return waveform[start:stop]

    statistics = loudness(read, len(waveform), lambda: None)
    windows = hidden_state_windows(encoder, read, len(waveform), statistics)
    return feature_track(torch.cat([piece for _, piece in windows], dim=1))


@pytest.mark.parametrize("rates", [(8000,), (44100,), (16000, 22050)])
def test_long_speech_has_the_same_features_as_if_it_were_encoded_first(rates):
    audios = [long_sound(150 - 40 * i, rate, 1 + i, seed=i) for i, rate in enumerate(rates)]
    speech = Speech.of(audios, Context(2))
    source = listen(speech)
    assert isinstance(source, WindowedSource)
    blocks = block_count(speech)
    total = blocks * 12 / 25 + 0.2
    expected = torch.stack(
        [frame_features(whole_track(Context(2), audio, total), 0, 12 * blocks) for audio in audios]
    )
    found = torch.cat(list(islice(source.blocks(), blocks)), dim=-1)
    assert torch.equal(found, expected)
    assert (source.speakers, source.layers, source.dim) == (len(rates), LAYERS, 2)


def test_long_speech_can_begin_at_any_block_and_be_read_several_times():
    source = listen(Speech.of([long_sound(200, 8000, 1)], Context()))
    blocks = list(islice(source.blocks(), 430))
    for first in (0, 1, 107, 108, 109, 110, 250, 415, 416):
        again = list(islice(source.blocks(first), 3))
        assert all(map(torch.equal, again, blocks[first : first + 3]))
    assert (blocks[-1] == 0).all()  # after the end


def test_only_the_windows_that_are_needed_are_encoded_and_one_is_held():
    class Counting(Loudness):
        def __init__(self):
            super().__init__()
            self.alive = weakref.WeakSet()

        def encode_audio(self, audio, sample_rate):
            out = super().encode_audio(audio, sample_rate)
            self.alive.add(audio)
            return out

    encoder, encoded = Counting(), []
    source = listen(Speech.of([silence(600, 8000)], encoder))
    assert encoder.calls == 1  # a short one, to see what kind of encoder this is
    blocks = source.blocks(after_encoding=lambda: encoded.append(1))
    list(islice(blocks, 100))
    assert len(encoded) == 1 and encoder.calls == 2
    list(islice(blocks, 1000))
    assert len(encoded) == encoder.calls - 1 >= 9
    assert len(encoder.alive) <= 1
    assert encoder.longest <= 61 * 16000


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes, views of ``given`` not counted."""

    bytes = 0

    def __init__(self, given):
        super().__init__()
        self.given = given.untyped_storage().data_ptr()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.untyped_storage().data_ptr() != self.given:
            self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result


def test_half_an_hour_is_never_held_as_a_whole():
    audio = silence(1800, 16000)
    with LargestTensor(audio["waveform"]) as largest:
        speech = Speech.of([audio], Loudness(width=8, dtype=torch.bfloat16))
        for _ in islice(listen(speech).blocks(), 3750):
            pass
    assert block_count(speech) == 3751
    assert largest.bytes <= audio["waveform"].nbytes // 8


def test_an_interrupt_stops_between_windows():
    def check():
        if encoder.longest > 16000:
            raise InterruptedError

    encoder = Loudness()
    source = listen(Speech.of([silence(200, 8000)], encoder), check)
    with pytest.raises(InterruptedError):
        list(islice(source.blocks(), 300))


@pytest.mark.parametrize("count", [2, 3, 49, 50, 51, 240, 3001, 90_001])
def test_a_track_is_a_linear_interpolation_with_fixed_ends(count):
    hidden = torch.randn(2, count, 3)
    expected = interpolate(
        hidden.transpose(1, 2), size=int(count / 50 * 30), mode="linear", align_corners=True
    ).transpose(1, 2)
    torch.testing.assert_close(feature_track(hidden), expected, rtol=0, atol=1e-5)


PIECES = [(1, 1, 148), (149, 1), (50, 50, 50), (3, 140, 7), (1,) * 150]


def cut(hidden, sizes):
    """(first index, piece) of consecutive pieces of hidden states."""
    start = 0
    for piece in hidden.split(sizes, dim=1):
        yield start, piece
        start += piece.shape[1]


@pytest.mark.parametrize("sizes", PIECES)
def test_a_track_does_not_depend_on_how_its_pieces_are_cut(sizes):
    hidden = torch.randn(2, 150, 3)
    parts = list(track_parts(cut(hidden, sizes), 150))
    assert torch.equal(torch.cat([part for _, part in parts], dim=1), feature_track(hidden))


@pytest.mark.parametrize("sizes", PIECES)
@pytest.mark.parametrize("first", [0, 1, 3, 6, 9])
def test_blocks_of_a_track_in_parts_are_those_of_the_whole(sizes, first):
    hidden = torch.randn(2, 150, 3)
    needed = int(frame_indices(first * 12, 1)) * 5 // 3
    pieces = [piece for piece in cut(hidden, sizes) if piece[0] + piece[1].shape[1] > needed]
    if pieces:
        found = islice(track_blocks(track_parts(pieces, 150), first), 4)
        for block, features in enumerate(found, first):
            assert torch.equal(features, frame_features(feature_track(hidden), block * 12, 12))


def test_frames_after_the_track_get_zeros():
    features = frame_features(torch.ones(LAYERS, 30, 2), 12, 24)
    assert (features[..., :13] == 1).all() and (features[..., 13:] == 0).all()
