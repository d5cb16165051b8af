"""A video from a session alone: no node, no ComfyUI, models from a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from avatar.engines.liveavatar.config import SamplingConfig
from avatar.engines.parts.planning.plan import Wish
from avatar.engines.parts.planning.sharing import Neighbour
from avatar.engines.parts.wan.vae import WanVAE
from avatar.loaders.liveavatar.conditioning import Condition
from avatar.loaders.liveavatar.folder_model import FolderModel
from avatar.loaders.liveavatar.moods import with_mood
from avatar.loaders.wan.vae import HostVAE, OwnVAE, load_vae
from avatar.loaders.wan.wav2vec2 import AudioEncoder
from avatar.media.speech import LiveSpeech, Speech, assign_masks
from avatar.media.speech_feed import SpeechFeed
from avatar.sessions.liveavatar import Inputs, open_video

from tests.unit.stand_in_graphs import stand_in
from tools.tiny_checkpoint import TEXT_DIM, make

CONFIG = SamplingConfig(steps=2, frames_per_clip=24)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="module")
def inputs(checkpoint) -> Inputs:
    folder, draw = checkpoint / "tiny", torch.Generator().manual_seed(0)
    sound = {"waveform": torch.randn(1, 1, 16_000, generator=draw), "sample_rate": 16_000}
    encoder = AudioEncoder.from_folder(folder / "wav2vec2-large-xlsr-53-english", dtype=torch.float32)
    return Inputs(
        FolderModel(folder, CPU, torch.float32, checkpoint / "tiny-lora" / "liveavatar.safetensors"),
        OwnVAE(WanVAE(load_vae(folder / "Wan2.1_VAE.pth", torch.float32)), CPU),
        Condition(
            context=torch.randn(5, TEXT_DIM, generator=draw),
            reference=torch.randn(1, 16, 1, 8, 8, generator=draw),
            motion=torch.randn(1, 16, 19, 8, 8, generator=draw),
            pose=None,
        ),
        Speech.of([sound], encoder),
    )


def frames(inputs: Inputs, **options) -> torch.Tensor:
    config = options.pop("config", CONFIG)
    with torch.inference_mode():
        return torch.cat(list(open_video(inputs, config, **options).blocks()))


def test_a_session_makes_the_video_and_says_what_it_plans(inputs):
    said: list[str] = []
    unheard = replace(inputs, speech=Speech.of(inputs.speech.sounds, inputs.speech.encoder))
    stream = open_video(unheard, CONFIG, say=said.append)
    assert (stream.frames, stream.width, stream.height, stream.fps) == (25, 64, 64, 25)
    assert said == ["Listening to 1 s of speech"], "nothing else is loaded before the stream is read"
    with torch.inference_mode():
        made = torch.cat(list(stream.blocks()))
    assert made.shape == (25, 64, 64, 3) and made.float().std() > 5
    assert len(said) == 2 and "the model's own precision (fp32), caches" in said[1]


def test_what_the_consumer_of_a_block_pushed_out_comes_back(inputs, monkeypatch):
    made, brought, place = [], [], FolderModel.place

    def placed(*args):
        return replace(place(*args), bring_back=lambda: brought.append(len(made)))

    monkeypatch.setattr(FolderModel, "place", placed)
    with torch.inference_mode():
        for block in open_video(inputs, CONFIG).blocks():
            made.append(block)
    assert len(made) > 2 and {*range(1, len(made))} <= {*brought}


def test_model_and_vae_are_brought_together(inputs, monkeypatch):
    """A host that keeps nothing beside what it brings would take the model away for the VAE, and the VAE for it."""
    hosted, brought, place = HostVAE(inputs.vae.vae, object()), [], FolderModel.place

    def placed(source, performance, memory, beside, report):
        brought.append((memory > 0, *beside))
        return place(source, performance, memory, beside, report)

    monkeypatch.setattr(FolderModel, "place", placed)
    made = frames(
        replace(inputs, vae=hosted), max_seconds=0.5
    )  # there is no host here that could load the VAE alone
    assert brought == [(True, hosted.patcher)] and made.shape == (12, 64, 64, 3)


class _Noted(FolderModel):
    """A folder's model that has something to say about how it was placed."""

    def place(self, *how):
        how[-1]("Reading")
        return replace(super().place(*how), note="The copy was made anew.")


def test_what_people_should_know_of_the_model_stays_beside_the_plan(checkpoint, inputs):
    said: list[str] = []
    noted = replace(inputs, model=_Noted(checkpoint / "tiny", CPU, torch.float32))
    stream = open_video(noted, CONFIG, max_seconds=0.5, say=said.append)
    with torch.inference_mode():
        next(iter(stream.blocks()))
    assert said[-2:] == ["Reading", f"{stream.plan}\nThe copy was made anew."]


