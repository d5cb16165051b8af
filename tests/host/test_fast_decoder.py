"""A small decoder in a real ComfyUI: from our node and from Load VAE, and what is said when it does not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tools.connection import HostError
from tools.host import Host
from tools.host_events import HostEvents

from .media import check_talks, read_video
from .models import random_decoder
from .workflows import Api, put, small

FILE = "lighttaew2_1.safetensors"
SEED = 11


@pytest.fixture(scope="module", autouse=True)
def files(ready: Host) -> Iterator[None]:
    """Random decoders of the published size in the host's folders, one of them without a weight."""
    state = random_decoder()
    folder = ready.models_dir / "vae_approx"
    folder.mkdir(exist_ok=True)
    before = set(folder.iterdir())
    save_file(state, folder / FILE)
    broken = {name: value for name, value in state.items() if name != "decoder.9.conv.2.bias"}
    save_file(broken, folder / "broken_taew2_1.safetensors")
    yield
    for path in set(folder.iterdir()) - before:
        path.unlink()


def ours(workflow: Api, name: str = FILE) -> Api:
    put(workflow, "LiveAvatarSampler", "decoder", "LiveAvatarLoadFastDecoder", decoder=name)
    return workflow


def hosts(workflow: Api, name: str = FILE, field: str = "decoder") -> Api:
    put(workflow, "LiveAvatarSampler", field, "VAELoader", vae_name=name)
    return workflow


@pytest.fixture(scope="module")
def frames(ready: Host, files: None) -> dict[str, np.ndarray]:
    """The same scene by the VAE's own decoder and by the small one, from our loader and from the host's."""
    found = {}
    for name, workflow in (
        ("full", small(seed=SEED)),
        ("ours", ours(small(seed=SEED))),
        ("host's", hosts(small(seed=SEED))),
    ):
        video = read_video(ready.video(workflow))
        check_talks(video, (64, 64), 8, 24_000, 1)
        found[name] = video.frames
    return found


def test_both_loaders_give_the_same_pictures(frames):
    np.testing.assert_array_equal(frames["ours"], frames["host's"])


def test_the_pictures_are_the_small_decoders(frames):
    assert np.abs(frames["ours"].astype(int) - frames["full"]).mean() > 5


def test_the_plan_on_the_node_names_it(ready: Host):
    with HostEvents(ready) as events:
        ready.wait(ready.submit(ours(small(seed=SEED + 1)), events.client_id))
    assert any(b"fast decoder (lighttaew2_1)" in message for message in events.previews)


def test_only_files_for_these_latents_can_be_chosen(ready: Host):
    save_file({"x": torch.zeros(1)}, ready.models_dir / "vae_approx" / "taehv.safetensors")
    (field,) = ready.pack_nodes()["LiveAvatarLoadFastDecoder"]["input"]["required"].values()
    choices = field[1]["options"] if isinstance(field[0], str) else field[0]
    files = ["broken_taew2_1.safetensors", FILE, "tiny_taew2_1.safetensors"]
    assert [name for name in choices if "shipped" not in name] == files


MISTAKES: dict[str, tuple[Callable[[Api], Api], str]] = {
    "a weight is missing": (
        lambda workflow: ours(workflow, "broken_taew2_1.safetensors"),
        r"LiveAvatarLoadFastDecoder .*1 weights missing \(decoder\.9\.conv\.2\.bias\)",
    ),
    "the full VAE as decoder": (
        lambda workflow: hosts(workflow, "tiny_wan_vae.safetensors"),
        "LiveAvatarSampler .*full VAE; disconnect the sampler's 'decoder'",
    ),
    "the small decoder as VAE": (
        lambda workflow: hosts(workflow, field="vae"),
        "LiveAvatarSampler .*tiny preview VAE, which only decodes",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_does_not_fit_is_one_clear_sentence(ready: Host, mistake: str):
    spoil, words = MISTAKES[mistake]
    with pytest.raises(HostError, match=f"(?s){words}") as failure:
        ready.run(spoil(small()))
    assert len(str(failure.value).splitlines()) == 1
