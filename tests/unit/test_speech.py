"""Speech in step with the video: pre-roll, lengths, rates, several speakers."""

from __future__ import annotations

import math

import pytest
import torch
from avatar.liveavatar.audio_features import block_features, feature_track, frame_features, join_track
from avatar.loaders.audio import AudioEncoder
from avatar.loaders.speech import assign_masks, encode_speech, video_frames
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
    parts = [block_features(speech.tracks, block)[speaker, 0, 0] for block in range(blocks)]
    return torch.cat(parts)


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
        assert speech.tracks[0].shape[1] > round((needed - 1) * 1.2)


def test_two_speakers_start_together_and_the_shorter_one_falls_silent():
    first, second = constant(1.0, 8000), constant(3.0, 48000, channels=2)
    speech = encode_speech(Loudness(), [first, second])
    assert speech.frames == 75
    assert speech.tracks[0].shape == speech.tracks[1].shape
    one, two = heard(speech, 0), heard(speech, 1)
    assert one[5] > 0.49 and two[5] > 0.49
    assert one[30:].max() < 0.01 and two[77] > 0.49
    assert speech.audio["sample_rate"] == 48000 and speech.audio["waveform"].shape == (1, 2, 144000)


def test_one_speakers_own_sound_is_handed_on_unchanged():
    audio = constant(1.0, 44101, channels=2)
    speech = encode_speech(Loudness(), [audio])
    assert speech.audio["waveform"] is audio["waveform"] and speech.audio["sample_rate"] == 44101


@pytest.mark.parametrize(
    "audio",
    [silence(1.0), silence(0.1), constant(0.1, 8000), constant(0.5, 96000, channels=2)],
    ids=["silence", "0.1 s of silence", "0.1 s at 8 kHz", "96 kHz stereo"],
)
def test_unusual_sounds_give_finite_features(tmp_path_factory, audio):
    folder = tmp_path_factory.mktemp("wav2vec2")
    write_audio_encoder(folder)
    track = encode_speech(AudioEncoder.from_folder(folder), [audio]).tracks[0]
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


class LargestTensor(TorchDispatchMode):
    """Remembers the size of the largest tensor that any operation makes."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.bytes = max(self.bytes, result.untyped_storage().nbytes())
        return result


def test_half_an_hour_is_encoded_in_windows_and_never_held_as_a_whole():
    encoder = Loudness(width=32, dtype=torch.bfloat16)
    audio = silence(1800, 8000)
    with LargestTensor() as largest:
        speech = encode_speech(encoder, [audio])
    assert speech.frames == 45_000
    assert encoder.longest <= 61 * 16000
    waveform = 4 * 1801 * 16000
    assert largest.bytes <= max(speech.tracks[0].nbytes, waveform)
    assert speech.tracks[0].nbytes < 55_000 * LAYERS * 32 * 2


def test_an_interrupt_stops_between_windows():
    def check():
        if encoder.longest:
            raise InterruptedError

    encoder = Loudness()
    with pytest.raises(InterruptedError):
        encode_speech(encoder, [silence(200, 8000)], check)


@pytest.mark.parametrize("count", [2, 3, 49, 50, 51, 240, 3001, 90_001])
def test_a_track_is_a_linear_interpolation_with_fixed_ends(count):
    hidden = torch.randn(2, count, 3)
    expected = interpolate(
        hidden.transpose(1, 2), size=int(count / 50 * 30), mode="linear", align_corners=True
    ).transpose(1, 2)
    torch.testing.assert_close(feature_track(hidden), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pieces", [(1, 1, 148), (149, 1), (50, 50, 50), (3, 140, 7), (1,) * 150])
def test_a_track_does_not_depend_on_how_its_pieces_are_cut(pieces):
    hidden = torch.randn(2, 150, 3)
    assert torch.equal(join_track(iter(hidden.split(pieces, dim=1)), 150), feature_track(hidden))


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
