"""The same model through our loader and through ComfyUI's own loaders gives the same pictures."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from .workflows import WIDE_CLIP, add, change, only, small

LORA = "tiny_lora_converted.safetensors"  # with alpha keys, as ComfyUI's loader needs them
FRAMES = 12


@pytest.fixture(scope="module")
def pictures(ready, wav2vec2_large) -> dict[str, np.ndarray]:
    """Frames [F, H, W, 3] by variant: one run samples the same scene with a MODEL from each way of loading."""
    workflow = small()
    checkpoint = only(workflow, "LiveAvatarLoadCheckpoint")
    change(workflow, "LiveAvatarLoadCheckpoint", **{**WIDE_CLIP, "lora": LORA})
    encoder = add(workflow, "AudioEncoderLoader", audio_encoder_name=wav2vec2_large.name)
    change(workflow, "LiveAvatarEncodeSpeech", audio_encoder=[encoder, 0])
    vae = [add(workflow, "VAELoader", vae_name="tiny_wan_vae.safetensors"), 0]
    del workflow[only(workflow, "LiveAvatarStreamToVideo")]
    sampler = only(workflow, "LiveAvatarSampler")
    settings = {**workflow[sampler]["inputs"], "max_seconds": FRAMES / 25}
    del workflow[sampler]

    def unet(weight_dtype: str = "default") -> list:
        return [add(workflow, "UNETLoader", unet_name="tiny_s2v.safetensors", weight_dtype=weight_dtype), 0]

    def host_lora(model: list, strength: float = 1.0) -> list:
        inputs = {"model": model, "lora_name": LORA, "strength_model": strength}
        return [add(workflow, "LoraLoaderModelOnly", **inputs), 0]

    def our_lora(model: list, lora: str = LORA) -> list:
        inputs = {"model": model, "lora": lora, "strength": 1.0, "download": False}
        return [add(workflow, "LiveAvatarApplyLora", **inputs), 0]

    plain = add(workflow, "LiveAvatarLoadCheckpoint", **WIDE_CLIP)
    ours, host = [checkpoint, 2], vae
    variants = {
        "our loader": ([checkpoint, 0], ours),
        "our LoRA on the host's model": (our_lora(unet()), host),
        "published form of the LoRA": (our_lora(unet(), "tiny-lora/liveavatar.safetensors"), host),
        "the host's LoRA on the host's model": (host_lora(unet()), host),
        "the host's LoRA on our model": (host_lora([plain, 0]), ours),
        "two LoRAs of half the strength": (host_lora(host_lora(unet(), 0.5), 0.5), host),
        "no LoRA": (unet(), host),
        "no LoRA, our loader": ([plain, 0], ours),
        "fp8": (host_lora(unet("fp8_e4m3fn")), host),
    }
    for number, (model, decoder) in enumerate(variants.values()):
        sample = add(workflow, "LiveAvatarSampler", **{**settings, "model": model, "vae": decoder})
        frames = add(workflow, "LiveAvatarStreamToFrames", stream=[sample, 0], frames="batch")
        add(workflow, "SaveImage", images=[frames, 0], filename_prefix=f"objects/{number}")
    files = [file for file in ready.files(ready.run(workflow)) if file.parent.name == "objects"]
    return {
        name: np.stack(
            [np.asarray(Image.open(file)) for file in sorted(files) if file.name.startswith(f"{number}_")]
        )
        for number, name in enumerate(variants)
    }


def difference(one: np.ndarray, other: np.ndarray) -> tuple[float, int]:
    """Mean and largest difference in grey levels of 255."""
    distance = np.abs(one.astype(int) - other)
    return distance.mean(), distance.max()


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


def test_fp8_weights_of_the_host_give_a_picture_near_the_full_one(pictures):
    fp8, full = pictures["fp8"], pictures["the host's LoRA on the host's model"]
    assert 0 < difference(fp8, full)[0] < 10
