"""Speech in step with the video: pre-roll, lengths, rates, several speakers."""

from __future__ import annotations

import math
import weakref
from itertools import islice

import numpy as np
import pytest
import torch
from avatar.engines.liveavatar.speech_timing import (
    feature_track,
    frame_features,
    frame_indices,
    track_blocks,
    track_parts,
)
from avatar.loaders.identity import fingerprint
from avatar.loaders.liveavatar.speech import WindowedSpeech, assign_masks, encode_speech, video_frames
from avatar.loaders.wan.wav2vec2 import AudioEncoder
from avatar.loaders.wan.wav2vec2_windows import hidden_state_windows, loudness
from avatar.media.audio import pad, to_mono, trim
from torch.nn.functional import interpolate
from torch.utils._python_dispatch import TorchDispatchMode

from tools.tiny_checkpoint import AUDIO_DIM, write_audio_encoder

LAYERS = 25


class Loudness:
    """An encoder whose every feature is the loudest sample of its frame."""

    def __init__(self, width: int = 1, dtype: torch.dtype = torch.float32) -> None:
        self.width, self.dtype = width, dtype
        self.longest = 0

    def encode_audio(self, audio, sample_rate):
        assert sample_rate == 16000 and audio.shape[:2] == (1, 1)
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


def heard(speech, speaker: int = 0) -> torch.Tensor:
    """The first layer's first feature of every generated frame, the pre-roll included."""
    blocks = -(-(speech.frames + 3) // 12)
    return torch.cat([features[speaker, 0, 0] for features in islice(speech.source.blocks(), blocks)])


@pytest.mark.parametrize(
    ("samples", "rate"),
    [(16000, 16000), (1, 16000), (640, 16000), (641, 16000), (44100, 44100), (96001, 96000)],
)
def test_the_video_shows_all_of_the_sound(samples, rate):
    frames = max(1, math.ceil(25 * samples / rate))
    assert video_frames(samples / rate) == frames
    assert encode_speech(Loudness(), [constant(samples / rate, rate)]).frames == frames


@pytest.mark.parametrize("rate", [8000, 16000, 44101])
@pytest.mark.parametrize("frame", [0, 1, 7, 8, 9, 20, 50, 99])
def test_a_sound_is_heard_by_the_frame_that_shows_it(rate, frame):
    audio = silence(12, rate)
    audio["waveform"][..., frame * rate // 25 : (frame + 1) * rate // 25] = 0.5
    features = heard(encode_speech(Loudness(), [audio]))
    # The pre-roll, the first three of the generated frames, is not shown.
    assert (features > 0.4).nonzero().flatten().tolist() == [frame + 3]


def test_the_pre_roll_is_silent_and_the_sound_lasts_to_the_last_frame():
    speech = encode_speech(Loudness(), [constant(3.0)])
    features = heard(speech)
    assert (features[:3] == 0).all()
    assert (features[4 : speech.frames + 3] > 0.49).all()


def test_every_generated_frame_has_features_though_the_last_block_is_longer_than_the_sound():
    for seconds in (0.1, 0.36, 0.37, 3.0, 10.03):
        speech = encode_speech(Loudness(), [constant(seconds)])
        needed = -(-(speech.frames + 3) // 12) * 12
        assert speech.source.tracks[0].shape[1] > round((needed - 1) * 1.2)


def test_two_speakers_start_together_and_the_shorter_one_falls_silent():
    first, second = constant(1.0, 8000), constant(3.0, 48000, channels=2)
    speech = encode_speech(Loudness(), [first, second])
    assert speech.frames == 75
    assert speech.source.tracks[0].shape == speech.source.tracks[1].shape
    one, two = heard(speech, 0), heard(speech, 1)
    assert one[5] > 0.49 and two[5] > 0.49
    assert one[30:].max() < 0.01 and two[77] > 0.49
    assert speech.audio["sample_rate"] == 48000 and speech.audio["waveform"].shape == (1, 2, 144000)


def test_one_speakers_own_sound_is_handed_on_unchanged():
    audio = constant(1.0, 44101, channels=2)
    speech = encode_speech(Loudness(), [audio])
    assert speech.audio["waveform"] is audio["waveform"] and speech.audio["sample_rate"] == 44101


@pytest.mark.parametrize(
    "odd",
    [
        lambda wave: wave.transpose(1, 2).contiguous().transpose(1, 2),
        lambda wave: torch.stack((wave, wave), -1)[..., 0],
        lambda wave: wave.double(),
        lambda wave: (wave * 32768).to(torch.int16),
    ],
    ids=["interleaved", "every other sample", "float64", "int16"],
)
@pytest.mark.parametrize("rate", [np.int64(16_000), 16_000.0])
def test_sound_of_other_packs_makes_the_same_video_and_the_same_fingerprint(odd, rate):
    plain = constant(1.0, channels=2)
    audio = {"waveform": odd(plain["waveform"]), "sample_rate": rate, "path": object(), "tags": {"a"}}
    speech, expected = encode_speech(Loudness(), [audio]), encode_speech(Loudness(), [plain])
    assert torch.equal(heard(speech), heard(expected))
    one, two = (trim(spoken.audio, seconds=0.5) for spoken in (speech, expected))
    assert fingerprint(speech.audio, one) == fingerprint(expected.audio, two)


def test_a_video_without_sound_is_called_so():
    with pytest.raises(ValueError, match=r"^Load a video that has sound, .*: this video has no sound\.$"):
        encode_speech(Loudness(), [None])


@pytest.mark.parametrize(
    "audio",
    [silence(1.0), silence(0.1), constant(0.1, 8000), constant(0.5, 96000, channels=2)],
    ids=["silence", "0.1 s of silence", "0.1 s at 8 kHz", "96 kHz stereo"],
)
def test_unusual_sounds_give_finite_features(tmp_path_factory, audio):
    folder = tmp_path_factory.mktemp("wav2vec2")
    write_audio_encoder(folder)
    track = encode_speech(AudioEncoder.from_folder(folder), [audio]).source.tracks[0]
    assert track.shape[::2] == (LAYERS, AUDIO_DIM)
    assert torch.isfinite(track.float()).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_broken_sound_is_refused_before_anything_is_encoded(bad):
    broken = constant(1.0)
    broken["waveform"][..., 5] = bad
    encoder = Loudness()
    with pytest.raises(ValueError, match="NaN or infinite"):
        encode_speech(encoder, [constant(1.0), broken])
    assert encoder.longest == 0


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
    speech = encode_speech(Context(2), audios)
    assert isinstance(speech.source, WindowedSpeech)
    blocks = -(-(speech.frames + 3) // 12)
    total = blocks * 12 / 25 + 0.2
    expected = torch.stack(
        [frame_features(whole_track(Context(2), audio, total), 0, 12 * blocks) for audio in audios]
    )
    found = torch.cat(list(islice(speech.source.blocks(), blocks)), dim=-1)
    assert torch.equal(found, expected)
    assert (speech.source.speakers, speech.source.layers, speech.source.dim) == (len(rates), LAYERS, 2)


def test_long_speech_can_begin_at_any_block_and_be_read_several_times():
    source = encode_speech(Context(), [long_sound(200, 8000, 1)]).source
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
            self.calls = 0

        def encode_audio(self, audio, sample_rate):
            self.calls += 1
            out = super().encode_audio(audio, sample_rate)
            self.alive.add(audio)
            return out

    encoder, encoded = Counting(), []
    source = encode_speech(encoder, [silence(600, 8000)]).source
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
        speech = encode_speech(Loudness(width=8, dtype=torch.bfloat16), [audio])
        for _ in islice(speech.source.blocks(), 3750):
            pass
    assert speech.frames == 45_000
    assert largest.bytes <= audio["waveform"].nbytes // 8


def test_an_interrupt_stops_between_windows():
    def check():
        if encoder.longest > 16000:
            raise InterruptedError

    encoder = Loudness()
    speech = encode_speech(encoder, [silence(200, 8000)], check)
    with pytest.raises(InterruptedError):
        list(islice(speech.source.blocks(), 300))


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


def two_speakers():
    return encode_speech(Loudness(), [constant(0.2), constant(0.2)])


def test_masks_are_brought_to_one_length():
    still, moving = torch.rand(16, 24), torch.rand(5, 16, 24)
    still[:, 12:], moving[..., :12] = 0, 0
    speech = assign_masks(two_speakers(), [still, moving])
    assert speech.masks.shape == (2, 5, 16, 24)
    assert all(torch.equal(mask, still) for mask in speech.masks[0])
    assert torch.equal(speech.masks[1], moving)
    shorter = assign_masks(two_speakers(), [still, moving[:2]])
    assert torch.equal(shorter.masks[1, 1], moving[1])


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="2 speakers but 1 masks"):
        assign_masks(two_speakers(), [torch.ones(16, 24)])
    with pytest.raises(ValueError, match=r"different sizes \(24x16, 16x24\)"):
        assign_masks(two_speakers(), [torch.ones(24, 16), torch.ones(16, 24)])


@pytest.mark.parametrize(("left", "right", "speaker"), [(0, 1, 1), (1, 0, 2), (1, 1, 1)])
def test_a_speaker_whose_mask_marks_nothing_is_named(left, right, speaker):
    masks = [torch.full((16, 24), float(value)) for value in (left, right)]
    with pytest.raises(ValueError, match=rf"mask of speaker {speaker} is empty.*paint"):
        assign_masks(two_speakers(), masks)
