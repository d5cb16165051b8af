"""8-bit attention for Hopper: one warp copies tiles, two groups of warps attend, each to 64 queries of a head.

The same sums as `eight_kernels._attend_kernel`, in Triton's Gluon dialect, which says itself where a tile lies and
when the matrix unit is waited for.
"""

from __future__ import annotations

import torch
from torch import Tensor

try:
    import triton
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
"""Of a group of warps; two groups share a program."""
STAGES = 4
REGISTERS = 240
"""Per thread of a group that attends; those of the copying warp get `COPY_REGISTERS`."""
COPY_REGISTERS = 24


def available(device: torch.device) -> bool:
    """Whether this Triton and GPU may run it; whether it computes the right thing is to be tried."""
    return gluon is not None and torch.cuda.get_device_capability(device)[0] == 9


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
    """`eight_kernels.attend` into ``out``.

    ``scale`` is that of the scores, for powers of two; ``tile`` and ``room`` are `eight_kernels`' constants.
    """
    _, tokens, heads, _ = q.shape
    _attend_kernel[(triton.cdiv(tokens, 2 * QUERIES), heads)](
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
        tokens,
        condition[1].shape[-1],
        ring[1].shape[-1],
        slots,
        padding,
        scale,
        heads,
        WIDTH=HEAD_DIM,
        TILE=tile,
        QUERIES=QUERIES,
        ROOM=room,
        STAGES=STAGES,
        REGISTERS=REGISTERS,
        COPY_REGISTERS=COPY_REGISTERS,
        num_warps=4,
    )


def _tiled(x: Tensor, tile: int) -> TensorDescriptor:
    """What the copy engine has to know of keys or values to fetch tiles of them, which are as wide as they are high."""
    rows = x.reshape(-1, x.shape[-1])
    return TensorDescriptor(rows, list(rows.shape), list(rows.stride()), [tile, HEAD_DIM], SHARED)


