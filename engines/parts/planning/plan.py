"""Which choices fit in the memory that is free: made before anything large is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...gpu.graphs import ASYNCHRONOUS
from ..kv.cache import CacheFormat
from .costs import Costs
from .performance import RESIDENT, Performance
from .replaying import graph_bytes, pays
from .sharing import DECODING, DECODING_FAST, Neighbour, Share, Way, ways

CACHES = {
    CacheFormat.MODEL: "caches",
    CacheFormat.INT8: "8-bit caches",
    CacheFormat.ATTENTION8: "8-bit attention and caches",
}
"""How a plan's line calls them."""
CHOICES = ("auto", "quality", "balanced", "fast", "low memory")
WORKSPACE_BYTES_PER_PIXEL = 36_000
"""Room besides weights and caches. At 704x384 PyTorch held 8.4 to 9.8 GB, 7.2 of them in use: the rest are gaps."""
LEAN_BYTES_PER_PIXEL = 30_000
"""The same where all blocks wait in CPU memory and nothing fits otherwise: what is in use and a few gaps. When they are
more, memory is tidied up and a block done once more."""
AHEAD_BYTES_PER_PIXEL = 17_000
"""More of it where a block is decoded beside the next one: each has its own part of PyTorch's memory then."""
WITHOUT_GRAPHS = "without CUDA graphs, as {}"
NOT_RESIDENT, NO_ROOM = "caches or weights wait in CPU memory", "there is no room for them"
RESTART = "faster with CUDA graphs, if ComfyUI is started with --disable-cuda-malloc"
RESERVE = 0.01
"""Part of the GPU's memory that is left alone."""


@dataclass(frozen=True)
class Machine:
    """What there is to plan with; bytes.

    Attributes:
        free: GPU memory that is free, or that the host would make free.
        total: GPU memory in all.
        free_cpu: CPU memory that may be taken, most of it locked for the GPU.
        copied: CPU memory in which a float8 copy of the model lies already.
        gpu: whether the device is a GPU that CPU memory can be locked for.
        fp8: whether it multiplies float8 matrices.
        attention8: whether it attends to keys and values in 8 bits (`attention.eight_bit.available`).
        others: further GPUs of its kind, if they were asked for.
        no_graphs: why there are no CUDA graphs (`graphs.obstacle`); empty where there are.
    """

    free: int
    total: int
    free_cpu: int
    gpu: bool
    fp8: bool
    attention8: bool = False
    copied: int = 0
    others: tuple[Neighbour, ...] = ()
    no_graphs: str = ""


@dataclass(frozen=True)
class Wish:
    """What a person asks for. None leaves a matter to the plan.

    Attributes:
        choice: one of `CHOICES`.
        fp8, caches_on_cpu, blocks_on_cpu: see `Performance`.
        caches: formats in which keys and values may be kept; where the choice would take another one, the first of
            these is taken. Empty where what is asked for contradicts itself.
        fast_decoder: see `Performance`; always as wished.
        skip_last_step: leave out the last forward pass of every block; always as wished.
        gpus: how many GPUs may share the denoising steps; None for all.
        graphs: whether steps are CUDA graphs; None: where that is faster.
    """

    choice: str = "auto"
    fp8: bool | None = None
    caches: tuple[CacheFormat, ...] = tuple(CacheFormat)
    caches_on_cpu: int | None = None
    blocks_on_cpu: int | None = None
    fast_decoder: str = ""
    skip_last_step: bool = False
    gpus: int | None = 1
    graphs: bool | None = None

    @property
    def attention8(self) -> bool:
        """Whether attention in 8 bits is asked for, whatever the choice."""
        return self.caches == (CacheFormat.ATTENTION8,)


NO_WISH = Wish()


