"""The same model through our loader and through ComfyUI's own loaders gives the same pictures."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import load_file

from tools.tiny_fp8 import write_fp8_with_metadata, write_scaled_fp8

from .variants import FRAMES, Variants, difference
from .workflows import WIDE_CLIP


@pytest.fixture(scope="module")
def pictures(ready, wav2vec2_large) -> dict[str, np.ndarray]:
    """Frames [F, H, W, 3] by variant: one run samples the same scene with a MODEL from each way of loading."""
    variants = Variants(wav2vec2_large.name)
    unet, host_lora, our_lora = variants.unet, variants.host_lora, variants.our_lora
    ours = [variants.checkpoint, 2]
    plain = variants.node("LiveAvatarLoadCheckpoint", **WIDE_CLIP)
    folder = ready.models_dir / "diffusion_models"
    state = load_file(folder / "tiny_s2v.safetensors")
    write_scaled_fp8(folder / "tiny_scaled.safetensors", state)
    write_fp8_with_metadata(folder / "tiny_metadata.safetensors", state)
    for name, model, vae in (
        ("our loader", [variants.checkpoint, 0], ours),
        ("our LoRA on the host's model", our_lora(unet()), None),
        ("published form of the LoRA", our_lora(unet(), "tiny-lora/liveavatar.safetensors"), None),
        ("the host's LoRA on the host's model", host_lora(unet()), None),
        ("the host's LoRA on our model", host_lora(plain), ours),
        ("two LoRAs of half the strength", host_lora(host_lora(unet(), 0.5), 0.5), None),
        ("no LoRA", unet(), None),
        ("no LoRA, our loader", plain, ours),
        ("fp8", host_lora(unet(weight_dtype="fp8_e4m3fn")), None),
        ("fp8, scaled", our_lora(unet("tiny_scaled.safetensors")), None),
        ("fp8 by metadata", our_lora(unet("tiny_metadata.safetensors")), None),
    ):
        variants.sample(name, model, vae)
    return variants.pictures(ready)


def test_without_a_lora_every_loader_gives_the_same_pictures(pictures):
    np.testing.assert_array_equal(pictures["no LoRA, our loader"], pictures["no LoRA"])
    assert pictures["no LoRA"].shape == (FRAMES, 64, 64, 3)


@pytest.mark.parametrize(
    "variant",
    ["our LoRA on the host's model", "published form of the LoRA", "the host's LoRA on our model"],
)
def test_a_lora_is_the_same_whoever_applies_it(pictures, variant):
    np.testing.assert_array_equal(pictures[variant], pictures["the host's LoRA on the host's model"])


def test_a_lora_merged_by_our_loader_differs_by_one_rounding_of_the_weights(pictures):
    # Our loader rounds the merged weights to the file's bf16, the host adds the LoRA to its float32 copy.
    mean, largest = difference(pictures["our loader"], pictures["the host's LoRA on the host's model"])
    assert largest <= 2
    assert mean < 0.1


def test_a_stack_of_loras_adds_up(pictures):
    stack, single = (
        pictures["two LoRAs of half the strength"],
        pictures["the host's LoRA on the host's model"],
    )
    assert difference(stack, single)[1] <= 1


def test_the_lora_is_not_ignored(pictures):
    assert difference(pictures["the host's LoRA on the host's model"], pictures["no LoRA"])[0] > 1


@pytest.mark.parametrize("variant", ["fp8", "fp8, scaled", "fp8 by metadata"])
def test_fp8_weights_of_the_host_give_a_picture_near_the_full_one(pictures, variant):
    # The host rounds patched weights up or down at random, hosts of different ages with other numbers: how near one
    # draw comes is luck (2.4 or 3.2 of 255 for "fp8"), but not which of the two pictures it is near.
    full, without = pictures["the host's LoRA on the host's model"], pictures["no LoRA"]
    to_full, to_without = (difference(pictures[variant], picture)[0] for picture in (full, without))
    assert 0 < to_full < min(4, difference(without, full)[0])
    assert to_full < 0.7 * to_without
