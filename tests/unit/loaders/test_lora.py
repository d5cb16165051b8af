"""Reading LoRA files in their many spellings, and merging them."""

from __future__ import annotations

import pytest
import torch
from avatar.loaders.lora import ALPHA_OVER_RANK, host_state_dict, merge_lora, read_lora
from peft import LoraModel
from safetensors.torch import save_file
from torch import nn

RANK = 4
SIZES = {"blocks.0.self_attn.q": (8, 8), "blocks.0.ffn.0": (12, 8), "blocks.10.ffn.0": (12, 8)}


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = nn.ModuleDict({"q": nn.Linear(8, 8), "k": nn.Linear(8, 8)})
        self.ffn = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(11))


@pytest.fixture
def pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    return {name: (torch.randn(RANK, i), torch.randn(o, RANK)) for name, (o, i) in SIZES.items()}


def write(path, pairs, prefix="", down="lora_A.default", up="lora_B.default", alpha=None, underscores=False):
    state = {}
    for name, (a, b) in pairs.items():
        stem = prefix + (name.replace(".", "_") if underscores else name)
        state[f"{stem}.{down}.weight"], state[f"{stem}.{up}.weight"] = a, b
        if alpha is not None:
            state[f"{stem}.alpha"] = torch.tensor(float(alpha))
    save_file(state, path)
    return path