@dataclass(frozen=True)
class Plan:
    """What is going to be done, and the memory that it takes; bytes.

    ``streamed`` are weights that the model's owner brings in while they are used; ``cpu`` is CPU memory for what
    waits there and for a float8 copy that is still to be made. ``precision`` says what is computed in, ``steps`` how
    many of the denoising steps are done, ``shares`` which GPUs do them if there are several, ``note`` why something is
    not as wished. The sizes are the first GPU's.
    """

    performance: Performance
    weights: int
    caches: int
    workspace: int
    streamed: int
    cpu: int
    total: int
    precision: str
    steps: str
    shares: tuple[Share, ...] = ()
    note: str = ""

    @property
    def needed(self) -> int:
        """GPU memory at its peak."""
        return self.weights + self.caches + self.workspace

    @property
    def text(self) -> str:
        """One line for people."""
        chosen = self.performance
        parts = [self.precision]
        parts.append(CACHES[chosen.caches])
        if chosen.caches_on_cpu:
            parts[-1] += f" ({chosen.caches_on_cpu} in CPU memory)"
        if chosen.blocks_on_cpu:
            parts.append(f"{chosen.blocks_on_cpu} blocks in CPU memory")
        if chosen.fast_decoder:
            parts.append(f"fast decoder ({chosen.fast_decoder})")
        if chosen.graphs:
            parts.append("CUDA graphs")
        if self.steps:
            parts.append(self.steps)
        if self.streamed:
            parts.append(f"{self.streamed / 1e9:.1f} GB of weights off-loaded by ComfyUI")
        if self.note:
            parts.append(self.note)
        if self.shares:
            parts.append(f"{len(self.shares)} GPUs")
            memory = " | ".join(
                f"{share.needed / 1e9:.1f} of {share.total / 1e9:.1f}" for share in self.shares
            )
            return f"{', '.join(parts)}: {' | '.join(share.text for share in self.shares)}: {memory} GB"
        line = f"{', '.join(parts)}: {sum_text((self.weights, self.caches, self.workspace), self.total)}"
        return line + (f", and {self.cpu / 1e9:.1f} GB of CPU memory" if self.cpu else "")

    def noted(self, note: str) -> Plan:
        """The same with one more note."""
        return replace(self, note=", ".join(filter(None, (self.note, note))))

    def without_graphs(self, why: str) -> Plan:
        """The same with steps that are called one by one."""
        plain = replace(self, performance=replace(self.performance, graphs=False))
        return plain.noted(WITHOUT_GRAPHS.format(why))


def sum_text(sizes: Sequence[int], total: int) -> str:
    """Sizes in bytes and their sum, of ``total``, for people."""
    needed = sum(sizes)
    unit, name, digits = (1e9, "", 1) if needed >= 1e9 else (1e6, " MB", 0)
    parts = " + ".join(f"{size / unit:.{digits}f}" for size in sizes)
    return f"{parts} = {needed / unit:.{digits}f}{name} of {total / 1e9:.1f} GB"


def make_plan(costs: Costs, machine: Machine, wish: Wish = NO_WISH) -> Plan:
    """The fastest way of the wished kind that fits in what is free.

    Raises:
        ValueError: the wish asks for something that this machine cannot do.
        MemoryError: nothing that the wish allows fits.
    """
    _check(wish, costs, machine)
    if wish.gpus != 1 and machine.others:
        alone = "1 GPU, as the model does not fit on several"
        return _shared(costs, machine, wish) or make_plan(costs, machine, replace(wish, gpus=1)).noted(alone)
    if wish.gpus is None:
        return make_plan(costs, machine, replace(wish, gpus=1)).noted("1 GPU")
    plans = [_measure(costs, machine, performance) for performance in _candidates(wish, costs, machine)]
    limit = machine.free - RESERVE * machine.total if machine.gpu else machine.free
    fits = [plan for plan in plans if plan.needed <= limit and plan.cpu <= machine.free_cpu]
    if fits:
        return _replayed(fits, limit, costs, machine, wish)
    least = min(plans, key=lambda plan: plan.needed)
    if least.performance.blocks_on_cpu == costs.layers:
        least = replace(least, workspace=LEAN_BYTES_PER_PIXEL * costs.height * costs.width)
        if least.needed <= limit and least.cpu <= machine.free_cpu:
            return least.without_graphs(NOT_RESIDENT) if wish.graphs else least
    if costs.streams:
        # A window in CPU memory costs less time per byte than weights do, which every step needs anew.
        for plan in reversed(plans):
            streamed = plan.needed - limit
            if not plan.performance.fp8 and streamed <= plan.weights and plan.cpu <= machine.free_cpu:
                streaming = replace(plan, weights=int(plan.weights - streamed), streamed=int(streamed))
                return streaming.without_graphs(NOT_RESIDENT) if wish.graphs else streaming
    raise MemoryError(
        f"A {costs.width}x{costs.height} video in {costs.steps} steps needs at least {least.needed / 1e9:.1f} GB of "
        "GPU memory"
        + (f" and {least.cpu / 1e9:.1f} GB of CPU memory" if least.cpu else "")
        + f"; {limit / 1e9:.1f} GB of {machine.total / 1e9:.1f} GB can be taken"
        + (f" and {machine.free_cpu / 1e9:.1f} GB of CPU memory" if least.cpu else "")
    )


