"""Which way of running the 14B model is chosen for which card; no GPU is needed for it."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from avatar.engines.gpu.graphs import ASYNCHRONOUS
from avatar.engines.liveavatar.config import FLOAT32_PARTS, S2VConfig, SamplingConfig
from avatar.engines.liveavatar.costs import Model, VideoCosts, fp8_bytes
from avatar.engines.liveavatar.fp8_blocks import quantise_transformer
from avatar.engines.parts.kv.cache import CacheFormat
from avatar.engines.parts.planning.performance import RESIDENT
from avatar.engines.parts.planning.plan import CHOICES, RESERVE, Machine, Wish, make_plan
from avatar.engines.parts.planning.sharing import DECODING, Neighbour, ways

from tests.unit import tiny_s2v

GIB = 2**30
WEIGHTS = int(32.6e9)
BF16 = Model(S2VConfig(), WEIGHTS, torch.bfloat16)
SIZE = (384, 704)


def card(size: float, *, fp8: bool = True, ram: int = 100, used: float = 0.6) -> Machine:
    """A GPU of ``size`` GiB of which the driver has taken some."""
    return Machine(
        free=int((size - used) * GIB),
        total=int(size * GIB),
        free_cpu=ram * GIB,
        gpu=True,
        fp8=fp8,
        attention8=fp8,
    )


def plan(machine: Machine, wish: Wish | str = "auto", model: Model = BF16, size=SIZE, **options):
    wish = Wish(wish) if isinstance(wish, str) else wish
    return make_plan(VideoCosts(model, *size, SamplingConfig(**options)), machine, wish)


def chosen(*args, **options) -> dict:
    """What differs from the plainest way, but for what costs nothing but memory."""
    found = asdict(plan(*args, **options).performance).items()
    return {name: value for name, value in found if value and value != RESIDENT.caches and name != "ahead"}


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (139.8, {"fp8": True}),
        (80, {"fp8": True}),
        (48, {"fp8": True, "caches": CacheFormat.INT8}),
        (32, {"fp8": True, "caches": CacheFormat.INT8, "caches_on_cpu": 4}),
    ],
)
def test_auto_takes_the_fastest_that_fits(size, expected):
    assert chosen(card(size)) == expected


@pytest.mark.parametrize(("size", "blocks"), [(24, range(10, 21)), (16, range(35, 41))])
def test_auto_on_small_cards_keeps_as_many_blocks_as_fit(size, blocks):
    found = chosen(card(size))
    assert found.pop("blocks_on_cpu") in blocks
    assert found == {"fp8": True, "caches": CacheFormat.INT8, "caches_on_cpu": 4}


@pytest.mark.parametrize(
    ("size", "expected"),
    [(139.8, {}), (80, {"caches": CacheFormat.INT8}), (48, {"fp8": True, "caches": CacheFormat.INT8})],
)
def test_balanced_rounds_no_more_than_it_has_to(size, expected):
    assert chosen(card(size), "balanced") == expected


@pytest.mark.parametrize("size", [139.8, 80, 48, 32])
def test_quality_rounds_nothing(size):
    found = plan(card(size), "quality")
    assert not (found.performance.fp8 or found.performance.caches is not CacheFormat.MODEL)


@pytest.mark.parametrize("size", [80, 32])
def test_fast_is_auto_with_8_bit_attention(size):
    auto, fast = (plan(card(size), choice).performance for choice in ("auto", "fast"))
    assert fast == replace(auto, caches=CacheFormat.ATTENTION8)


def test_fast_without_8_bit_attention_is_as_fast_as_it_can_be():
    expected = {"fp8": True}
    assert chosen(replace(card(80), attention8=False), "fast") == expected
    assert chosen(card(80), Wish("fast", caches=(CacheFormat.MODEL, CacheFormat.INT8))) == expected
    assert chosen(card(80), Wish("fast", caches=(CacheFormat.MODEL,))) == expected
    assert chosen(card(80), Wish("fast", caches=(CacheFormat.INT8,))) == expected | {
        "caches": CacheFormat.INT8
    }


def test_8_bit_attention_takes_about_half_of_the_caches_memory():
    exact, eight = (
        plan(card(139.8), Wish(caches=(format,))) for format in (CacheFormat.MODEL, CacheFormat.ATTENTION8)
    )
    assert 0.4 < eight.caches / exact.caches < 0.5
    assert "8-bit attention" in eight.text and "8-bit" not in exact.text


@pytest.mark.parametrize(
    ("size", "choice", "expected"),
    [
        (139.8, "quality", True),
        (80, "auto", True),
        (80, "fast", True),
        (48, "auto", False),
        (24, "auto", False),
        (139.8, "low memory", False),
    ],
)
def test_blocks_are_sampled_ahead_where_there_is_room(size, choice, expected):
    assert plan(card(size), choice).performance.ahead == expected


def test_there_is_enough_for_blocks_in_turn_before_anything_else_is_given_up():
    machine = card(80)
    ahead = plan(machine)
    less = plan(replace(machine, free=int(ahead.needed + RESERVE * machine.total) - 1))
    assert less.performance == replace(ahead.performance, ahead=False)
    assert less.needed < ahead.needed and less.caches == ahead.caches


@pytest.mark.parametrize("choice", CHOICES)
def test_a_fast_decoder_is_named(choice):
    with_it, without = (plan(card(80), Wish(choice, fast_decoder=name)) for name in ("taew2_1", ""))
    assert with_it.performance == replace(without.performance, fast_decoder="taew2_1")
    assert "fast decoder (taew2_1)" in with_it.text
    assert "fast decoder" not in without.text


@pytest.mark.parametrize("size", [139.8, 16])
def test_low_memory_takes_the_least(size):
    least = plan(card(size), "low memory")
    assert all(least.needed <= plan(card(139.8), choice).needed for choice in CHOICES)
    assert least.needed < 17e9


@pytest.mark.parametrize("choice", ["auto", "quality", "balanced", "low memory"])
@pytest.mark.parametrize("size", [24, 16])
def test_a_gpu_without_fp8_leaves_weights_to_the_host(size, choice):
    found = plan(card(size, fp8=False), choice)
    assert found.streamed > 0 and not found.performance.fp8 and not found.performance.blocks_on_cpu
    assert found.weights + found.streamed == pytest.approx(WEIGHTS)
    assert "off-loaded by ComfyUI" in found.text


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("size", [139.8, 80, 48, 32, 24, 16])
@pytest.mark.parametrize("steps", [2, 4])
def test_what_is_planned_fits(size, choice, steps):
    machine = card(size)
    found = plan(machine, choice, steps=steps)
    assert found.needed <= machine.free - RESERVE * machine.total + 1
    assert found.cpu <= machine.free_cpu
    assert found.text.count("\n") == 0 and f"of {machine.total / 1e9:.1f} GB" in found.text


def test_free_memory_counts_not_the_size_of_the_card():
    busy = replace(card(80), free=40 * GIB)
    assert chosen(busy) == chosen(replace(card(80), free=39 * GIB)) != chosen(card(80))


def test_a_larger_picture_and_a_longer_window_need_more():
    usual = plan(card(139.8), "quality")
    assert plan(card(139.8), "quality", size=(448, 768)).needed > usual.needed
    assert plan(card(300), "quality", frames_per_clip=96).caches > 1.5 * usual.caches


def test_little_cpu_memory_rules_out_what_waits_there():
    with pytest.raises(MemoryError, match=r"needs at least .* GB of GPU memory and .* GB of CPU memory"):
        plan(card(16, ram=8), model=replace(BF16, streams=False))


def test_a_copy_of_the_model_in_cpu_memory_is_planned_for_until_it_is_there():
    whole, _ = fp8_bytes(S2VConfig(), torch.bfloat16)
    assert plan(card(80)).cpu == whole
    assert plan(replace(card(80), copied=whole)).cpu == 0
    assert chosen(replace(card(80), free_cpu=whole - 1)) == {"caches": CacheFormat.INT8}


def test_nothing_fits_a_tiny_card():
    with pytest.raises(MemoryError, match=r"704x384 video in 4 steps needs at least .* can be taken"):
        plan(card(6))


@pytest.mark.parametrize("choice", ["auto", "fast", "low memory"])
def test_where_all_that_can_wait_does_there_may_be_less_room_to_work_in(choice):
    tight = card(16, used=1.4)  # a card of 16 GiB as ComfyUI leaves it
    found = plan(tight, choice)
    assert found.performance.fp8 and not found.streamed
    assert found.performance.blocks_on_cpu == 40 and found.performance.caches_on_cpu == 4
    assert found.needed <= tight.free - RESERVE * tight.total
    roomy = plan(card(16), choice)
    assert roomy.workspace > found.workspace


def test_a_cpu_runs_the_plain_way():
    machine = Machine(free=2**40, total=2**40, free_cpu=0, gpu=False, fp8=False)
    assert chosen(machine) == chosen(machine, "quality") == chosen(machine, "balanced") == {}
    assert chosen(machine, "low memory") == {"caches": CacheFormat.INT8}
    for wish in (Wish("fast"), Wish(fp8=True)):
        with pytest.raises(ValueError, match="fp8 need an NVIDIA GPU"):
            plan(machine, wish)
    for wish in (Wish(caches_on_cpu=1), Wish(blocks_on_cpu=1)):
        with pytest.raises(ValueError, match="help a GPU only"):
            plan(machine, wish)
    with pytest.raises(ValueError, match="8 bits needs an NVIDIA GPU"):
        plan(machine, Wish(caches=(CacheFormat.ATTENTION8,)))


@pytest.mark.parametrize(
    ("wish", "expected"),
    [
        (Wish(fp8=False), {}),
        (Wish(fp8=False, caches=(CacheFormat.INT8,)), {"caches": CacheFormat.INT8}),
        (Wish("quality", fp8=True), {"fp8": True}),
        (Wish(caches_on_cpu=2), {"fp8": True, "caches_on_cpu": 2}),
        (Wish(blocks_on_cpu=7), {"fp8": True, "blocks_on_cpu": 7}),
        (Wish(caches=(CacheFormat.ATTENTION8,)), {"fp8": True, "caches": CacheFormat.ATTENTION8}),
        (Wish("balanced", fp8=True), {"fp8": True, "caches": CacheFormat.INT8}),
        (Wish("low memory", blocks_on_cpu=0), {"fp8": True, "caches": CacheFormat.INT8, "caches_on_cpu": 4}),
    ],
    ids=str,
)
def test_a_wish_is_kept(wish, expected):
    assert chosen(card(139.8), wish) == expected


@pytest.mark.parametrize(
    ("wish", "sentence"),
    [
        (Wish("turbo"), "performance is 'turbo'"),
        (Wish(caches_on_cpu=5), "more than the 4 steps that have any"),
        (Wish(blocks_on_cpu=41), "more than the model's 40"),
        (Wish(blocks_on_cpu=3, fp8=False), "in fp8 only"),
        (Wish("quality", blocks_on_cpu=3), "in fp8 only"),
        (Wish("fast", caches=()), "needs caches in 8 bits"),
    ],
    ids=str,
)
def test_a_wish_that_cannot_be_is_refused(wish, sentence):
    with pytest.raises(ValueError, match=sentence):
        plan(card(139.8), wish)


def test_the_announced_size_of_an_fp8_model_is_what_it_takes():
    model = tiny_s2v.S2VTransformer(tiny_s2v.CONFIG).to(torch.bfloat16)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.float() if name.startswith(FLOAT32_PARTS) else parameter.data
    quantise_transformer(model)

    def size(module):
        return sum(t.nbytes for t in (*module.parameters(), *module.buffers()))

    whole, block = fp8_bytes(tiny_s2v.CONFIG, torch.bfloat16)
    assert size(model) == pytest.approx(whole, rel=0.03)
    assert size(model.blocks[0]) == pytest.approx(block, rel=0.06)


def test_without_the_last_forward_a_quarter_of_the_caches_is_needed_less_and_the_line_says_so():
    usual, shorter = (plan(card(139.8), skip_last_step=skipped) for skipped in (False, True))
    assert shorter.caches == usual.caches * 3 // 4
    assert "4 steps without the last one's forward" in shorter.text and "without" not in usual.text
    with pytest.raises(ValueError, match="more than the 3 steps that have any"):
        plan(card(80), Wish(caches_on_cpu=4), skip_last_step=True)


def several(*sizes: float, **options) -> Machine:
    """A machine of GPUs of ``sizes`` GiB; the first one is that of the model."""
    cards = [card(size) for size in sizes]
    others = [
        Neighbour(torch.device("cuda", index), one.free, one.total) for index, one in enumerate(cards[1:], 1)
    ]
    return replace(cards[0], others=tuple(others), **options)


@pytest.mark.parametrize(
    ("forwards", "gpus", "expected", "decoders"),
    [
        (4, 1, [4], [0]),
        (4, 2, [2, 2], [0, 1]),
        (4, 3, [2, 1, 1], [2]),
        (4, 4, [1, 1, 1, 1], [3]),
        (4, 5, [1, 1, 1, 1, 0], [4]),
        (4, 8, [1, 1, 1, 1, 0], [4]),
        (3, 2, [2, 1], [1]),
        (3, 3, [1, 1, 1], [2]),
        (3, 4, [1, 1, 1, 0], [3]),
        (2, 2, [1, 1], [0, 1]),
        (2, 3, [1, 1, 0], [2]),
        (1, 2, [1, 0], [1]),
    ],
)
def test_steps_are_shared_so_that_the_slowest_gpu_has_the_least_to_do(forwards, gpus, expected, decoders):
    best = ways(forwards, gpus, DECODING)[0]
    assert [len(steps) for steps in best.steps] == expected and list(best.decoders) == decoders
    assert [step for steps in best.steps for step in steps] == list(range(forwards))


def test_two_gpus_share_the_steps_and_the_line_says_who_does_what():
    found = plan(several(139.8, 139.8), Wish("fast", gpus=2))
    assert "2 GPUs: steps 1-2, VAE | steps 3-4, VAE: " in found.text
    assert [share.device for share in found.shares] == [torch.device("cuda", 1), None]
    alone = plan(card(139.8), "fast")
    assert alone.caches / 2 < found.caches < 0.7 * alone.caches  # each has the condition's
    assert not found.performance.ahead
    assert all(share.needed == found.needed for share in found.shares)
    four = plan(several(*[139.8] * 4), Wish("fast", gpus=None), skip_last_step=True)
    assert "4 steps without the last one's forward" in four.text
    assert "4 GPUs: step 1 | step 2 | step 3 | VAE" in four.text


def test_a_smaller_card_does_fewer_steps():
    usual = plan(several(139.8, 139.8), Wish("quality", gpus=2))
    unequal = plan(several(139.8, 60), Wish("quality", gpus=2))
    assert [len(share.steps) for share in usual.shares] == [2, 2]
    assert [len(share.steps) for share in unequal.shares] == [1, 3]


def test_one_gpu_is_used_where_several_cannot_hold_the_model_and_that_is_said():
    found = plan(several(139.8, 12), Wish(gpus=None))
    assert not found.shares and "1 GPU, as the model does not fit on several" in found.text
    assert "1 GPU" in plan(card(139.8), Wish(gpus=None)).text
    assert "GPU" not in plan(several(139.8, 139.8), Wish()).text.replace("GPU memory", "")


def test_two_small_cards_keep_what_one_of_them_cannot():
    one, two = plan(card(48), "auto"), plan(several(48, 48), Wish("auto", gpus=2))
    assert one.performance.caches is CacheFormat.INT8
    assert two.performance.caches is CacheFormat.INT8 and two.needed < one.needed
    assert plan(several(80, 80), Wish("quality", gpus=2)).caches == plan(card(139.8), "quality").caches // 2


@pytest.mark.parametrize(
    ("machine", "wish", "said"),
    [
        (several(80, 80), Wish(gpus=3), "3 GPUs are asked for, and this program can use 2"),
        (card(80), Wish(gpus=2), "2 GPUs are asked for, and this program can use 1"),
        (several(80, 80), Wish(gpus=2, caches_on_cpu=1), "for a single GPU only"),
        (several(80, 80), Wish(gpus=None, blocks_on_cpu=1), "for a single GPU only"),
    ],
)
def test_what_several_gpus_cannot_do_is_said(machine, wish, said):
    with pytest.raises(ValueError, match=said):
        plan(machine, wish)


def lines(machine: Machine, wish: Wish | str = "auto", **options) -> str:
    return plan(machine, wish, **options).text


@pytest.mark.parametrize(
    ("gpus", "choice", "size", "expected"),
    [
        (1, "quality", SIZE, False),
        (1, "auto", SIZE, False),
        (1, "fast", SIZE, False),
        (2, "quality", SIZE, False),
        (2, "auto", SIZE, True),
        (2, "fast", SIZE, True),
        (4, "quality", SIZE, True),
        (4, "auto", SIZE, True),
        (4, "fast", SIZE, True),
        (1, "fast", (256, 384), True),
        (1, "auto", (256, 384), True),
        (1, "quality", (64, 128), True),
    ],
)
def test_steps_are_cuda_graphs_where_they_pay_by_what_was_measured(gpus, choice, size, expected):
    found = plan(several(*[139.8] * gpus), Wish(choice, gpus=None if gpus > 1 else 1), size=size)
    assert len(found.shares) == (gpus if gpus > 1 else 0)
    assert found.performance.graphs == ("CUDA graphs" in found.text) == expected
    assert not plan(
        several(*[139.8] * gpus), Wish(choice, gpus=None if gpus > 1 else 1, graphs=False), size=size
    ).performance.graphs


def test_graphs_are_asked_for_or_not_whatever_pays():
    usual, graphed = plan(card(139.8), "fast"), plan(card(139.8), Wish("fast", graphs=True))
    assert graphed.performance == replace(usual.performance, graphs=True)
    assert 0.5e9 < graphed.workspace - usual.workspace < 3e9 and graphed.caches == usual.caches
    small = (256, 384)
    assert "CUDA graphs" in lines(card(139.8), size=small)
    assert "graphs" not in lines(card(139.8), Wish(graphs=False), size=small)


@pytest.mark.parametrize(("blocks", "expected"), [(19, False), (20, True), (None, True)])
def test_a_video_that_ends_before_captures_pay_has_none(blocks, expected):
    costs = VideoCosts(BF16, 256, 384, SamplingConfig(), blocks=blocks)
    assert make_plan(costs, card(139.8), Wish()).performance.graphs == expected


def test_graphs_take_the_place_of_nothing_but_decoding_ahead():
    wish = Wish("auto", graphs=True)
    needed = plan(card(139.8), wish).needed / GIB + 1.5 + 0.6
    sizes = [needed - step * 0.5 for step in range(20)]
    plans = [plan(card(size), wish) for size in sizes]
    kinds = [
        (p.performance.graphs, p.performance.ahead)
        for p in plans
        if p.performance.caches is CacheFormat.MODEL
    ]
    assert kinds == sorted(kinds, key=[(True, True), (True, False), (False, False)].index)
    assert {(True, True), (True, False), (False, False)} <= set(kinds)
    for one in plans:
        without = plan(card(139.8), Wish("auto", graphs=False)).performance
        if one.performance.caches is CacheFormat.MODEL and not one.performance.graphs:
            assert "without CUDA graphs, as there is no room for them" in one.text
            assert replace(one.performance, ahead=True) == without


@pytest.mark.parametrize(
    ("machine", "wish"),
    [(card(24), Wish(graphs=True)), (card(80), Wish("low memory", graphs=True))],
    ids=["a small card", "low memory"],
)
def test_graphs_that_were_asked_for_and_cannot_be_are_named(machine, wish):
    assert "without CUDA graphs, as caches or weights wait in CPU memory" in lines(machine, wish)
    assert "graphs" not in lines(machine, replace(wish, graphs=None))


def test_a_host_that_streams_weights_has_no_graphs():
    found = plan(card(24, fp8=False), Wish("quality", graphs=True))
    assert found.streamed and not found.performance.graphs
    assert "without CUDA graphs, as caches or weights wait" in found.text


def test_several_gpus_count_the_memory_of_their_own_graphs():
    usual = plan(several(*[139.8] * 4), Wish("fast", gpus=None, graphs=False))
    graphed = plan(several(*[139.8] * 4), Wish("fast", gpus=None))
    more = [b.needed - a.needed for a, b in zip(usual.shares, graphed.shares, strict=True)]
    assert len(set(more)) == 1 and graphed.needed == graphed.shares[-1].needed
    alone = plan(several(*[139.8] * 5), Wish("fast", gpus=None))
    assert alone.shares[-1].needed < alone.shares[0].needed  # it only decodes
    full = several(*[(graphed.needed / GIB + 1.0) / 0.99] * 4)
    assert plan(full, Wish("fast", gpus=None)).performance.graphs
    tight = several(*[(usual.needed / GIB + 1.0) / 0.99] * 4)
    assert not plan(tight, Wish("fast", gpus=None)).performance.graphs
    assert "as there is no room for them" in lines(tight, Wish("fast", gpus=None, graphs=True))


def test_the_asynchronous_allocator_is_named_where_graphs_would_be_faster():
    machine = replace(card(139.8), no_graphs=ASYNCHRONOUS)
    hint = "faster with CUDA graphs, if ComfyUI is started with --disable-cuda-malloc"
    assert hint in lines(machine, size=(256, 384)) and hint not in lines(machine)
    assert hint in lines(replace(several(*[139.8] * 4), no_graphs=ASYNCHRONOUS), Wish(gpus=None))
    with pytest.raises(
        ValueError, match=r"Set graphs to 'auto': CUDA graphs do not work.*--disable-cuda-malloc"
    ):
        plan(machine, Wish(graphs=True))
    other = replace(card(139.8, fp8=False), no_graphs="need an NVIDIA GPU")
    assert "graphs" not in lines(other, size=(256, 384))
    with pytest.raises(ValueError, match="CUDA graphs need an NVIDIA GPU"):
        plan(other, Wish(graphs=True))


@pytest.mark.parametrize("waiting", [{"caches_on_cpu": 1}, {"blocks_on_cpu": 3}], ids=str)
def test_graphs_and_what_waits_in_cpu_memory_exclude_each_other(waiting):
    with pytest.raises(ValueError, match="need all caches and blocks in the GPU's memory"):
        plan(card(80), Wish(graphs=True, **waiting))


def test_each_step_has_a_graph_for_each_block_of_the_window():
    usual = VideoCosts(BF16, *SIZE, SamplingConfig())
    assert usual.graphs(4) == 16 and usual.graphs(1) == 4
    guided = SamplingConfig(guidance=4.0, steps=20)
    assert VideoCosts(BF16, *SIZE, guided).graphs(20) == 160
