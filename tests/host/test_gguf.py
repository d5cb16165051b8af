"""GGUF files, loaded by city96's ComfyUI-GGUF, make the pictures of the weights that they hold."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from tools.tiny_gguf import write_gguf

from .variants import FRAMES, Variants, difference

KINDS = "Q8_0", "Q4_0"


@pytest.fixture(scope="module")
def pictures(ready, request) -> dict[str, np.ndarray]:
    """Frames [F, H, W, 3] of one scene by weights ("full", a GGUF type, or what a file of that type holds, read by
    ComfyUI itself), with and without the LoRA."""
    if not ready.has_gguf:
        pytest.skip("GGUF_PATH names no ComfyUI-GGUF")
    variants = Variants(request.getfixturevalue("wav2vec2_large").name)
    folder = ready.models_dir / "diffusion_models"
    models = {"full": variants.unet()}
    for kind in KINDS:
        held = write_gguf(folder / f"tiny_{kind}.gguf", load_file(folder / "tiny_s2v.safetensors"), kind)
        save_file(held, folder / f"tiny_{kind}.safetensors")
        models[kind] = variants.node("UnetLoaderGGUF", unet_name=f"tiny_{kind}.gguf")
        models[f"held by {kind}"] = variants.unet(f"tiny_{kind}.safetensors")
    for name, model in models.items():
        variants.sample(name, model)
        variants.sample(f"{name} with LoRA", variants.our_lora(model))
    return variants.pictures(ready)


LORA = ["", " with LoRA"]


@pytest.mark.parametrize("lora", LORA)
@pytest.mark.parametrize("kind", KINDS)
def test_the_pictures_are_those_of_the_values_in_the_file(pictures, kind, lora):
    """One matrix of a block that is a tenth too large makes 0.5 to 0.7, a LoRA at 0.9 instead of 1 makes 0.4."""
    assert pictures[kind + lora].shape == (FRAMES, 64, 64, 3)
    mean, largest = difference(pictures[kind + lora], pictures[f"held by {kind}{lora}"])
    assert mean < 0.05
    assert largest <= 2


@pytest.mark.parametrize("lora", LORA)
@pytest.mark.parametrize(("kind", "bound"), [("Q8_0", 0.35), ("Q4_0", 3.5)])
def test_the_pictures_are_near_those_of_the_full_weights(pictures, kind, bound, lora):
    assert 0 < difference(pictures[kind + lora], pictures["full" + lora])[0] < bound


@pytest.mark.parametrize("kind", KINDS)
def test_the_lora_is_not_ignored(pictures, kind):
    assert difference(pictures[f"{kind} with LoRA"], pictures[kind])[0] > 3