def _replayed(fits: Sequence[Plan], limit: float, costs: Costs, machine: Machine, wish: Wish) -> Plan:
    """The first of the plans that fit in ``limit``, with CUDA graphs if they are wanted, for which it may decode in
    turn."""
    first = fits[0]
    chosen = first.performance
    if chosen.caches_on_cpu or chosen.blocks_on_cpu:
        return first.without_graphs(NOT_RESIDENT) if wish.graphs else first
    alone = Way((range(costs.forwards),), (0,))
    if not _wants_graphs(costs, machine, wish, chosen, alone):
        return first
    if machine.no_graphs:
        return first.noted(RESTART)
    more = graph_bytes(costs, costs.forwards)
    for plan in fits:
        same = replace(plan.performance, ahead=chosen.ahead) == chosen
        if same and plan.needed + more <= limit:
            replayed = replace(plan.performance, graphs=True)
            return replace(plan, performance=replayed, workspace=plan.workspace + more)
    return first.without_graphs(NO_ROOM) if wish.graphs else first


def _wants_graphs(costs: Costs, machine: Machine, wish: Wish, chosen: Performance, way: Way) -> bool:
    """Whether steps shall be CUDA graphs, or would be if ComfyUI were started in another way."""
    if wish.graphs is not None:
        return wish.graphs
    possible = machine.gpu and machine.no_graphs in ("", ASYNCHRONOUS)
    return possible and pays(costs, chosen, way)


def _shared(costs: Costs, machine: Machine, wish: Wish) -> Plan | None:
    """The fastest way on several GPUs, which keep everything that they need; None where none fits.

    The one on which the model and the decoder are loaded comes last, since it decodes, alone or in turn with others.
    """
    others = machine.others if wish.gpus is None else machine.others[: wish.gpus - 1]
    decoding = DECODING_FAST if wish.fast_decoder else DECODING
    shared = [way for way in ways(costs.forwards, 1 + len(others), decoding) if len(way.steps) > 1]
    beside = AHEAD_BYTES_PER_PIXEL * costs.height * costs.width
    for performance in _candidates(wish, costs, machine):
        if performance.caches_on_cpu or performance.blocks_on_cpu or performance.ahead:
            continue
        plan = _measure(costs, machine, performance)
        for way in shared:
            caches = [costs.caches(performance, len(steps))[0] if steps else 0 for steps in way.steps]
            gpus = [*others[: len(way.steps) - 1], Neighbour(None, machine.free, machine.total)]
            more = [beside * (len(way.decoders) > 1 and gpu in way.decoders) for gpu in range(len(gpus))]
            needed = [
                plan.weights + plan.workspace + kept + extra for kept, extra in zip(caches, more, strict=True)
            ]
            if plan.cpu > machine.free_cpu or not _have_room(gpus, needed):
                continue
            found = replace(
                plan,
                caches=caches[-1],
                workspace=plan.workspace + more[-1],
                shares=_shares(gpus, way, needed),
            )
            if not _wants_graphs(costs, machine, wish, performance, way):
                return found
            if machine.no_graphs:
                return found.noted(RESTART)
            graphs = [graph_bytes(costs, len(steps)) if steps else 0 for steps in way.steps]
            needed = [one + other for one, other in zip(needed, graphs, strict=True)]
            if not _have_room(gpus, needed):
                return found.without_graphs(NO_ROOM) if wish.graphs else found
            return replace(
                found,
                performance=replace(performance, graphs=True),
                workspace=found.workspace + graphs[-1],
                shares=_shares(gpus, way, needed),
            )
    return None


def _have_room(gpus: Sequence[Neighbour], needed: Sequence[int]) -> bool:
    return all(size <= gpu.free - RESERVE * gpu.total for gpu, size in zip(gpus, needed, strict=True))


def _shares(gpus: Sequence[Neighbour], way: Way, needed: Sequence[int]) -> tuple[Share, ...]:
    return tuple(
        Share(gpu.device, steps, number in way.decoders, size, gpu.total)
        for number, (gpu, steps, size) in enumerate(zip(gpus, way.steps, needed, strict=True))
    )


