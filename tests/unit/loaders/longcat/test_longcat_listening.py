"""What LongCat hears in a speech of any length."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from avatar.loaders.longcat import listening
from avatar.loaders.longcat.encoders import (
    WhisperAudioEncoder,
    is_longcats,
    is_wav2vec2_base,
    is_whisper,
    load_wav2vec2,
)
from avatar.loaders.longcat.listening import listen
from avatar.loaders.longcat.speech import whisper_features
from avatar.media.speech import Speech

from tools.tiny_longcat import TINY, write_speech_encoders

RATE = 16_000


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("encoders")
    write_speech_encoders(folder / "older", folder / "newer")
    return {"1.0": load_wav2vec2(folder / "older"), "1.5": WhisperAudioEncoder.from_folder(folder / "newer")}


def sound(seconds: float, seed: int = 0) -> dict:
    draw = torch.Generator().manual_seed(seed)
    return {
        "waveform": 0.1 * torch.randn(1, 1, round(seconds * RATE), generator=draw),
        "sample_rate": RATE,
    }


def heard(encoders: dict, version: str, seconds: float, padded: float = 0.0) -> listening.SpeechFeatures:
    speech = Speech.of([sound(seconds)], encoders[version])
    return listen(speech, TINY[version], padded or seconds)


def test_each_version_is_told_by_its_encoder(encoders):
    assert is_whisper(encoders["1.5"]) and not is_whisper(encoders["1.0"])
    assert is_wav2vec2_base(encoders["1.0"]) and not is_wav2vec2_base(encoders["1.5"])
    assert all(map(is_longcats, encoders.values())) and not is_longcats(object())


def test_pieces_of_whisper_are_those_of_the_whole_sound(encoders):
    seconds = 31.0  # two pieces
    features = heard(encoders, "1.5", seconds)
    samples = sound(seconds)["waveform"][0, 0].numpy()
    whole = whisper_features(encoders["1.5"].managed.module, samples, 25)
    assert (features.speakers, features.count) == (1, len(whole))
    torch.testing.assert_close(features.read(0, features.count)[0], whole, rtol=1e-3, atol=2e-4)
    assert torch.equal(features.read(740, 760), features.read(0, features.count)[:, 740:760])


def test_windows_of_wav2vec2_are_close_to_the_whole_sound(encoders, monkeypatch):
    seconds = 65.0
    windows = heard(encoders, "1.0", seconds)
    monkeypatch.setattr(listening, "WHOLE_SECONDS", 1000)
    whole = heard(encoders, "1.0", seconds)
    assert windows.count == whole.count == 65 * 32
    found, wanted = windows.read(0, windows.count), whole.read(0, whole.count)
    off = (found - wanted).norm() / wanted.norm()
    assert 0 < off < 0.1
    assert torch.equal(windows.read(1270, 1300), found[:, 1270:1300])


def test_the_sound_ends_in_silence_and_two_are_equally_long(encoders):
    assert heard(encoders, "1.5", 1.0, padded=3.72).count == 93
    both = Speech.of([sound(1.0), sound(2.0, 1)], encoders["1.5"])
    features = listen(both, TINY["1.5"], 3.72)
    assert (features.speakers, features.count) == (2, 93)
    assert features.read(0, 5).shape == (2, 5, 5, 20)


def test_the_noise_floor_of_version_1_0_is_the_same_every_time(encoders):
    once, again = (heard(encoders, "1.0", 1.0).read(0, 32) for _ in range(2))
    assert torch.equal(once, again)


def test_few_pieces_are_kept(encoders, monkeypatch):
    features = heard(encoders, "1.5", 1.0, padded=250.0)
    monkeypatch.setattr(
        encoders["1.5"],
        "encode_audio",
        lambda *_: {"encoded_audio_all_layers": [torch.zeros(1, 1500, 20)] * 33},
    )
    features.read(0, features.count)
    assert len(features._pieces._kept) == listening.KEPT


def test_what_was_heard_for_another_length_is_forgotten(encoders):
    speech = Speech.of([sound(1.0)], encoders["1.5"])
    speech.remember("another engine", object)
    first = listen(speech, TINY["1.5"], 1.0)
    assert listen(speech, TINY["1.5"], 1.0) is first
    second = listen(speech, TINY["1.5"], 2.0)
    assert (first.count, second.count) == (25, 50)
    assert len(speech.heard) == 2 and second in speech.heard.values()


def test_the_host_s_whisper_serves_too(encoders):
    class WhisperLargeV3:
        pass

    class Hosts:
        model = WhisperLargeV3()
        encode_audio = staticmethod(encoders["1.5"].encode_audio)

    speech = Speech.of([sound(1.0)], Hosts())
    ours = heard(encoders, "1.5", 1.0)
    assert torch.equal(listen(speech, TINY["1.5"], 1.0).read(0, 25), ours.read(0, 25))


def test_whisper_of_another_size_or_folder_is_refused(tmp_path, encoders):
    import json

    from tools.tiny_longcat import WHISPER

    write_speech_encoders(tmp_path / "older", tmp_path / "newer")
    with pytest.raises(ValueError, match="Use whisper-large-v3"):
        WhisperAudioEncoder.from_folder(tmp_path / "older")
    config = tmp_path / "newer" / "config.json"
    config.write_text(json.dumps({"model_type": "whisper", **WHISPER, "encoder_layers": 4}))
    with pytest.raises(ValueError, match="has 4 layers"):
        WhisperAudioEncoder.from_folder(tmp_path / "newer")
    assert np.isfinite(heard(encoders, "1.5", 0.3).read(0, 7).numpy()).all()
