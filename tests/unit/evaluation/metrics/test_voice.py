"""Pitch, voices and words."""

from __future__ import annotations

import json

import pytest
import torch
from avatar.evaluation.metric import Observed, score
from avatar.evaluation.metrics import BY_NAME
from avatar.evaluation.metrics.words import words
from avatar.evaluation.readers.voice import Speaker, Writer
from avatar.evaluation.readers.yin import pitch
from avatar.media.sound import MonoSound
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> MonoSound:
    time = torch.arange(round(seconds * RATE)) / RATE
    sound = sum(torch.sin(2 * torch.pi * hertz * part * time) / part for part in range(1, 6))
    return MonoSound({"waveform": 0.2 * sound[None, None], "sample_rate": RATE}, RATE)


@pytest.mark.parametrize("hertz", [75.0, 110.0, 220.5, 440.0])
def test_a_tone_has_its_pitch(hertz):
    found = pitch(tone(hertz))
    assert len(found) > 80
    assert found.values.median().item() == pytest.approx(hertz, rel=0.003)


def test_noise_and_silence_have_none():
    noise = torch.randn(1, 1, RATE, generator=torch.Generator().manual_seed(1)) * 0.2
    assert len(pitch(MonoSound({"waveform": noise, "sample_rate": RATE}, RATE))) < 3
    assert len(pitch(MonoSound({"waveform": noise * 0, "sample_rate": RATE}, RATE))) == 0
    assert len(pitch(MonoSound({"waveform": noise[..., :100], "sample_rate": RATE}, RATE))) == 0


def test_an_octave_is_twelve_semitones():
    seen = Observed(25, 1)
    both = [pitch(tone(100)), pitch(tone(200))]
    seen.tracks["pitch"] = type(both[0])(both[0].times, torch.cat([one.values[:50] for one in both]))
    assert score(BY_NAME["F0 spread"], seen).value == pytest.approx(6, abs=0.2)


@pytest.fixture(scope="module")
def speaker(tmp_path_factory) -> Speaker:
    from transformers import WavLMConfig, WavLMForXVector

    torch.manual_seed(0)
    config = WavLMConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        tdnn_dim=(16, 16, 16, 16, 32),
        xvector_output_dim=16,
    )
    folder = tmp_path_factory.mktemp("wavlm")
    WavLMForXVector(config).save_pretrained(folder)
    return Speaker(folder, torch.device("cpu"))


def test_a_voice_is_most_like_itself(speaker):
    seen = Observed(25, 1)
    seen.values = {"voice": speaker.embed(tone(100)), "reference voice": speaker.embed(tone(100))}
    assert score(BY_NAME["speaker similarity"], seen).value == pytest.approx(1, abs=1e-5)
    noise = torch.randn(1, 1, RATE, generator=torch.Generator().manual_seed(1))
    seen.values["voice"] = speaker.embed(MonoSound({"waveform": noise, "sample_rate": RATE}, RATE))
    assert score(BY_NAME["speaker similarity"], seen).value < 0.9999


def test_words_are_compared_without_case_and_marks_and_chinese_by_letter():
    assert words("Hello, World! It's fine.") == "hello world it s fine"
    assert words("你好, 世界") == "你 好 世 界"


def test_wrong_words_are_counted():
    pytest.importorskip("jiwer")
    seen = Observed(25, 1, values={"asked text": "one two three four", "said text": "One, two tree four."})
    assert score(BY_NAME["WER"], seen).value == 25
    assert score(BY_NAME["WER"], seen).verdict == "warn"


def test_another_language_fails():
    pytest.importorskip("lingua")
    seen = Observed(
        25, 1, values={"language": "es", "said text": "Los niños juegan en el parque todas las tardes."}
    )
    assert score(BY_NAME["language"], seen).verdict == "good"
    seen.values["said text"] = "The children play in the park every afternoon."
    assert score(BY_NAME["language"], seen).verdict == "fail"


def test_without_the_libraries_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    seen = Observed(25, 1, values={"asked text": "a", "said text": "a", "language": "en"})
    assert score(BY_NAME["WER"], seen).skipped == "Install jiwer to count wrong words."
    assert "lingua" in score(BY_NAME["language"], seen).skipped


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    """A folder as openai/whisper-small is published, with one narrow layer and a handful of words."""
    folder = tmp_path_factory.mktemp("whisper")
    config = WhisperConfig(
        vocab_size=16,
        num_mel_bins=80,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_target_positions=12,
        decoder_start_token_id=4,
        bos_token_id=3,
        eos_token_id=3,
        pad_token_id=3,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = WhisperForConditionalGeneration(config)
    torch.nn.init.zeros_(
        model.proj_out.weight
    )  # every token is as likely, so the first one is said again and again
    made = model.generation_config
    made.suppress_tokens = made.begin_suppress_tokens = None
    made.is_multilingual = False
    made.max_length = 8
    model.save_pretrained(folder)
    words_of = ["a", "b", "c", "<|endoftext|>", "<|startoftranscript|>", "<|notimestamps|>"]
    vocabulary = {word: number for number, word in enumerate(words_of)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "WhisperTokenizer"}), encoding="utf-8"
    )
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


def test_what_whisper_writes_is_read_from_a_folder_in_parts_of_half_a_minute(whisper, monkeypatch):
    writer = Writer(whisper, torch.device("cpu"))
    heard = []
    generate = writer._model.generate
    monkeypatch.setattr(
        writer._model, "generate", lambda given, **more: heard.append(given.shape) or generate(given)
    )
    sound = MonoSound({"waveform": torch.zeros(1, 1, 31 * RATE), "sample_rate": RATE}, RATE)
    said = writer.write(sound)
    assert heard == [(1, 80, 3000)] * 2
    assert set(said.replace(" ", "")) <= {"a"}


def test_folders_of_other_models_are_refused(whisper, tmp_path):
    with pytest.raises(FileNotFoundError, match="Download openai/whisper-small"):
        Writer(tmp_path, torch.device("cpu"))
