"""LongCat videos from a session alone: no node, no ComfyUI, models from a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from avatar.engines.gpu.offload import WaitingBlock
from avatar.engines.longcat.config import SamplingConfig
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.longcat import model
from avatar.loaders.longcat.conditioning import Condition
from avatar.loaders.longcat.encoders import WhisperAudioEncoder, load_wav2vec2
from avatar.loaders.longcat.lora import read_longcat_lora
from avatar.loaders.longcat.model import LongCatModel
from avatar.loaders.longcat.precision import Precision
from avatar.loaders.wan.vae import OwnVAE
from avatar.media.recording import Snapshots, begin, record
from avatar.media.speech import LiveSpeech, Speech, assign_masks
from avatar.media.speech_feed import SpeechFeed
from avatar.sessions.longcat import Inputs, open_video
from diffusers import AutoencoderKLWan

from tools.tiny_longcat import TINY, make

CPU = torch.device("cpu")
HEIGHT, WIDTH = 32, 48
CONFIG = SamplingConfig(steps=2, distilled=False, frames=21, overlap=5, reference_position=3, skip_range=1)
GIGABYTE = 10**9


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("longcat"))


@pytest.fixture(scope="module")
def encoders(checkpoint) -> dict:
    return {
        "1.0": load_wav2vec2(checkpoint / "LongCat-Video-Avatar" / "chinese-wav2vec2-base"),
        "1.5": WhisperAudioEncoder.from_folder(checkpoint / "LongCat-Video-Avatar-1.5" / "whisper-large-v3"),
    }


@pytest.fixture(scope="module")
def vae() -> OwnVAE:
    torch.manual_seed(0)
    return OwnVAE(WanVAE(AutoencoderKLWan(base_dim=4).eval().requires_grad_(False)), CPU)


@pytest.fixture
def given(checkpoint, encoders, vae):
    """Makes the inputs of a version: a portrait and a second of sound for each of ``voices``."""

    def inputs(version: str = "1.5", voices: int = 1, folder: str | None = None, **condition) -> Inputs:
        place = {
            "1.0": "LongCat-Video-Avatar/avatar_single",
            "1.5": "LongCat-Video-Avatar-1.5/base_model",
        }[version]
        draw = torch.Generator().manual_seed(0)
        sounds = [
            {
                "waveform": 0.1 * torch.randn(1, 1, 24_000 - 4000 * voice, generator=draw),
                "sample_rate": 24_000,
            }
            for voice in range(voices)
        ]
        prompt = torch.zeros(16, TINY[version].caption_channels)
        prompt[:5] = torch.randn(5, prompt.shape[1], generator=draw)
        parts = {"portrait": torch.randn(1, 16, 1, HEIGHT // 8, WIDTH // 8, generator=draw)} | condition
        return Inputs(
            LongCatModel(checkpoint / (folder or place), CPU, precision=Precision.FP32),
            vae,
            Condition(prompt, (HEIGHT, WIDTH), **parts),
            Speech.of(sounds, encoders[version]),
            negative=torch.zeros_like(prompt),
        )

    return inputs


def frames(inputs: Inputs, config: SamplingConfig = CONFIG, **options) -> torch.Tensor:
    with torch.inference_mode():
        return torch.cat(list(open_video(inputs, config, **options).blocks()))


@pytest.mark.parametrize(("version", "fps"), [("1.0", 16), ("1.5", 25)])
def test_a_video_is_as_long_as_its_speech_and_says_what_is_planned(given, version, fps):
    said: list[str] = []
    stream = open_video(given(version), CONFIG, say=said.append)
    assert (stream.frames, stream.width, stream.height, stream.fps) == (fps, WIDTH, HEIGHT, fps)
    assert said == ["Listening to 1 s of speech"], "nothing else is loaded before the stream is read"
    with torch.inference_mode():
        made = torch.cat(list(stream.blocks()))
    assert made.shape == (fps, HEIGHT, WIDTH, 3) and made.float().std() > 5
    assert f"of 2 steps; {stream.plan}" in said[1] and stream.plan.startswith("everything loaded")
    assert "Add a distillation LoRA" in said[1]


def test_the_same_inputs_make_the_same_video_and_another_seed_another(given):
    inputs = given()
    once, again, other = (frames(inputs, replace(CONFIG, seed=seed), max_seconds=0.5) for seed in (1, 1, 2))
    assert len(once) == 13
    assert torch.equal(once, again) and not torch.equal(once, other)


def test_text_alone_and_the_end_of_a_video_make_videos_too(given):
    portrait = frames(given())
    text = frames(given(portrait=None))
    past = {"past": portrait, "past_fps": 25.0}
    with_portrait, without = frames(given(**past)), frames(given(portrait=None, **past))
    found = [portrait, text, with_portrait, without]
    assert all(made.shape == (25, HEIGHT, WIDTH, 3) for made in found)
    assert len({made.numpy().tobytes() for made in found}) == 4


def test_a_video_of_another_frame_rate_is_gone_on_with_in_time(given):
    past = torch.arange(100, dtype=torch.uint8)[:, None, None, None].expand(-1, HEIGHT, WIDTH, 3).contiguous()
    condition = given(past=past, past_fps=50.0).condition
    numbers = condition.last_frames(25)[:, 0, 0, 0].tolist()
    assert numbers[-4:] == [93, 95, 97, 99]


def test_two_people_speak_where_their_masks_are(given):
    inputs = given(voices=2)
    left = torch.zeros(1, HEIGHT, WIDTH)
    left[:, :, : WIDTH // 3] = 1
    made = [
        frames(replace(inputs, speech=assign_masks(inputs.speech, masks)), max_seconds=0.4)
        for masks in ([left, left.flip(2)], [left.flip(2), left])
    ]
    assert not torch.equal(*made)


def test_guidance_compares_with_the_negative_prompt(given):
    inputs, config = given(), replace(CONFIG, text_guidance=4.0, audio_guidance=4.0)
    guided = frames(inputs, config, max_seconds=0.4)
    assert not torch.equal(guided, frames(inputs, max_seconds=0.4))
    other = replace(inputs, negative=inputs.condition.context.flip(0))
    assert not torch.equal(guided, frames(other, config, max_seconds=0.4))


def test_an_interrupted_video_is_gone_on_with_bit_for_bit(given, tmp_path, monkeypatch):
    monkeypatch.setattr("avatar.media.recording.SHORTEST", 0.0)
    whole = frames(given())

    def write(most: int | None) -> torch.Tensor:
        stream = open_video(given(), CONFIG)  # as another process would
        options = {"width": WIDTH, "height": HEIGHT, "fps": 25, "audio": stream.audio}
        with begin(tmp_path, "video", 1, stream.resumable.fingerprint(), **options) as writer:
            snapshots = Snapshots(writer.path, GIGABYTE, clock=iter(range(0, 10**6, 100)).__next__)
            made = []
            for _, block in record(stream, writer, snapshots):
                made.append(block)
                if len(made) == most:
                    raise KeyboardInterrupt
            return torch.cat(made)

    with torch.inference_mode():
        with pytest.raises(KeyboardInterrupt):
            write(3)  # the first segment is two blocks
        assert torch.equal(write(None), whole[21:]), "the first segment is not made again"


def test_a_lora_counts_tells_videos_apart_and_is_refused_on_the_other_version(checkpoint, given, tmp_path):
    file = checkpoint / "LongCat-Video-Avatar-1.5" / "lora" / "dmd_lora.safetensors"
    plain = given()
    tuned = replace(plain, model=plain.model.with_lora(file, 1.0))
    assert tuned.model.distilled and not plain.model.distilled
    assert (plain.model.loras, tuned.model.loras) == ((), ((file, 1.0),))
    assert tuned.model.weights == plain.model.weights, "it is merged into them"
    assert not torch.equal(frames(plain, max_seconds=0.4), frames(tuned, max_seconds=0.4))
    less = replace(plain, model=tuned.model.with_lora(file, -1.0))
    assert not torch.equal(frames(less, max_seconds=0.4), frames(tuned, max_seconds=0.4)), "loaded anew"
    found = {open_video(one, CONFIG).resumable.fingerprint() for one in (plain, tuned, given())}
    assert len(found) == 2
    with pytest.raises(
        ValueError, match=r"dmd_lora.safetensors was made for LongCat 1.5, and this model is 1.0"
    ):
        given("1.0").model.with_lora(file, 1.0)
    older = tmp_path / "cfg_step_lora.safetensors"
    older.write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"was made for LongCat 1.0, and this model is 1.5"):
        plain.model.with_lora(older, 1.0)


def test_one_more_lora_reads_that_file_alone(checkpoint, given, monkeypatch):
    file = checkpoint / "LongCat-Video-Avatar-1.5" / "lora" / "dmd_lora.safetensors"
    tuned, read = given().model.with_lora(file, 1.0), []
    monkeypatch.setattr(model, "describe", lambda *_: pytest.fail("the model is read again"))
    monkeypatch.setattr(model, "read_longcat_lora", lambda path: read.append(path) or read_longcat_lora(path))
    assert len(tuned.with_lora(file, 0.5).loras) == 2
    assert read == [file]


def test_weights_in_eight_bits_take_half_and_a_lora_beside_them_counts(checkpoint, given):
    packed = given(folder="LongCat-Video-Avatar-1.5/base_model_int8")
    assert packed.model.weights.block < 0.5 * given().model.weights.block  # float32 here
    file = checkpoint / "LongCat-Video-Avatar-1.5" / "lora" / "dmd_lora.safetensors"
    tuned = replace(packed, model=packed.model.with_lora(file, 1.0))
    assert tuned.model.weights.block > packed.model.weights.block
    assert not torch.equal(frames(packed, max_seconds=0.4), frames(tuned, max_seconds=0.4))


def test_blocks_that_wait_give_the_same_video(given):
    inputs = given()
    once = frames(inputs, max_seconds=0.4)
    placed = inputs.model.place(2, 0)
    assert len(placed.waiting) == 2
    assert torch.equal(frames(inputs, max_seconds=0.4), once), "and come back"


def test_a_model_whose_conversion_ended_early_is_read_anew(checkpoint, monkeypatch):
    """Not used as it is, half of it in float8."""
    monkeypatch.setattr(Precision, "require", lambda *_: None)
    folder = checkpoint / "LongCat-Video-Avatar-1.5/base_model"
    found, convert, fail = LongCatModel(folder, CPU, Precision.FP8), model.use_fp8, [False, True]

    def use_fp8(block: torch.nn.Module) -> None:
        if fail and fail.pop(0):
            raise torch.OutOfMemoryError("CUDA out of memory")
        convert(block)

    monkeypatch.setattr(model, "use_fp8", use_fp8)
    with pytest.raises(torch.OutOfMemoryError):
        found.place(0, 0)
    assert all(block.float8 for block in found.place(0, 0).transformer.blocks)


def test_blocks_keep_their_weights_when_memory_for_waiting_ends(given, monkeypatch):
    found = given().model
    values = [parameter.clone() for parameter in found.place(0, 0).transformer.parameters()]
    made: list[WaitingBlock] = []

    def waiting(block: torch.nn.Module) -> WaitingBlock:
        if made:
            raise MemoryError("The system does not lock that much.")
        made.append(WaitingBlock(block))
        return made[0]

    monkeypatch.setattr(model, "WaitingBlock", waiting)
    with pytest.raises(MemoryError):
        found.place(2, 0)
    made.pop().memory.bytes.zero_()  # whoever gets that memory next
    monkeypatch.setattr(model, "WaitingBlock", WaitingBlock)
    placed = found.place(2, 0)
    assert len(placed.waiting) == 2
    assert all(torch.equal(x, y) for x, y in zip(placed.transformer.parameters(), values, strict=True))


def test_another_seed_or_portrait_listens_to_nothing_again(given, monkeypatch):
    inputs = given()
    frames(inputs, max_seconds=0.4)
    monkeypatch.setattr(
        inputs.speech.encoder, "encode_audio", lambda *_: pytest.fail("it listens again"), raising=True
    )
    frames(inputs, replace(CONFIG, seed=7), max_seconds=0.4)


def test_out_of_memory_says_what_was_planned(given, monkeypatch):
    def fails(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")
        yield

    monkeypatch.setattr("avatar.sessions.longcat.generate", fails)
    with pytest.raises(torch.OutOfMemoryError, match="ran out: 48x32 was planned"):
        frames(given())


def test_an_interrupt_stops_within_a_step(given):
    class Stop(Exception):
        pass

    calls = []

    def check():
        calls.append(1)
        if len(calls) == 4:
            raise Stop

    with pytest.raises(Stop):
        frames(given(), check_interrupt=check)


def test_what_does_not_fit_together_is_said_before_anything_is_loaded(given, encoders):
    inputs = given()

    def refused(sentence: str, wrong: Inputs = inputs, config: SamplingConfig = CONFIG, **options) -> None:
        with pytest.raises(ValueError, match=sentence):
            open_video(wrong, config, **options)
        assert wrong.model._model is None

    refused(
        "Connect whisper-large-v3", replace(inputs, speech=Speech.of(inputs.speech.sounds, encoders["1.0"]))
    )
    refused("Connect chinese-wav2vec2-base", replace(given("1.0"), speech=inputs.speech))
    refused("Connect finished speech", replace(inputs, speech=LiveSpeech(SpeechFeed(16_000))))
    refused("Set steps to 8", config=replace(CONFIG, distilled=True))
    refused("Set both guidances to 1", config=SamplingConfig(text_guidance=4.0))
    guided = replace(CONFIG, text_guidance=4.0)
    refused("Connect a negative prompt", replace(inputs, negative=None), guided)
    refused("UMT5-XXL", replace(inputs, condition=replace(inputs.condition, context=torch.zeros(5, 7))))
    refused("UMT5-XXL", replace(inputs, negative=torch.zeros(5, 7)), guided)
    refused("Add LiveAvatar Speaker Masks", given(voices=2))
    refused("Give at least 5 frames", given(past=torch.zeros(3, HEIGHT, WIDTH, 3).byte(), past_fps=25.0))
    refused("help a GPU only", blocks_on_cpu=1)
    two = given("1.0", voices=2)
    left = torch.zeros(1, HEIGHT, WIDTH)
    left[:, :, :16] = 1
    masked = assign_masks(two.speech, [left, left.flip(2)])
    refused("Choose avatar_multi", replace(two, speech=masked))
    nobody = torch.zeros(1, HEIGHT, WIDTH)
    nobody[:, 1, 1] = 1
    small = assign_masks(given(voices=2).speech, [left, nobody])
    refused("Make mask 2 larger", replace(given(voices=2), speech=small))