def _check(wish: Wish, costs: Costs, machine: Machine) -> None:
    if wish.choice not in CHOICES:
        raise ValueError(f"performance is '{wish.choice}'; choose one of {', '.join(CHOICES)}.")
    if (wish.choice == "fast" or wish.fp8) and not machine.fp8:
        raise ValueError(
            "Matrix products in fp8 need an NVIDIA GPU of the Ada generation or newer with Triton; choose 'auto' or "
            "'balanced'."
        )
    if (wish.caches_on_cpu and not machine.gpu) or (wish.blocks_on_cpu and not machine.gpu):
        raise ValueError(
            "Caches and blocks in CPU memory help a GPU only; set both to 0 or -1 on this device."
        )
    if wish.caches_on_cpu is not None and wish.caches_on_cpu > costs.forwards:
        raise ValueError(
            f"{wish.caches_on_cpu} caches in CPU memory are more than the {costs.forwards} steps that have any."
        )
    if wish.blocks_on_cpu is not None and wish.blocks_on_cpu > costs.layers:
        raise ValueError(
            f"{wish.blocks_on_cpu} blocks in CPU memory are more than the model's {costs.layers}."
        )
    if wish.blocks_on_cpu and (wish.fp8 is False or not machine.fp8 or wish.choice == "quality"):
        raise ValueError(
            "Blocks wait in CPU memory in fp8 only (in the model's own precision ComfyUI off-loads by itself); choose "
            "precision fp8, or no blocks."
        )
    if wish.attention8 and not machine.attention8:
        raise ValueError(
            "Attention in 8 bits needs an NVIDIA GPU of the Ada generation or newer with Triton; choose attention "
            "'auto'."
        )
    if wish.graphs and machine.no_graphs:
        raise ValueError(f"Set graphs to 'auto': CUDA graphs {machine.no_graphs}.")
    if wish.graphs and (wish.caches_on_cpu or wish.blocks_on_cpu):
        raise ValueError("Set graphs to 'auto': CUDA graphs need all caches and blocks in the GPU's memory.")
    if wish.gpus is not None and wish.gpus > 1 + len(machine.others):
        raise ValueError(
            f"Set gpus to 'all' or 'one': {wish.gpus} GPUs are asked for, and this program can use "
            f"{int(machine.gpu) + len(machine.others)} of one kind."
        )
    if wish.gpus != 1 and (wish.caches_on_cpu or wish.blocks_on_cpu):
        raise ValueError("Set gpus to 'one': caches and blocks can wait in CPU memory for a single GPU only.")
    if not wish.caches:
        raise ValueError("Attention in 8 bits needs caches in 8 bits; set caches to auto.")


def _candidates(wish: Wish, costs: Costs, machine: Machine) -> Iterator[Performance]:
    """Everything that the wish allows, the fastest first."""
    steps = costs.forwards if machine.gpu else 0
    blocks = costs.layers if machine.gpu else 0
    own, small = RESIDENT, Performance(caches=CacheFormat.INT8)
    fp8, small_fp8 = Performance(fp8=True), Performance(fp8=True, caches=CacheFormat.INT8)
    waiting = [replace(small_fp8, caches_on_cpu=n) for n in range(1, steps + 1)]
    waiting += [replace(small_fp8, caches_on_cpu=steps, blocks_on_cpu=n) for n in range(1, blocks + 1)]
    own_waiting = [replace(own, caches_on_cpu=n) for n in range(1, steps + 1)]
    small_waiting = [replace(small, caches_on_cpu=n) for n in range(1, steps + 1)]
    fast = [fp8, small_fp8, *waiting]
    if machine.attention8 and CacheFormat.ATTENTION8 in wish.caches:
        fast = [replace(performance, caches=CacheFormat.ATTENTION8) for performance in fast]
    everything = {
        "quality": [own, *own_waiting],
        "balanced": [own, small, small_fp8, *waiting, *small_waiting],
        "fast": fast,
        "auto": [fp8, small_fp8, *waiting, own, small, *small_waiting],
        "low memory": [waiting[-1], small_waiting[-1]] if steps else [small],
    }[wish.choice]
    if wish.fp8 is False or not machine.fp8:
        everything = [p for p in everything if not p.fp8]
    for performance in everything:
        if wish.choice not in ("low memory", "quality") and wish.fp8 and not performance.fp8:
            continue
        chosen = replace(performance, fast_decoder=wish.fast_decoder)
        for name in ("fp8", "caches_on_cpu", "blocks_on_cpu"):
            value = getattr(wish, name)
            if value is not None:
                chosen = replace(chosen, **{name: value})
        if chosen.caches not in wish.caches:
            chosen = replace(chosen, caches=wish.caches[0])
        if chosen.blocks_on_cpu and not chosen.fp8:
            chosen = replace(chosen, blocks_on_cpu=0)
        if machine.gpu and not chosen.caches_on_cpu:
            yield replace(chosen, ahead=True)
        yield chosen


def _measure(costs: Costs, machine: Machine, performance: Performance) -> Plan:
    caches, waiting = costs.caches(performance)
    weights, cpu = costs.weights, 0
    if performance.fp8:
        copy, block = costs.fp8_weights()
        cpu = max(0, copy - machine.copied)
        weights = copy - (performance.blocks_on_cpu - min(2, performance.blocks_on_cpu)) * block
    # On a CPU it is another size, and swapped out rather than missing.
    per_pixel = WORKSPACE_BYTES_PER_PIXEL + performance.ahead * AHEAD_BYTES_PER_PIXEL if machine.gpu else 0
    workspace = per_pixel * costs.height * costs.width
    steps = "" if costs.forwards == costs.steps else f"{costs.steps} steps without the last one's forward"
    precision = "fp8" if performance.fp8 else f"the model's own precision ({costs.precision})"
    return Plan(performance, weights, caches, workspace, 0, waiting + cpu, machine.total, precision, steps)