SPELLINGS = {
    "published": {},
    "peft": {"prefix": "base_model.model."},
    "peft without adapter name": {"prefix": "base_model.model.", "down": "lora_A", "up": "lora_B"},
    "comfyui": {"prefix": "diffusion_model.", "down": "lora_A", "up": "lora_B"},
    "kohya": {"prefix": "lora_unet_", "down": "lora_down", "up": "lora_up", "underscores": True},
    "kohya, two lines": {"prefix": "lora_unet__", "down": "lora_down", "up": "lora_up", "underscores": True},
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_merges_to_the_same_weights(tmp_path, pairs, spelling):
    model = Network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    merge_lora(model, read_lora(write(tmp_path / "a.safetensors", pairs, **SPELLINGS[spelling])))
    after = model.state_dict()
    assert after.keys() == before.keys()
    for key, old in before.items():
        a, b = pairs.get(key.removesuffix(".weight"), (None, None))
        expected = old if a is None or key.endswith(".bias") else old + 0.5 * b @ a
        torch.testing.assert_close(after[key], expected, rtol=0, atol=1e-6)


def test_a_file_without_alpha_gets_the_trained_scale(tmp_path, pairs):
    lora = read_lora(write(tmp_path / "a.safetensors", pairs))
    assert (lora.rank, lora.alpha) == (RANK, ALPHA_OVER_RANK * RANK)


def test_alpha_in_the_file_wins_and_strength_multiplies(tmp_path, pairs):
    model = Network()
    before = model.blocks[0].ffn[0].weight.clone()
    lora = read_lora(write(tmp_path / "a.safetensors", pairs, alpha=RANK))
    merge_lora(model, lora, strength=-0.25)
    a, b = pairs["blocks.0.ffn.0"]
    torch.testing.assert_close(model.blocks[0].ffn[0].weight, before - 0.25 * b @ a, rtol=0, atol=1e-6)


def test_ranks_may_differ_between_modules(tmp_path, pairs):
    pairs["blocks.10.ffn.0"] = (torch.randn(2, 8), torch.randn(12, 2))
    model = Network()
    first, last = (model.blocks[i].ffn[0].weight.clone() for i in (0, 10))
    merge_lora(model, read_lora(write(tmp_path / "a.safetensors", pairs)))
    for index, old in ((0, first), (10, last)):
        a, b = pairs[f"blocks.{index}.ffn.0"]
        torch.testing.assert_close(model.blocks[index].ffn[0].weight, old + 0.5 * b @ a, rtol=0, atol=1e-6)


def test_a_half_precision_base_is_rounded_once(tmp_path, pairs):
    model = Network().bfloat16()
    base = model.blocks[0].self_attn["q"].weight.float()
    merge_lora(model, read_lora(write(tmp_path / "a.safetensors", pairs)))
    a, b = pairs["blocks.0.self_attn.q"]
    assert torch.equal(model.blocks[0].self_attn["q"].weight, (base + 0.5 * (b @ a)).bfloat16())


def test_nothing_of_the_adapter_is_left_behind(tmp_path, pairs):
    model = Network()
    model.blocks[1].requires_grad_(False)
    classes = [type(module) for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    attributes = set(vars(model))
    merge_lora(model, read_lora(write(tmp_path / "a.safetensors", pairs)))
    assert [type(module) for module in model.modules()] == classes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert set(vars(model)) == attributes


@pytest.mark.parametrize("method", ["inject_adapter", "merge_and_unload"])
def test_peft_meets_no_config_of_ours_which_its_oldest_version_takes_for_a_dictionary(
    tmp_path, pairs, monkeypatch, method
):
    model, seen, whole = Network(), [], getattr(LoraModel, method)
    model.config = own = object()

    def watched(self, *args, **options):
        seen.append(hasattr(model, "config"))
        return whole(self, *args, **options)

    monkeypatch.setattr(LoraModel, method, watched)
    merge_lora(model, read_lora(write(tmp_path / "a.safetensors", pairs)))
    assert seen == [False] and model.config is own


def test_a_lora_of_another_model_is_refused_before_anything_changes(tmp_path, pairs):
    model = Network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    pairs["blocks.11.ffn.0"] = (torch.randn(RANK, 8), torch.randn(12, RANK))
    with pytest.raises(ValueError, match=r"belongs to another model.*blocks\.11\.ffn\.0"):
        merge_lora(model, read_lora(write(tmp_path / "a.safetensors", pairs)))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_lora_of_another_width_is_refused(tmp_path, pairs):
    pairs["blocks.0.ffn.0"] = (torch.randn(RANK, 16), torch.randn(12, RANK))
    with pytest.raises(ValueError, match=r"another size \(blocks\.0\.ffn\.0 is 12x16, here 12x8"):
        merge_lora(Network(), read_lora(write(tmp_path / "a.safetensors", pairs)))


def test_the_hosts_keys_carry_alpha_and_read_back_the_same(tmp_path, pairs):
    lora = read_lora(write(tmp_path / "a.safetensors", pairs))
    state = host_state_dict(lora)
    assert state["diffusion_model.blocks.0.ffn.0.alpha"].item() == lora.alpha
    save_file(state, tmp_path / "b.safetensors")
    again = read_lora(tmp_path / "b.safetensors")
    assert again.alphas == lora.alphas
    assert all(torch.equal(a, again.pairs[name][0]) for name, (a, _) in lora.pairs.items())


def test_a_model_file_is_not_taken_for_a_lora(tmp_path):
    save_file({"blocks.0.ffn.0.weight": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="is no LoRA"):
        read_lora(tmp_path / "model.safetensors")


def test_weights_besides_the_pairs_are_named(tmp_path, pairs):
    a, b = pairs["blocks.0.ffn.0"]
    state = {"m.lora_A.weight": a, "m.lora_B.weight": b, "m.dora_scale": torch.ones(3)}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"no ordinary LoRA pairs \(m\.dora_scale\)"):
        read_lora(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"m.lora_A.weight": torch.zeros(4, 8)}, "only one half"),
        (
            {"m.lora_A.weight": torch.zeros(0, 8), "m.lora_B.weight": torch.zeros(8, 0)},
            "does not fit together",
        ),
        (
            {"m.lora_A.weight": torch.zeros(4, 8), "m.lora_B.weight": torch.zeros(8, 2)},
            "does not fit together",
        ),
        (
            {"m.lora_A.weight": torch.zeros(0, 8), "m.lora_B.weight": torch.zeros(8, 0)},
            "does not fit together",
        ),
        (
            {"m.lora_A.weight": torch.ones(4, 8, dtype=torch.int8), "m.lora_B.weight": torch.ones(8, 4)},
            "pair of m holds torch.int8",
        ),
    ],
)
def test_broken_pairs_are_named(tmp_path, state, message):
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=message):
        read_lora(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("part", ["lora_A", "lora_B", "alpha"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2], ids=str)
def test_weights_that_are_no_numbers_are_refused(tmp_path, part, value, dtype):
    state = {
        "m.lora_A.weight": torch.ones(4, 8).to(dtype),
        "m.lora_B.weight": torch.ones(8, 4).to(dtype),
        "m.alpha": torch.tensor(4.0),
    }
    name = next(name for name in state if part in name)
    spoiled = state[name].float()
    spoiled.view(-1)[-1] = value
    save_file(state | {name: spoiled.to(state[name].dtype)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged: its weights for m are NaN or infinite"):
        read_lora(tmp_path / "a.safetensors")


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused_before_anything_changes(tmp_path, pairs, strength):
    model = Network()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="Set the LoRA's strength to a number"):
        merge_lora(model, read_lora(write(tmp_path / "a.safetensors", pairs)), strength)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_half_downloaded_file_says_so(tmp_path, pairs):
    path = write(tmp_path / "a.safetensors", pairs)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="download it again"):
        read_lora(path)
