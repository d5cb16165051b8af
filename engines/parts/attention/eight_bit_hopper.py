"""8-bit attention for Hopper: one warp copies tiles, two groups of warps attend, each to 64 queries of a head.

The same sums as `eight_bit._attend_kernel`, in Triton's Gluon dialect, in which a kernel decides where a tile lies and
when it waits for the matrix unit. Each program takes a processor for itself. Those that are left for a last round,
which would keep only some processors busy, are split by their keys, and a second kernel adds up the parts.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from ...gpu.generation import is_hopper
from ...gpu.triton_support import tl, triton

try:
    from triton.experimental import gluon
    from triton.experimental.gluon import language as gl
    from triton.experimental.gluon.language.nvidia.hopper import (
        fence_async_shared,
        mbarrier,
        tma,
        warpgroup_mma,
        warpgroup_mma_wait,
    )
    from triton.experimental.gluon.nvidia.hopper import TensorDescriptor
except ImportError:  # no Triton, or one without Gluon
    gluon = None

HEAD_DIM = 128
QUERIES = 64
"""Queries that one group of warps attends with; two groups share a program."""
STAGES = 4
"""Tiles of keys and of values that are held at a time or on their way."""
REGISTERS = 240
"""Registers of each thread that attends."""
COPY_REGISTERS = 24
"""Registers of each thread that copies."""
MOST_PARTS = 6
"""Parts that a program is split into at most."""
ROWS = 16
"""Queries for which one program adds up the parts."""


def available(device: torch.device) -> bool:
    """Whether this Triton and GPU may run it; whether it computes the right thing is to be tried."""
    return gluon is not None and is_hopper(device)


def attend(
    q: Tensor,
    condition: list[Tensor],
    ring: list[Tensor],
    slots: int,
    padding: int,
    mean: Tensor,
    scale: float,
    out: Tensor,
    tile: int,
    room: float,
) -> None:
    """`eight_bit.attend` into ``out`` [1, tokens, heads, head_dim].

    ``scale`` is that of the scores, for powers of two; ``tile`` and ``room`` are the constants of `eight_bit`.
    """
    _, tokens, heads, _ = q.shape
    tiles = triton.cdiv(tokens, 2 * QUERIES)
    condition_tiles, block_tiles = condition[1].shape[-1], ring[1].shape[-1]
    whole, parts = split(tiles * heads, condition_tiles + block_tiles * slots, _processors(q.device))
    rest = tiles * heads - whole
    # Each part leaves its sums, then its totals, then its maxima.
    room_of_parts = torch.empty((rest * parts, 2 * QUERIES * (HEAD_DIM + 2)), device=q.device)
    _attend_kernel[(whole + rest * parts,)](
        q,
        _tiled(condition[0], tile),
        condition[1],
        _tiled(condition[2], tile),
        condition[3],
        _tiled(ring[0], tile),
        ring[1],
        _tiled(ring[2], tile),
        ring[3],
        mean,
        out,
        room_of_parts,
        tokens,
        condition_tiles,
        block_tiles,
        slots,
        padding,
        scale,
        heads,
        whole,
        parts,
        WIDTH=HEAD_DIM,
        TILE=tile,
        QUERIES=QUERIES,
        ROOM=room,
        STAGES=STAGES,
        REGISTERS=REGISTERS,
        COPY_REGISTERS=COPY_REGISTERS,
        num_warps=4,
    )
    if rest:
        _add_up_kernel[(rest, 2 * QUERIES // ROWS)](
            room_of_parts,
            mean,
            out,
            tokens,
            padding,
            heads,
            whole,
            parts,
            WIDTH=HEAD_DIM,
            QUERIES=QUERIES,
            ROWS=ROWS,
            ROOM=room,
            num_warps=4,
        )


@functools.cache
def _processors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count


@functools.cache
def split(programs: int, tiles: int, processors: int) -> tuple[int, int]:
    """How many of the programs, which have ``tiles`` of keys each, to leave whole, and parts to make of each other."""
    rest = programs % processors

    def rounds(parts: int) -> float:
        # A part has a start and an end of its own, and has to be added up: about ten tiles of time.
        return -(-rest * parts // processors) * (1 / parts + (10 / tiles if parts > 1 else 0))

    parts = min(range(1, MOST_PARTS + 1), key=rounds)
    return (programs, 1) if parts == 1 else (programs - rest, parts)


def _tiled(x: Tensor, tile: int) -> TensorDescriptor:
    """Keys or values as the copy engine fetches them, in tiles that are as wide as they are high."""
    rows = x.reshape(-1, x.shape[-1])
    return TensorDescriptor(rows, list(rows.shape), list(rows.stride()), [tile, HEAD_DIM], SHARED)


if gluon is not None:
    SHARED = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=8, rank=2)

    @gluon.jit
    def _copy(
        copied,
        scales,
        rooms,
        begin,
        count,
        head,
        heads,
        tiles,
        WIDTH: gl.constexpr,
        TILE: gl.constexpr,
        STAGES: gl.constexpr,
    ):
        """Fetch ``count`` tiles from ``begin`` on, each once its room has been read.

        A stage holds a tile of keys, its scales, and the values of the tile before: what is asked of the matrix unit
        at once, and free at once.
        """
        condition_k, condition_v, ring_k, ring_v = copied
        condition_k_scale, condition_v_scale, ring_k_scale, ring_v_scale = scales
        keys, values, marks, full, empty = rooms
        condition_tiles, block_tiles = tiles
        ONE: gl.constexpr = gl.BlockedLayout([1], [32], [1], [0])
        # Where a tile lies, in the condition or in the ring: the row of its head (and slot), and which one it is there.
        row, tile = head, 0
        for number in range(count + 1):
            stage = number % STAGES
            key, value, ready = keys.index(stage), values.index(stage), full.index(stage)
            last_row, last_tile = row, tile
            place = begin + number
            slot = (place - condition_tiles) // block_tiles
            row, tile = head + slot * heads, place - condition_tiles - slot * block_tiles
            here = row * block_tiles + tile
            if place < condition_tiles:
                row, tile = head, place
                here = head * condition_tiles + place
            key_scale, value_scale = 0.0, 1.0
            if number < count:
                if place < condition_tiles:
                    key_scale = gl.load(condition_k_scale + here)
                    value_scale = gl.load(condition_v_scale + here)
                else:
                    key_scale = gl.load(ring_k_scale + here)
                    value_scale = gl.load(ring_v_scale + here)
            back = 1.0 / value_scale
            mbarrier.wait(empty.index(stage), (number // STAGES) & 1 ^ 1)
            marks.index(stage * 3).store(gl.full([1], key_scale, gl.float32, layout=ONE))
            marks.index(stage * 3 + 1).store(gl.full([1], value_scale, gl.float32, layout=ONE))
            marks.index(stage * 3 + 2).store(gl.full([1], back, gl.float32, layout=ONE))
            # The last stage's keys stay what they were: their scores are asked for, but not read.
            if (number > 0) & (number < count):
                mbarrier.expect(ready, 2 * TILE * WIDTH)
            else:
                mbarrier.expect(ready, TILE * WIDTH)
            if number < count:
                if place < condition_tiles:
                    tma.async_copy_global_to_shared(condition_k, [here * TILE, 0], ready, key)
                else:
                    tma.async_copy_global_to_shared(ring_k, [here * TILE, 0], ready, key)
            if number > 0:
                if place <= condition_tiles:
                    tma.async_copy_global_to_shared(
                        condition_v, [last_row * WIDTH, last_tile * TILE], ready, value
                    )
                else:
                    tma.async_copy_global_to_shared(
                        ring_v, [last_row * WIDTH, last_tile * TILE], ready, value
                    )

    @gluon.jit
    def _scales(marks, stage, LAYOUT: gl.constexpr):
        """A tile's scale of the keys, its scale of the values, and one divided by the latter."""
        key_scale = marks.index(stage * 3).load(LAYOUT)
        return key_scale, marks.index(stage * 3 + 1).load(LAYOUT), marks.index(stage * 3 + 2).load(LAYOUT)

    @gluon.jit
    def _start(QUERIES: gl.constexpr, TILE: gl.constexpr, SCORES: gl.constexpr):
        """The number that scores begin with. Integers below 2**22 on top of its bits are the fraction of a float32: no
        conversion is needed."""
        nothing = gl.zeros([QUERIES, TILE], gl.int32, layout=SCORES)
        # Not as a plain constant: the compiler would share a register of it with the matrix unit's results.
        return gl.inline_asm_elementwise(
            "mov.b32 $0, 0x4B400000;", "=r,r", [nothing], gl.int32, is_pure=False, pack=1
        )

    @gluon.jit
    def _attend(
        tensors,
        rooms,
        first,
        head,
        sizes,
        count,
        piece,
        WIDTH: gl.constexpr,
        TILE: gl.constexpr,
        QUERIES: gl.constexpr,
        ROOM: gl.constexpr,
        STAGES: gl.constexpr,
    ):
        """One group's queries, from ``first`` on; ``piece`` counts the parts of split programs, -1 is a whole one."""
        q, mean, out, room_of_parts = tensors
        heads, tokens, padding, scale = sizes
        keys, values, marks, full, empty = rooms
        SCORES: gl.constexpr = gl.NVMMADistributedLayout(
            version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, TILE, 32]
        )
        SUMS: gl.constexpr = gl.NVMMADistributedLayout(
            version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, WIDTH, 32]
        )
        QUERY: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=SCORES, k_width=4)
        WEIGHT: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=SUMS, k_width=4)
        ROW: gl.constexpr = gl.SliceLayout(1, SCORES)
        LOADED: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])

        row = first + gl.arange(0, QUERIES, layout=gl.SliceLayout(1, LOADED))
        column = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, LOADED))
        place = gl.expand_dims((row.to(gl.int64) * heads + head) * WIDTH, 1) + gl.expand_dims(column, 0)
        query = gl.load(q + place, mask=gl.expand_dims(row < tokens, 1), other=0.0).to(gl.float32)
        step = gl.maximum(gl.max(gl.abs(query), 1), 1e-12) / 127.0
        query = gl.convert_layout(gl.floor(query / gl.expand_dims(step, 1) + 0.5).to(gl.int8), QUERY)
        step = gl.convert_layout(step * scale, ROW)

        top = gl.full([QUERIES], -float("inf"), gl.float32, layout=ROW)
        # Four threads share a row; each adds up its own part.
        total = gl.zeros([QUERIES, TILE], gl.float32, layout=SCORES)
        total = gl.sum(gl.sum(total.reshape([QUERIES, TILE // 8, 4, 2]), 3), 1)
        PARTS: gl.constexpr = gl.SliceLayout(1, total.type.layout)
        sums = gl.zeros([QUERIES, WIDTH], gl.float32, layout=SUMS)
        nothing = gl.zeros([QUERIES, WIDTH], gl.float32, layout=SUMS)
        unit = gl.full([1], 1.0, gl.float32, layout=ROW)

        mbarrier.wait(full.index(0), 0)
        start = _start(QUERIES, TILE, SCORES)
        coming = warpgroup_mma(query, keys.index(0).permute((1, 0)), start, is_async=True)
        scores = warpgroup_mma_wait(0, deps=[coming])
        key_scale, value_scale, back = _scales(marks, 0, ROW)
        mbarrier.arrive(empty.index(0), count=1)
        stage, phase = 1, 0
        mbarrier.wait(full.index(stage), phase)
        for number in range(count):
            factor = step * key_scale
            largest = gl.max(scores, 1).to(gl.float32, bitcast=True) - 12582912.0
            highest = gl.maximum(top, largest * factor)
            shift = highest - ROOM + 12582912.0 * factor
            weight = gl.exp2(
                scores.to(gl.float32, bitcast=True) * gl.expand_dims(factor, 1) - gl.expand_dims(shift, 1)
            )
            fade = gl.exp2(top - highest)
            top = highest
            rounded = weight.to(gl.float8e4nv).reshape([QUERIES, TILE // 32, 2, 2, 4, 2])
            rounded = rounded.permute([0, 1, 2, 4, 3, 5]).reshape([QUERIES, TILE])
            rounded = gl.convert_layout(rounded, WEIGHT)
            keep = gl.convert_layout(fade * (unit * back), gl.SliceLayout(1, SUMS))
            unit = value_scale

            start = _start(QUERIES, TILE, SCORES)
            # A tile's products are added up apart: the matrix unit's own sums keep few bits.
            product = warpgroup_mma(
                rounded, values.index(stage).permute((1, 0)), nothing, use_acc=False, is_async=True
            )
            coming = warpgroup_mma(query, keys.index(stage).permute((1, 0)), start, is_async=True)
            part = gl.sum(gl.sum(weight.reshape([QUERIES, TILE // 8, 4, 2]), 3), 1)
            total = total * gl.expand_dims(gl.convert_layout(fade, PARTS), 1) + part
            key_scale, value_scale, back = _scales(marks, stage, ROW)
            next_stage, next_phase = stage + 1, phase
            if next_stage == STAGES:
                next_stage = 0
                next_phase = phase ^ 1
            product = warpgroup_mma_wait(1, deps=[product])
            sums = sums * gl.expand_dims(keep, 1) + product
            # Here, and not before the first wait, where it makes the compiler wait for both at once.
            mbarrier.wait(full.index(next_stage), next_phase, pred=number + 1 < count)
            scores = warpgroup_mma_wait(0, deps=[coming])
            mbarrier.arrive(empty.index(stage), count=1)
            stage, phase = next_stage, next_phase

        total = gl.convert_layout(gl.sum(total, 1), ROW)
        row = first + gl.arange(0, QUERIES, layout=gl.SliceLayout(1, SUMS))
        column = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, SUMS))
        if piece < 0:
            total -= padding * gl.exp2(ROOM - top)
            sums = sums * gl.expand_dims(gl.convert_layout(unit / total, gl.SliceLayout(1, SUMS)), 1)
            sums += gl.expand_dims(gl.load(mean + head * WIDTH + column), 0)
            target = gl.expand_dims((row.to(gl.int64) * heads + head) * WIDTH, 1) + gl.expand_dims(column, 0)
            gl.store(out + target, sums.to(out.dtype.element_ty), mask=gl.expand_dims(row < tokens, 1))
        else:
            sums = sums * gl.expand_dims(gl.convert_layout(unit, gl.SliceLayout(1, SUMS)), 1)
            room = room_of_parts + piece * (2 * QUERIES * (WIDTH + 2))
            start_of_row = row % (2 * QUERIES) * WIDTH
            gl.store(room + gl.expand_dims(start_of_row, 1) + gl.expand_dims(column, 0), sums)
            inside = (first + gl.arange(0, QUERIES, layout=ROW)) % (2 * QUERIES)
            gl.store(room + 2 * QUERIES * WIDTH + inside, total)
            gl.store(room + 2 * QUERIES * (WIDTH + 1) + inside, top)

    @gluon.jit
    def _attend_kernel(
        q,  # [tokens, heads, WIDTH]
        condition_k,  # descriptor of [heads * condition_tiles * TILE, WIDTH], int8
        condition_k_scale,  # [heads, condition_tiles], float32
        condition_v,  # descriptor of [heads * WIDTH, condition_tiles * TILE], float8
        condition_v_scale,  # [heads, condition_tiles], float32
        ring_k,  # descriptor of [slots * heads * block_tiles * TILE, WIDTH], int8
        ring_k_scale,  # [slots, heads, block_tiles], float32
        ring_v,  # descriptor of [slots * heads * WIDTH, block_tiles * TILE], float8
        ring_v_scale,  # [slots, heads, block_tiles], float32
        mean,  # [heads, WIDTH], float32
        out,  # [tokens, heads, WIDTH]
        room_of_parts,  # [split programs * parts, 2 * QUERIES * (WIDTH + 2)], float32
        tokens,
        condition_tiles,
        block_tiles,
        slots,
        padding,  # tokens of zeros among the keys
        scale,  # of the scores, for powers of two
        heads,
        whole,  # programs that are not split
        parts,
        WIDTH: gl.constexpr,
        TILE: gl.constexpr,
        QUERIES: gl.constexpr,
        ROOM: gl.constexpr,
        STAGES: gl.constexpr,
        REGISTERS: gl.constexpr,
        COPY_REGISTERS: gl.constexpr,
    ):
        # Programs: blocks of 2 QUERIES queries of a head, the last of them in several parts, which have some tiles of
        # keys each.
        count = condition_tiles + block_tiles * slots
        program, piece, begin = gl.program_id(0), -1, 0
        if program >= whole:
            piece = program - whole
            program = whole + piece // parts
            begin = piece % parts * count // parts
            count = (piece % parts + 1) * count // parts - begin
        tiles = (tokens + 2 * QUERIES - 1) // (2 * QUERIES)
        first, head = program % tiles * (2 * QUERIES), program // tiles
        LAYOUT: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=8, rank=2)
        keys = gl.allocate_shared_memory(gl.int8, [STAGES, TILE, WIDTH], LAYOUT)
        values = gl.allocate_shared_memory(gl.float8e4nv, [STAGES, WIDTH, TILE], LAYOUT)
        MARK: gl.constexpr = gl.SwizzledSharedLayout(1, 1, 1, [0])
        marks = gl.allocate_shared_memory(gl.float32, [STAGES * 3, 1], MARK)
        full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
        empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
        for i in gl.static_range(STAGES):
            mbarrier.init(full.index(i), count=1)
            mbarrier.init(empty.index(i), count=2)
        fence_async_shared()
        tensors = (q, mean, out, room_of_parts)
        scales = (condition_k_scale, condition_v_scale, ring_k_scale, ring_v_scale)
        rooms = (keys, values, marks, full, empty)
        sizes = (heads, tokens, padding, scale)
        tiles = (condition_tiles, block_tiles)
        second = first + QUERIES
        copied = (condition_k, condition_v, ring_k, ring_v)
        gl.warp_specialize(
            [
                (
                    _attend,
                    (tensors, rooms, first, head, sizes, count, piece, WIDTH, TILE, QUERIES, ROOM, STAGES),
                ),
                (
                    _attend,
                    (tensors, rooms, second, head, sizes, count, piece, WIDTH, TILE, QUERIES, ROOM, STAGES),
                ),
                (_copy, (copied, scales, rooms, begin, count, head, heads, tiles, WIDTH, TILE, STAGES)),
            ],
            [4, 1],
            [REGISTERS, COPY_REGISTERS],
        )

    @triton.jit
    def _add_up_kernel(
        room_of_parts,  # [split programs * parts, 2 * QUERIES * (WIDTH + 2)], float32
        mean,  # [heads, WIDTH], float32
        out,  # [tokens, heads, WIDTH]
        tokens,
        padding,  # tokens of zeros among the keys
        heads,
        whole,  # programs that were not split
        parts,
        WIDTH: tl.constexpr,
        QUERIES: tl.constexpr,
        ROWS: tl.constexpr,
        ROOM: tl.constexpr,
    ):
        # Programs: programs that were split, blocks of ROWS of their queries. Each adds up the parts' results.
        column = tl.arange(0, WIDTH)
        inside = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
        room = room_of_parts + tl.program_id(0) * parts * (2 * QUERIES * (WIDTH + 2))
        top = tl.full((ROWS,), -float("inf"), tl.float32)
        total = tl.zeros((ROWS,), tl.float32)
        sums = tl.zeros((ROWS, WIDTH), tl.float32)
        for _ in range(parts):
            part_top = tl.load(room + 2 * QUERIES * (WIDTH + 1) + inside)
            highest = tl.maximum(top, part_top)
            fade, share = tl.exp2(top - highest), tl.exp2(part_top - highest)
            total = total * fade + tl.load(room + 2 * QUERIES * WIDTH + inside) * share
            part = tl.load(room + inside[:, None] * WIDTH + column[None])
            sums = sums * fade[:, None] + part * share[:, None]
            top = highest
            room += 2 * QUERIES * (WIDTH + 2)
        total -= padding * tl.exp2(ROOM - top)
        program = whole + tl.program_id(0)
        tiles = tl.cdiv(tokens, 2 * QUERIES)
        row, head = program % tiles * (2 * QUERIES) + inside, program // tiles
        result = sums / total[:, None] + tl.load(mean + head * WIDTH + column)[None]
        place = (row.to(tl.int64) * heads + head)[:, None] * WIDTH + column[None]
        tl.store(out + place, result.to(out.dtype.element_ty), mask=(row < tokens)[:, None])
