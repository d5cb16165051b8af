"""Ditto's noise schedule, motion model and sampling against the recorded reference."""

from __future__ import annotations

import re

import pytest
import torch
from avatar.engines.ditto.lmdm import Sampler
from avatar.engines.ditto.schedule import Steps, cosine_betas, remaining

from tests.parity import ditto_fixtures as fx
from tests.parity.ditto_fixtures import check, drawn, fixture, given, motion_model


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_weights_are_those_of_the_reference_run(size):
    spec = fx.weights()
    files = spec["files"] if size == "tiny" else {"lmdm": spec["full_size"]["files"]["lmdm"]}
    for name, entry in files.items():
        values = [t.double() for t in fx.state(name, size).values()]
        assert len(values) == entry["checks"]["keys"], name
        for way, total in (
            ("sum", sum(v.sum() for v in values)),
            ("abs_sum", sum(v.abs().sum() for v in values)),
        ):
            assert total.item() == pytest.approx(entry["checks"][way], rel=1e-6), (name, way)


def test_schedule():
    t, _ = fixture("01")
    share = remaining()
    check(cosine_betas(), "01", "betas", t)
    check(share, "01", "alphas_cumprod", t)
    check((1 / (1 - share)).sqrt(), "01", "sqrt_recip1m", t)
    check((1 / share - 1).sqrt(), "01", "sqrt_recipm1", t)


def step_counts():
    if not fx.has_fixture(fx.FAMILY, "01"):
        return []
    return [
        int(n[6:]) for n in fx.manifest_entry(fx.FAMILY, "01")["tensors"] if re.fullmatch(r"times_\d+", n)
    ]


@pytest.mark.parametrize("count", step_counts())
def test_constants_of_the_steps(count):
    t, _ = fixture("01")
    steps = Steps(count)
    assert steps.times == t[f"times_{count}"].tolist()
    check(torch.tensor(steps.spread), "01", f"sigma_{count}", t)
    recorded = t[f"c_{count}"]
    # The reference's first one is good to a few 2**-24 only (`fx.first_directions`).
    assert abs(steps.direction[0] ** 2 - recorded[0] ** 2) < 4 * 2**-24
    check(torch.tensor([recorded[0].item(), *steps.direction[1:]]), "01", f"c_{count}", t)
    check(torch.tensor(steps.signal), "01", f"alpha_next_sqrt_{count}", t)


def inputs():
    _, values = fixture("02")
    return (
        given("02", "x"),
        given("02", "cond_frame"),
        given("02", "cond"),
        torch.tensor(values["times"]["value"]),
    )


def test_branches_and_guidance():
    t, values = fixture("02")
    model = motion_model()
    x, before, condition, times = inputs()
    own = model(x, before, model.conditioned(condition), times)
    none = model(x, before, model.unconditioned(), times)
    check(own, "02", "conditioned", t)
    check(none, "02", "unconditioned", t)
    check(none + values["guidance_weight"] * (own - none), "02", "guided", t)


def test_intermediates():
    t, _ = fixture("02")
    model = motion_model()
    x, before, condition, times = inputs()
    seen = {}
    watched = {
        "input_projection": model.input_projection,
        "time_mlp": model.time_mlp,
        "layer0": model.layers[0],
        "cond_encoder": model.cond_encoder[-1],
    }
    hooks = [
        module.register_forward_hook(lambda module, args, out, name=name: seen.__setitem__(name, out))
        for name, module in watched.items()
    ]
    model(x, before, model.conditioned(condition), times)
    for hook in hooks:
        hook.remove()
    for name, value in seen.items():
        check(value, "02", f"mid_{name}", t)


def test_memory_of_condition_and_time():
    t, _ = fixture("02")
    model = motion_model()
    _, _, condition, times = inputs()
    seen = []
    hook = model.norm_cond.register_forward_hook(lambda module, args, out: seen.append(out))
    model.conditioned(condition)
    model.times(times)
    model.unconditioned()
    hook.remove()
    own, moment, none = seen
    check(torch.cat([own, moment], 1), "02", "mid_memory", t)
    check(torch.cat([none.expand(len(moment), -1, -1), moment], 1), "02", "memory_unconditioned", t)


@pytest.mark.parametrize("size", ["tiny", "full"])
def test_production_calls(size):
    """One row alone at one time: the guided motion, and the noise that follows from it."""
    t, _ = fixture("02")
    prefix = "full_" if size == "full" else ""
    found = [n for n in t if re.fullmatch(rf"{prefix}(x_start|pred_noise)_\d+", n)]
    if not found:
        pytest.skip(f"the reference set has no production calls of the {size} model")
    model = motion_model(size)
    x, before, condition, _ = (part[:1] for part in inputs())
    share = remaining()
    for name in found:
        time = int(name.rpartition("_")[2])
        moment = torch.tensor([time])
        own = model(x, before, model.conditioned(condition), moment)
        none = model(x, before, model.unconditioned(), moment)
        clean = torch.lerp(none, own, 2.0)
        if "x_start" in name:
            check(clean, "02", name, t)
            continue
        noise = x * (1 / (1 - share[time])).sqrt() - clean / (1 / share[time] - 1).sqrt()
        limit = 1e-5 * t[name].abs().max() if size == "tiny" else 1e-4 * t[name].abs().max()
        assert (noise - t[name]).abs().max() <= limit, name


def sample(case, steps, size="tiny", second=False):
    """A whole window with the case's noise; also what enters each step."""
    sampler = Sampler(motion_model(size), steps)
    shape = (1, 80, 265)
    noises = torch.cat([drawn(f"03/{case}/step/{i}", shape) for i in range(steps - 1)])
    entering = [drawn(f"03/{case}/clip/{int(second)}", shape)]
    advance = sampler.steps.advance
    sampler.steps.advance = lambda *args: (entering.append(advance(*args)), entering[-1])[1]
    motion = sampler(entering[0], noises, given("03", "cond_frame"), given("03", "cond"))
    return motion, torch.cat(entering)


@pytest.mark.parametrize("case", ["ten", "fifty"])
def test_sampling(case):
    t, values = fixture("03")
    motion, entering = sample(case, values[f"{case}_steps"])
    check(entering[:, ::16, ::15], "03", f"{case}_x", t)
    check(motion, "03", case, t)


@pytest.mark.parametrize("case", ["ten", "fifty"])
def test_another_start_with_the_same_noise_of_the_steps(case):
    t, values = fixture("03")
    check(sample(case, values[f"{case}_steps"], second=True)[0], "03", f"{case}_second", t)


def test_full_size_sampling():
    t, values = fixture("03")
    check(sample("full", values["full_steps"], size="full")[0], "03", "full", t)
