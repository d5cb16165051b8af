"""LongCat's transformer against the recorded reference: calls of every kind, in one pass and with the cache."""

from __future__ import annotations

import pytest
import torch
from avatar.engines.longcat.cache import CleanCache
from avatar.engines.longcat.int8 import Int8Linear, quantise, use_int8
from avatar.engines.longcat.layout import Layout
from avatar.engines.longcat.speakers import Speakers, speakers
from avatar.engines.parts.wan.rope import RotaryEmbedding, rotate
from avatar.loaders.longcat.lora import apply_longcat_lora, read_longcat_lora

from tests.parity.longcat_fixtures import (
    FAMILY,
    close,
    file_of,
    fresh_transformer,
    listed,
    manifest,
    tensor,
    transformer,
)
from tests.parity.reference import reference_dir

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def given(case, name):
    """An input of a case; None where it has none."""
    source = case["inputs"].get(name)
    if source is None:
        return None
    return torch.zeros(source["zeros"]) if "zeros" in source else tensor(source["file"], source["tensor"])


def in_eight_bits(model):
    """Every layer but the last in 8 bits, as the published checkpoint stores them."""
    weights = {
        name: layer.weight for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)
    }
    biases = {name: layer.bias for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear)}
    use_int8(model)
    for name, layer in model.named_modules():
        if isinstance(layer, Int8Linear):
            layer.weight_int8, layer.weight_scale = quantise(weights[name])
            layer.bias = biases[name]


def model_of(case):
    settings = case["config"], case["weights"], case["zero_pad"]
    if case.get("int8"):
        model = fresh_transformer(*settings)
        in_eight_bits(model)
        return model
    if case.get("lora"):
        model = fresh_transformer(*settings)
        path = reference_dir(FAMILY) / case["lora"]["file"]
        if not path.is_file():
            pytest.skip(f"the reference set has no {FAMILY}/{path.name}")
        apply_longcat_lora(model, read_longcat_lora(path), case["lora"]["strength"])
        return model
    return transformer(*settings)


class Call:
    """One sample of a case, run as the engine runs it: clean latents first, then the noisy ones."""

    def __init__(self, case, model, sample):
        arguments = case["arguments"]
        latents, times, self.model = given(case, "hidden_states"), given(case, "timestep"), model
        one = min(sample, len(latents) - 1)
        latents, time = latents[one : one + 1], times[one].reshape(-1)
        clean, rows, columns = (
            arguments.get("num_cond_latents", 0),
            latents.shape[3] // 2,
            latents.shape[4] // 2,
        )
        self.layout = Layout(
            rows,
            columns,
            clean,
            latents.shape[2] - clean,
            arguments["ref_img_index"] if arguments.get("num_ref_latents") else None,
            arguments.get("mask_frame_range", 0),
        )
        mask = given(case, "encoder_attention_mask")[sample].bool()
        text = model.encode_text(given(case, "encoder_hidden_states")[sample, 0][mask], int((~mask).sum()))
        masks, heard = given(case, "ref_target_masks"), given(case, "audio_embs")
        several = None if masks is None else speakers(masks, len(heard), rows, columns, model.config)
        heard = heard[one : one + 1] if several is None else heard
        speech = model.encode_speech(heard)[-self.layout.noisy :]
        rope = RotaryEmbedding(model.config.head_dim, half_precision=False)
        self.cache, self.plain = CleanCache(self.layout), []
        self.clean_out = latents[:, :, :0]
        if clean:
            still = model.encode_time(torch.zeros(1))
            self.turn = self.layout.clean_rotation(rope, CPU)
            self.clean_out = model.prefill(latents[:, :, :clean], self.layout, still, self.turn, self.store)
        assert (time[clean:] == time[-1]).all()  # noisy latents share one time
        own = model.encode_time(time[-1:])
        turn = self.layout.noisy_rotation(rope, CPU)
        self.out = model(latents[:, :, clean:], own, turn, self.cache, text, speech, several)

    def store(self, layer, k, v):
        cosines, sines = self.turn
        self.plain.append((rotate(k, (cosines, -sines)), v))  # the reference keeps them before rotation
        self.cache.store(layer, k, v)


@pytest.mark.parametrize("case", listed("cases"))
def test_calls(case, monkeypatch):
    maps = []
    original = Speakers.attention_map
    monkeypatch.setattr(Speakers, "attention_map", lambda *args: maps.append(original(*args)) or maps[-1])
    model = model_of(case)
    samples = len(given(case, "encoder_hidden_states"))
    calls = [Call(case, model, sample) for sample in range(samples)]
    assert case["expect"].keys() <= {"out", "cached_out", "map_block0", "cache"}
    for kind, place in case["expect"].items():
        if kind == "out":
            whole = torch.cat([torch.cat((call.clean_out, call.out), 2) for call in calls])
            close(whole, place["file"], place["tensor"])
        elif kind == "cached_out":
            close(torch.cat([call.out for call in calls]), place["file"], place["tensor"])
        elif kind == "map_block0":
            close(maps[0], place["file"], place["tensor"])
        else:
            names = place["tensor"].split(", ")
            for block, pair in enumerate(calls[0].plain):
                for name, kept in zip(names, pair, strict=True):
                    close(kept.transpose(1, 2), place["file"], name.format(block=block))


def test_inner_values():
    case = next(case for case in manifest()["cases"] if case["name"] == "ai2v_v10")
    file, model = file_of("08"), transformer(case["config"], case["weights"])
    seen = {}
    wanted = {"final": model.final_layer, "last_block": model.blocks[-1]}
    block = model.blocks[0]
    wanted |= {"attn": block.attn.proj, "cross_attn": block.cross_attn.proj, "ffn": block.ffn, "block": block}
    wanted["audio_attn_noise"] = block.audio_cross_attn.proj
    hooks = [
        layer.register_forward_hook(lambda _, __, out, name=name: seen.setdefault(name, []).append(out))
        for name, layer in wanted.items()
    ]
    for sample in range(len(given(case, "encoder_hidden_states"))):
        Call(case, model, sample)
    for hook in hooks:
        hook.remove()
    for name in (
        "attn",
        "ffn",
        "block",
        "last_block",
        "final",
    ):  # clean tokens, noisy tokens, of both samples in turn
        pairs = zip(seen[name][::2], seen[name][1::2], strict=True)
        close(torch.cat([torch.cat(pair, 1) for pair in pairs]), file, name)
    noisy = tensor(file, "audio_attn_noise").shape[1]
    close(torch.cat(seen["audio_attn_noise"]), file, "audio_attn_noise")
    clean = tensor(file, "cross_attn").shape[1] - noisy
    assert not tensor(file, "cross_attn")[:, :clean].any()
    close(torch.nn.functional.pad(torch.cat(seen["cross_attn"]), (0, 0, clean, 0)), file, "cross_attn")
    times, heard = given(case, "timestep"), given(case, "audio_embs")
    close(model.encode_time(times.flatten()), file, "time")
    close(model.y_embedder.y_proj(given(case, "encoder_hidden_states")), file, "text")
    close(model.audio_proj(heard), file, "audio")


def test_eight_bit_weights():
    file, entry = file_of("11_lora_int8"), next(case for case in manifest()["cases"] if case.get("int8"))
    weight, scale = quantise(transformer(entry["config"], entry["weights"]).blocks[0].attn.qkv.weight)
    close(weight, file, "int8_qkv_weight")
    close(scale, file, "int8_qkv_scale")
