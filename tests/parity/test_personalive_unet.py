"""Reference UNet and denoising UNet against the recorded reference: features, intermediates, keyframes."""

from __future__ import annotations

import re

import pytest
import torch
from avatar.engines.personalive.reference_bank import BlockContext, ReferenceBank

from tests.parity import personalive_fixtures as fx
from tests.parity.personalive_fixtures import fixture, frames_first, near

MID = {
    "time_embedding": "time_embedding",
    "down0_resnet0": "down_blocks.0.resnets.0",
    "down0_attn0": "down_blocks.0.attentions.0",
    "down0_motion0": "down_blocks.0.motion_modules.0",
    "down0_temporal0": "down_blocks.0.temporal_modules.0",
    "down0_out": "down_blocks.0",
    "down1_out": "down_blocks.1",
    "down3_out": "down_blocks.3",
    "mid_out": "mid_block",
    "up0_out": "up_blocks.0",
    "up1_out": "up_blocks.1",
}


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


def short(path: str) -> str:
    """The fixtures' name of a block: d00 for down_blocks.0.attentions.0, m for the middle."""
    parts = path.split(".")
    return "m" if parts[0] == "mid_block" else f"{parts[0][0]}{parts[1]}{parts[3]}"


def run(t, contexts, pose=True):
    unet = fx.denoising_unet()
    latents, features = frames_first(t["latents"]), frames_first(t["pose_fea"])
    return unet(latents, t["timesteps"], t["motion"][0], features if pose else None, contexts)


def bank(t, *latents, rounding=None):
    unet = fx.denoising_unet()
    result = ReferenceBank(unet, t["image_embeds"], rounding)
    for name in latents:
        result.add(fx.reference_unet()(t[name], t["image_embeds"]))
    return result.contexts


def test_reference_features():
    t, _ = fixture("02")
    features = fx.reference_unet()(t["ref_latents"], t["image_embeds"])
    recorded = {name for name in t if name.startswith("bank_")}
    assert recorded <= {f"bank_{short(path)}" for path in features}
    for path, feature in features.items():
        if f"bank_{short(path)}" in recorded:
            near(feature, t[f"bank_{short(path)}"], name=path)


def test_without_reference():
    t, _ = fixture("02")
    contexts = bank(t)
    assert all(isinstance(c, BlockContext) and c.keys is None for c in contexts)
    near(run(t, contexts), frames_first(t["noise_noref"]))
    near(run(t, contexts, pose=False), frames_first(t["noise_noref_nopose"]))


@pytest.mark.parametrize("bits", [16, 32])
def test_with_reference_and_keyframes(bits):
    t, _ = fixture("02")
    rounding = torch.float16 if bits == 16 else None
    pictures = ["ref_latents", "hk1_latents", "hk2_latents"]
    for count, name in enumerate(["noise_ref", "noise_hkf1", "noise_hkf2"], 1):
        contexts = bank(t, *pictures[:count], rounding=rounding)
        near(run(t, contexts), frames_first(t[f"{name}_fp{bits}bank"]), name=name)


def test_intermediates():
    t, _ = fixture("02")
    seen = {}
    unet = fx.denoising_unet()
    hooks = [
        unet.get_submodule(path).register_forward_hook(
            lambda module, args, out, name=name: seen.__setitem__(
                name, out[0] if isinstance(out, tuple) else out
            )
        )
        for name, path in MID.items()
    ]
    run(t, bank(t, "ref_latents", rounding=torch.float16))
    for hook in hooks:
        hook.remove()
    near(seen.pop("time_embedding"), t["mid/time_embedding"])
    for name, out in seen.items():
        recorded = fx.numbers(re.search(r"frames (.*) only", fx.meaning("02", f"mid/{name}"))[1])
        near(out[recorded], frames_first(t[f"mid/{name}"]), name=name)