def test_the_same_inputs_make_the_same_video_and_another_seed_another(inputs):
    once, again, other = (
        frames(inputs, max_seconds=0.5, config=replace(CONFIG, seed=seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(once, again) and not torch.equal(once, other)


def test_the_lora_counts_and_tells_videos_apart(checkpoint, inputs):
    plain = replace(inputs, model=FolderModel(checkpoint / "tiny", CPU, torch.float32))
    assert not torch.equal(frames(plain, max_seconds=0.5), frames(inputs, max_seconds=0.5))
    found = {open_video(given, CONFIG).resumable.fingerprint() for given in (plain, inputs, plain)}
    assert len(found) == 2


def test_leaving_out_the_last_forward_is_said_and_tells_videos_apart(inputs):
    said: list[str] = []
    usual = open_video(inputs, CONFIG)
    shorter = open_video(inputs, CONFIG, Wish(skip_last_step=True), say=said.append)
    with torch.inference_mode():
        made = torch.cat(list(shorter.blocks()))
    assert "2 steps without the last one's forward" in said[0]
    assert usual.resumable.fingerprint() != shorter.resumable.fingerprint()
    assert shorter.resumable.about["settings"]["skip_last_step"] is True
    assert not torch.equal(made, frames(inputs))


def test_without_the_lora_guidance_makes_another_video_and_needs_a_negative_prompt(checkpoint, inputs):
    config = replace(CONFIG, guidance=4.5)
    plain = replace(inputs, model=FolderModel(checkpoint / "tiny", CPU, torch.float32))
    given = replace(plain, negative=torch.zeros(3, TEXT_DIM))
    guided = frames(given, config=config, max_seconds=0.5)
    assert not torch.equal(guided, frames(plain, max_seconds=0.5))
    other = replace(given, negative=torch.ones(3, TEXT_DIM))
    assert not torch.equal(guided, frames(other, config=config, max_seconds=0.5))
    found = {open_video(one, config).resumable.fingerprint() for one in (given, other, given)}
    assert len(found) == 2
    with pytest.raises(ValueError, match="Connect a negative prompt"):
        open_video(plain, config)
    with pytest.raises(ValueError, match="Use the UMT5-XXL text encoder"):
        open_video(replace(given, negative=torch.zeros(3, TEXT_DIM + 1)), config)
    with pytest.raises(ValueError, match="Set gpus to 'one'"):
        open_video(given, config, Wish(gpus=2))


class _Beside(FolderModel):
    """A folder's model on a machine with further devices of its kind."""

    def machine(self, wish):
        machine = super().machine(wish)
        return replace(machine, others=(Neighbour(CPU, machine.free, machine.total),) * 2)


def test_several_devices_make_the_same_video_and_say_who_does_what(checkpoint, inputs):
    lora = checkpoint / "tiny-lora" / "liveavatar.safetensors"
    shared = replace(inputs, model=_Beside(checkpoint / "tiny", CPU, torch.float32, lora))
    alone = open_video(inputs, CONFIG)
    said: list[str] = []
    for gpus, line in ((2, "2 GPUs: step 1, VAE | step 2, VAE"), (None, "3 GPUs: step 1 | step 2 | VAE")):
        stream = open_video(shared, CONFIG, Wish(gpus=gpus), say=said.append)
        assert stream.resumable.fingerprint() == alone.resumable.fingerprint()
        with torch.inference_mode():
            assert torch.equal(torch.cat(list(stream.blocks())), frames(inputs))
        assert line in said[-1]
    with pytest.raises(ValueError, match="2 GPUs are asked for"):
        open_video(inputs, CONFIG, Wish(gpus=2))


class _Graphing(FolderModel):
    """A folder's model on a device with CUDA graphs; its owner may bring the weights anew in every call."""

    steady = True

    def machine(self, wish):
        return replace(super().machine(wish), no_graphs="")

    def place(self, *args):
        return replace(super().place(*args), steady=self.steady)


def test_cuda_graphs_are_said_and_make_the_same_video_which_either_goes_on_with(
    monkeypatch, checkpoint, inputs
):
    recorded, said = stand_in(monkeypatch), []
    lora = checkpoint / "tiny-lora" / "liveavatar.safetensors"
    model = _Graphing(checkpoint / "tiny", CPU, torch.float32, lora)
    graphed = replace(inputs, model=model)
    stream = open_video(graphed, CONFIG, Wish(graphs=True), say=said.append)
    assert "caches, CUDA graphs: " in stream.plan
    assert stream.resumable.fingerprint() == open_video(inputs, CONFIG).resumable.fingerprint()
    with torch.inference_mode():
        assert torch.equal(torch.cat(list(stream.blocks())), frames(inputs))
    assert recorded.replays == 2 * 2 and "CUDA graphs" in said[-1]
    model.steady, recorded.replays = False, 0
    with torch.inference_mode():
        assert torch.equal(torch.cat(list(stream.blocks())), frames(inputs))
    assert recorded.replays == 0
    assert "without CUDA graphs, as ComfyUI brings or patches the weights in every call" in said[-1]
    with pytest.raises(ValueError, match="Set graphs to 'auto': CUDA graphs need an NVIDIA GPU"):
        open_video(inputs, CONFIG, Wish(graphs=True))


def test_what_does_not_fit_together_is_said_before_anything_is_loaded(inputs):
    short = replace(inputs.condition, context=torch.zeros(5, TEXT_DIM + 1))
    with pytest.raises(ValueError, match="Use the UMT5-XXL text encoder"):
        open_video(replace(inputs, condition=short), CONFIG)
    both = Speech.of([inputs.speech.sounds[0]] * 2, inputs.speech.encoder)
    with pytest.raises(ValueError, match="Add LiveAvatar Speaker Masks"):
        open_video(replace(inputs, speech=both), CONFIG)
    assert not both.heard, "nobody needs to listen for that"
    masks = [torch.ones(1, 8, 8), torch.ones(1, 8, 8).tril()]
    open_video(replace(inputs, speech=assign_masks(both, masks)), CONFIG)
    with pytest.raises(ValueError, match="choose 'auto' or 'balanced'"):
        open_video(inputs, CONFIG, Wish("fast"))


class Counted:
    """An audio encoder that counts how often it listens; ``width`` is that of its features, the model's if None."""

    def __init__(self, encoder: AudioEncoder, width: int | None = None) -> None:
        self.encoder, self.width, self.calls = encoder, width, 0

    def encode_audio(self, audio: torch.Tensor, sample_rate: int) -> dict:
        self.calls += 1
        layers = self.encoder.encode_audio(audio, sample_rate)["encoded_audio_all_layers"]
        return {"encoded_audio_all_layers": [layer[..., : self.width] for layer in layers]}


def test_another_seed_or_portrait_listens_to_nothing_again(inputs):
    encoder = Counted(inputs.speech.encoder)
    heard = replace(inputs, speech=Speech.of(inputs.speech.sounds, encoder))
    looks_other = replace(inputs.condition, reference=inputs.condition.reference + 1)
    first = frames(heard, max_seconds=0.5)
    assert encoder.calls == 1
    assert not torch.equal(first, frames(heard, max_seconds=0.5, config=replace(CONFIG, seed=7)))
    assert not torch.equal(first, frames(replace(heard, condition=looks_other), max_seconds=0.5))
    assert (
        open_video(heard, CONFIG).resumable.fingerprint()
        == open_video(inputs, CONFIG).resumable.fingerprint()
    )
    assert encoder.calls == 1


def test_an_encoder_of_another_width_is_refused(inputs):
    encoder = Counted(inputs.speech.encoder, width=4)
    with pytest.raises(ValueError, match=r"^Use wav2vec2-large.*25 layers of 4, the model expects 25 of"):
        open_video(replace(inputs, speech=Speech.of(inputs.speech.sounds, encoder)), CONFIG)


def test_live_speech_makes_a_video_of_unknown_length_with_its_feed_as_sound(inputs):
    feed = SpeechFeed(16_000)
    feed.write(inputs.speech.sounds[0]["waveform"][0, 0], 16_000)
    feed.end()
    live = replace(inputs, speech=LiveSpeech(feed, encoder=inputs.speech.encoder))
    stream = open_video(live, CONFIG)
    assert stream.live and stream.audio is feed and stream.resumable is None
    with torch.inference_mode():
        made = [len(block) for block in stream.blocks()]
    assert made == [9, 12, 12, 12] and feed.closed, "1 s of speech, and a block in which the mouth closes"
    with pytest.raises(ValueError, match="live speech ends by its own max_seconds"):
        open_video(live, CONFIG, max_seconds=1)


def test_moods_hold_at_their_times_and_tell_videos_apart(inputs):
    calm = frames(inputs)
    merry = with_mood((), "merry", [[torch.ones(1, 4, TEXT_DIM), {}]], "0.4-")
    given = replace(inputs, moods=merry)
    made = frames(given)
    assert torch.equal(made[:9], calm[:9]) and not torch.equal(made[9:], calm[9:])
    prints = {open_video(x, CONFIG).resumable.fingerprint() for x in (inputs, given)}
    later = with_mood((), "merry", [[torch.ones(1, 4, TEXT_DIM), {}]], "0.9-")
    prints.add(open_video(replace(inputs, moods=later), CONFIG).resumable.fingerprint())
    assert len(prints) == 3
    with pytest.raises(ValueError, match="Write times into the mood merry"):
        open_video(replace(inputs, moods=with_mood((), "merry", [[torch.ones(1, 4, TEXT_DIM), {}]])), CONFIG)


def test_live_speech_asks_for_a_mood_with_its_sound(inputs):
    moods = with_mood((), "merry", [[torch.ones(1, 4, TEXT_DIM), {}]])

    def live(mood: str) -> torch.Tensor:
        feed = SpeechFeed(16_000)
        given = replace(inputs, speech=LiveSpeech(feed, encoder=inputs.speech.encoder), moods=moods)
        stream = open_video(given, CONFIG)
        feed.write(torch.ones(7680 - 1920), 16_000)
        feed.write(torch.ones(2 * 7680), 16_000, mood=mood)
        feed.end()
        with torch.inference_mode():
            return torch.cat(list(stream.blocks()))

    usual, changed = live(""), live("merry")
    assert torch.equal(usual[:9], changed[:9]) and not torch.equal(usual[9:21], changed[9:21])
    assert torch.equal(live("neutral"), usual)