if gluon is not None:
    SHARED = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=8, rank=2)

    @gluon.jit
    def _copy(
        copied,
        rooms,
        head,
        heads,
        tiles,
        WIDTH: gl.constexpr,
        TILE: gl.constexpr,
        STAGES: gl.constexpr,
    ):
        """Fetch all tiles in turn, each once its room has been read."""
        condition_k, condition_v, ring_k, ring_v = copied
        keys, values, keys_full, keys_empty, values_full, values_empty = rooms
        condition_tiles, block_tiles, count = tiles
        for number in range(count):
            stage = number % STAGES
            phase = (number // STAGES) & 1 ^ 1
            past = number - condition_tiles
            slot = past // block_tiles
            tile = past - slot * block_tiles
            base = slot * heads + head
            key, value = keys.index(stage), values.index(stage)
            key_full, value_full = keys_full.index(stage), values_full.index(stage)
            mbarrier.wait(keys_empty.index(stage), phase)
            mbarrier.expect(key_full, TILE * WIDTH)
            if number < condition_tiles:
                row = (head * condition_tiles + number) * TILE
                tma.async_copy_global_to_shared(condition_k, [row, 0], key_full, key)
            else:
                row = (base * block_tiles + tile) * TILE
                tma.async_copy_global_to_shared(ring_k, [row, 0], key_full, key)
            mbarrier.wait(values_empty.index(stage), phase)
            mbarrier.expect(value_full, TILE * WIDTH)
            if number < condition_tiles:
                tma.async_copy_global_to_shared(condition_v, [head * WIDTH, number * TILE], value_full, value)
            else:
                tma.async_copy_global_to_shared(ring_v, [base * WIDTH, tile * TILE], value_full, value)
        # One more tile of keys, whose scores nobody reads: attending asks for them without looking how far it is.
        stage = count % STAGES
        mbarrier.wait(keys_empty.index(stage), (count // STAGES) & 1 ^ 1)
        mbarrier.expect(keys_full.index(stage), TILE * WIDTH)
        tma.async_copy_global_to_shared(condition_k, [0, 0], keys_full.index(stage), keys.index(stage))

    @gluon.jit
    def _scale(condition, ring, number, base, tile, tiles):
        """A tile's scale, from the condition or from the ring."""
        condition_tiles, block_tiles, count = tiles
        early = gl.load(condition + number, mask=number < condition_tiles, other=0.0)
        inside = (number >= condition_tiles) & (number < count)
        return early + gl.load(ring + base * block_tiles + tile, mask=inside, other=0.0)

    @gluon.jit
    def _attend(
        tensors,
        scales,
        rooms,
        first,
        head,
        sizes,
        tiles,
        WIDTH: gl.constexpr,
        TILE: gl.constexpr,
        QUERIES: gl.constexpr,
        ROOM: gl.constexpr,
        STAGES: gl.constexpr,
    ):
        """One group's queries, from ``first`` on."""
        q, mean, out = tensors
        heads, tokens, padding, scale = sizes
        condition_k_scale, condition_v_scale, ring_k_scale, ring_v_scale = scales
        keys, values, keys_full, keys_empty, values_full, values_empty = rooms
        condition_tiles, block_tiles, count = tiles
        SCORES: gl.constexpr = gl.NVMMADistributedLayout(
            version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, TILE, 32]
        )
        SUMS: gl.constexpr = gl.NVMMADistributedLayout(
            version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, WIDTH, 32]
        )
        QUERY: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=SCORES, k_width=4)
        WEIGHT: gl.constexpr = gl.DotOperandLayout(operand_index=0, parent=SUMS, k_width=4)
        LOADED: gl.constexpr = gl.BlockedLayout([1, 8], [2, 16], [4, 1], [1, 0])

        row = first + gl.arange(0, QUERIES, layout=gl.SliceLayout(1, LOADED))
        column = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, LOADED))
        place = gl.expand_dims((row.to(gl.int64) * heads + head) * WIDTH, 1) + gl.expand_dims(column, 0)
        query = gl.load(q + place, mask=gl.expand_dims(row < tokens, 1), other=0.0).to(gl.float32)
        step = gl.maximum(gl.max(gl.abs(query), 1), 1e-12) / 127.0
        query = gl.convert_layout(gl.floor(query / gl.expand_dims(step, 1) + 0.5).to(gl.int8), QUERY)
        step = gl.convert_layout(step * scale, gl.SliceLayout(1, SCORES))

        top = gl.full([QUERIES], -float("inf"), gl.float32, layout=gl.SliceLayout(1, SCORES))
        # Four threads share a row; each adds up its own part.
        total = gl.zeros([QUERIES, TILE], gl.float32, layout=SCORES)
        total = gl.sum(gl.sum(total.reshape([QUERIES, TILE // 8, 4, 2]), 3), 1)
        PARTS: gl.constexpr = gl.SliceLayout(1, total.type.layout)
        sums = gl.zeros([QUERIES, WIDTH], gl.float32, layout=SUMS)
        nothing = gl.zeros([QUERIES, WIDTH], gl.float32, layout=SUMS)
        # Integers below 2**22 on top of these bits are the fraction of a float32: no conversion is needed.
        start = gl.full([QUERIES, TILE], 0x4B400000, gl.int32, layout=SCORES)
        unit = 1.0

        condition_k_scale += head * condition_tiles
        condition_v_scale += head * condition_tiles
        base, tile = head, 0
        key_scale = gl.load(condition_k_scale)
        value_scale = gl.load(condition_v_scale)
        stage, phase = 0, 0
        mbarrier.wait(keys_full.index(0), 0)
        coming = warpgroup_mma(query, keys.index(0).permute((1, 0)), start, is_async=True)
        scores = warpgroup_mma_wait(0, deps=[coming])
        mbarrier.arrive(keys_empty.index(0), count=1)
        for number in range(count):
            after = number + 1
            next_stage, next_phase = stage + 1, phase
            if next_stage == STAGES:
                next_stage = 0
                next_phase = phase ^ 1
            if after > condition_tiles:
                tile += 1
                if tile == block_tiles:
                    tile = 0
                    base += heads
            next_key_scale = _scale(condition_k_scale, ring_k_scale, after, base, tile, tiles)
            next_value_scale = _scale(condition_v_scale, ring_v_scale, after, base, tile, tiles)
            factor = step * key_scale
            largest = gl.max(scores, 1).to(gl.float32, bitcast=True) - 12582912.0
            highest = gl.maximum(top, largest * factor)
            shift = highest - ROOM + 12582912.0 * factor
            weight = gl.exp2(
                scores.to(gl.float32, bitcast=True) * gl.expand_dims(factor, 1) - gl.expand_dims(shift, 1)
            )
            fade = gl.exp2(top - highest)
            rounded = weight.to(gl.float8e4nv).reshape([QUERIES, TILE // 32, 2, 2, 4, 2])
            rounded = rounded.permute([0, 1, 2, 4, 3, 5]).reshape([QUERIES, TILE])
            rounded = gl.convert_layout(rounded, WEIGHT)
            keep = gl.convert_layout(fade * (unit / value_scale), gl.SliceLayout(1, SUMS))
            top = highest
            unit = value_scale

            mbarrier.wait(values_full.index(stage), phase)
            mbarrier.wait(keys_full.index(next_stage), next_phase)
            # A tile's products are added up apart: the matrix unit's own sums keep few bits.
            product = warpgroup_mma(
                rounded, values.index(stage).permute((1, 0)), nothing, use_acc=False, is_async=True
            )
            coming = warpgroup_mma(query, keys.index(next_stage).permute((1, 0)), start, is_async=True)
            part = gl.sum(gl.sum(weight.reshape([QUERIES, TILE // 8, 4, 2]), 3), 1)
            total = total * gl.expand_dims(gl.convert_layout(fade, PARTS), 1) + part
            product = warpgroup_mma_wait(1, deps=[product])
            mbarrier.arrive(values_empty.index(stage), count=1)
            sums = sums * gl.expand_dims(keep, 1) + product
            scores = warpgroup_mma_wait(0, deps=[coming])
            mbarrier.arrive(keys_empty.index(next_stage), count=1)
            key_scale = next_key_scale
            value_scale = next_value_scale
            stage, phase = next_stage, next_phase

        total = gl.convert_layout(gl.sum(total, 1), gl.SliceLayout(1, SCORES))
        total -= padding * gl.exp2(ROOM - top)
        sums = sums * gl.expand_dims(gl.convert_layout(unit / total, gl.SliceLayout(1, SUMS)), 1)
        row = first + gl.arange(0, QUERIES, layout=gl.SliceLayout(1, SUMS))
        column = gl.arange(0, WIDTH, layout=gl.SliceLayout(0, SUMS))
        sums += gl.expand_dims(gl.load(mean + head * WIDTH + column), 0)
        place = gl.expand_dims((row.to(gl.int64) * heads + head) * WIDTH, 1) + gl.expand_dims(column, 0)
        gl.store(out + place, sums.to(out.dtype.element_ty), mask=gl.expand_dims(row < tokens, 1))

    @gluon.jit
    def _attend_kernel(
        q,
        condition_k,
        condition_k_scale,
        condition_v,
        condition_v_scale,
        ring_k,
        ring_k_scale,
        ring_v,
        ring_v_scale,
        mean,
        out,
        tokens,
        condition_tiles,
        block_tiles,
        slots,
        padding,
        scale,
        heads,
        WIDTH: gl.constexpr,
        TILE: gl.constexpr,
        QUERIES: gl.constexpr,
        ROOM: gl.constexpr,
        STAGES: gl.constexpr,
        REGISTERS: gl.constexpr,
        COPY_REGISTERS: gl.constexpr,
    ):
        first, head = gl.program_id(0) * (2 * QUERIES), gl.program_id(1)
        count = condition_tiles + block_tiles * slots
        LAYOUT: gl.constexpr = gl.NVMMASharedLayout(swizzle_byte_width=128, element_bitwidth=8, rank=2)
        keys = gl.allocate_shared_memory(gl.int8, [STAGES, TILE, WIDTH], LAYOUT)
        values = gl.allocate_shared_memory(gl.float8e4nv, [STAGES, WIDTH, TILE], LAYOUT)
        keys_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
        keys_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
        values_full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
        values_empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
        for i in gl.static_range(STAGES):
            mbarrier.init(keys_full.index(i), count=1)
            mbarrier.init(values_full.index(i), count=1)
            mbarrier.init(keys_empty.index(i), count=2)
            mbarrier.init(values_empty.index(i), count=2)
        fence_async_shared()
        tensors = (q, mean, out)
        scales = (condition_k_scale, condition_v_scale, ring_k_scale, ring_v_scale)
        rooms = (keys, values, keys_full, keys_empty, values_full, values_empty)
        sizes = (heads, tokens, padding, scale)
        tiles = (condition_tiles, block_tiles, count)
        second = first + QUERIES
        copied = (condition_k, condition_v, ring_k, ring_v)
        gl.warp_specialize(
            [
                (
                    _attend,
                    (tensors, scales, rooms, first, head, sizes, tiles, WIDTH, TILE, QUERIES, ROOM, STAGES),
                ),
                (
                    _attend,
                    (tensors, scales, rooms, second, head, sizes, tiles, WIDTH, TILE, QUERIES, ROOM, STAGES),
                ),
                (_copy, (copied, rooms, head, heads, tiles, WIDTH, TILE, STAGES)),
            ],
            [4, 1],
            [REGISTERS, COPY_REGISTERS],
        )
