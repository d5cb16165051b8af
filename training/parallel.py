"""The S2V transformer over whole clips at once, for training and for fast sampling of many clips.

Inference generates block after block, each attending to itself, to the three blocks before it at the same noise
level, and to the condition tokens. With one noise level for the whole clip that is a block-causal mask, so all
blocks can be computed together; the numbers are those of the cached forward. The weights are the engine's
S2VTransformer; only the way through its layers is written again here, with a batch axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 4  # blocks that a block sees, itself included: 48 frames a clip
BLOCK = 3  # latent frames
REFERENCE_TIME = 30
BASE = 10000.0


@dataclass(frozen=True)
class Condition:
    """What a batch of clips is made from; latents are normalised, `blocks` follows from the noisy latents.

    reference [B, 16, 1, h, w]; motion [B, 16, 19, h, w]; features [B, 25, audio_dim, 12 * blocks];
    text [B, rows, text_dim] with `text_rows` [B] of them real; `start` [B] the first latent frame's place in the
    video; `sink` [B] how far ahead of a block the reference is kept (4..30).
    """

    reference: Tensor
    motion: Tensor
    features: Tensor
    text: Tensor
    text_rows: Tensor
    start: Tensor
    sink: Tensor


def flow(model, noisy: Tensor, sigma: Tensor, given: Condition, window: int = WINDOW) -> Tensor:
    """Flow (noise minus clean) of noisy clips [B, 16, 3 * blocks, h, w] that have noise level `sigma` [B], where a
    block sees `window` blocks."""
    count, _, frames, height, width = noisy.shape
    blocks, rows, columns = frames // BLOCK, height // 2, width // 2
    tokens = rows * columns
    device = noisy.device
    time, shifts = _time(model, sigma * 1000)
    _, rest = _time(model, torch.zeros(1, device=device))
    mask = model.trainable_cond_mask.weight
    condition = model.cond_encoder(torch.zeros_like(noisy[:1, :, :1])).flatten(2).transpose(1, 2)
    x = _tokens(model.patch_embedding, noisy) + condition.repeat(1, frames, 1) + mask[0]
    packer, motion = model.frame_packer, given.motion
    c = torch.cat(
        [
            _tokens(model.patch_embedding, given.reference) + mask[1],
            _tokens(packer.proj, motion[:, :, 18:]) + mask[2],
            _tokens(packer.proj_2x, motion[:, :, 16:18]) + mask[2],
            _tokens(packer.proj_4x, motion[:, :, :16]) + mask[2],
        ],
        1,
    )
    text, text_bias = _text(model, given)
    speech = _speech(model, given.features, blocks)

    row, column = torch.arange(rows, device=device), torch.arange(columns, device=device)
    times = given.start[:, None] + torch.arange(frames, device=device)
    here = _rotation(times, row, column)
    first = times[:, ::BLOCK]
    ahead = REFERENCE_TIME + (first - (REFERENCE_TIME - given.sink[:, None])).clamp(min=0)
    sinks = [_rotation(ahead[:, b : b + 1], row, column) for b in range(blocks)]
    still = _rotation(torch.full((1, 1), REFERENCE_TIME, device=device), row, column)
    past = _motion_rotation(rows, columns, device)
    still = torch.cat([still, past], 1)

    for layer, block in enumerate(model.blocks):
        text_kv = block.cross_attn.key_value(text)
        kc, vc, c = _condition_layer(block, c, rest, text_kv, text_bias, still, layer + 1 < len(model.blocks))
        shift1, scale1, gate1, shift2, scale2, gate2 = _modulation(block, shifts)
        y = _modulated(x, scale1, shift1)
        q, (k, v) = block.self_attn.query(y), block.self_attn.key_value(y)
        q, k = _turn(q, here), _turn(k, here)
        fixed = _turn(kc[:, tokens:], past)
        seen = []
        for b in range(blocks):
            low, high = max(0, b + 1 - window) * BLOCK * tokens, (b + 1) * BLOCK * tokens
            keys = torch.cat([_turn(kc[:, :tokens], sinks[b]), fixed, k[:, low:high]], 1)
            values = torch.cat([vc, v[:, low:high]], 1)
            seen.append(_attend(q[:, high - BLOCK * tokens : high], keys, values))
        x = torch.addcmul(x, block.self_attn.output(torch.cat(seen, 1)).float(), gate1)
        x = x + _attend_text(block, x, text_kv, text_bias)
        x = torch.addcmul(x, block.ffn(_modulated(x, scale2, shift2)).float(), gate2)
        x = _inject(model, layer, x, speech, frames)

    shift, scale = (model.head.modulation + time[:, None]).unbind(1)
    x = model.head.head(_modulated(x, scale[:, None], shift[:, None])).float()
    x = x.view(count, frames, rows, columns, 2, 2, -1)
    return x.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)


def sample(model, noise: Tensor, given: Condition, sigmas: Tensor, window: int = WINDOW) -> list[Tensor]:
    """Euler steps from `noise` through `sigmas` [steps + 1] for whole clips; the latents at every noise level."""
    states = [noise]
    for now, then in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        level = torch.full((len(noise),), now, device=noise.device)
        states.append(states[-1] + (then - now) * flow(model, states[-1], level, given, window).float())
    return states


def schedule(steps: int, shift: float = 3.0) -> Tensor:
    """Sigmas [steps + 1] of the engine's scheduler: shifted twice at the end point, then 0."""

    def shifted(s: Tensor) -> Tensor:
        return shift * s / (1 + (shift - 1) * s)

    low = float(shifted(torch.tensor(0.001, dtype=torch.float64)))
    sigmas = shifted(torch.linspace(1, low, steps, dtype=torch.float64))
    return torch.cat([sigmas, torch.zeros(1, dtype=torch.float64)]).float()


def _tokens(patches, latents: Tensor) -> Tensor:
    return patches(latents).flatten(2).transpose(1, 2)


def _norm(x: Tensor, eps: float = 1e-6) -> Tensor:
    return F.layer_norm(x.float(), x.shape[-1:], eps=eps)


def _modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """The norm, scaled and shifted in one pass over memory."""
    return torch.addcmul(shift, _norm(x), 1 + scale)


def _time(model, timestep: Tensor) -> tuple[Tensor, Tensor]:
    """Time embedding [B, dim] and the layers' modulation [B, 6, dim]."""
    half = model.config.freq_dim // 2
    steps = torch.arange(half, dtype=torch.float64, device=timestep.device)
    angles = timestep.double()[:, None] * 10000.0 ** (-steps / half)
    time = model.time_embedding(torch.cat([angles.cos(), angles.sin()], 1).float()).float()
    return time, model.time_projection(time).float().unflatten(1, (6, -1))


def _modulation(block, shifts: Tensor) -> tuple[Tensor, ...]:
    return (block.modulation + shifts)[:, :, None].unbind(1)


def _text(model, given: Condition) -> tuple[Tensor, Tensor]:
    """Embedded text rows and one embedded padding row that counts for all of them, as a bias of the logits."""
    rows = F.pad(given.text, (0, 0, 0, 1))
    index = torch.arange(rows.shape[1], device=rows.device)
    real = index[None] < given.text_rows[:, None]
    bias = torch.where(real, 0.0, -1e4)
    bias[:, -1] = torch.log((model.config.text_len - given.text_rows).float())
    return model.text_embedding(rows), bias[:, None, None]


def _attend_text(block, x: Tensor, text_kv: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
    q = block.cross_attn.query(block.norm3(x))
    return block.cross_attn.output(_attend(q, *text_kv, bias)).float()


def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    q, k, v = (t.to(v.dtype).transpose(1, 2) for t in (q, k, v))
    bias = None if bias is None else bias.to(q.dtype).expand(-1, q.shape[1], q.shape[2], -1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)


def _condition_layer(block, c: Tensor, rest: Tensor, text_kv, bias: Tensor, still, needed: bool):
    """Keys (not rotated) and values of the condition tokens in one layer, and the tokens after it."""
    shift1, scale1, gate1, shift2, scale2, gate2 = _modulation(block, rest)
    y = _modulated(c, scale1, shift1)
    k, v = block.self_attn.key_value(y)
    if needed:
        q = block.self_attn.query(y)
        c = torch.addcmul(
            c, block.self_attn.output(_attend(_turn(q, still), _turn(k, still), v)).float(), gate1
        )
        c = c + _attend_text(block, c, text_kv, bias)
        c = torch.addcmul(c, block.ffn(_modulated(c, scale2, shift2)).float(), gate2)
    return k, v, c


def _speech(model, features: Tensor, blocks: int) -> tuple[Tensor, Tensor]:
    """Global [B * frames, dim] and local [B * frames, 5, dim] audio tokens, encoded block by block."""
    features = features.unflatten(3, (blocks, -1)).permute(0, 3, 1, 2, 4).flatten(0, 1)
    overall, local = model.casual_audio_encoder.encode_block(features, torch.float32)
    return overall.flatten(0, 1), local.flatten(0, 1)


def _inject(model, layer: int, x: Tensor, speech: tuple[Tensor, Tensor], frames: int) -> Tensor:
    injector = model.audio_injector
    if layer not in injector.index:
        return x
    j, (overall, local) = injector.index[layer], speech
    count, total, dim = x.shape
    shift, scale = injector.injector_adain_layers[j].linear(F.silu(overall))[:, None].chunk(2, -1)
    z = _norm(x, 1e-5).view(count * frames, total // frames, dim)
    z = torch.addcmul(shift.float(), z, 1 + scale.float())
    k, v = injector.injector[j].key_value(local)
    heard = injector.injector[j].output(_attend(injector.injector[j].query(z), k, v))
    return x + heard.float().view(count, total, dim)


def _rotation(times: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Complex factors [B, times * rows * columns, 1, 64] for times [B, T], rounded as in the engine."""
    shape = (len(times), times.shape[1], len(rows), len(columns))
    angles = []
    for axis, (positions, pairs) in enumerate(((times, 22), (rows[None], 21), (columns[None], 21))):
        steps = torch.arange(pairs, dtype=torch.float64, device=times.device)
        angle = positions.double()[..., None] * BASE ** (-steps / pairs)
        view = [len(angle), 1, 1, 1, pairs]
        view[1 + axis] = positions.shape[1]
        angles.append(angle.view(view).expand(*shape, pairs))
    angle = torch.cat(angles, -1).flatten(1, 3)[:, :, None]
    return torch.complex(angle.cos().float().half().float(), angle.sin().float().half().float())


@cache
def _motion_rotation(rows: int, columns: int, device: torch.device) -> Tensor:
    """Rotations of the packed motion tokens: newest, half and quarter resolution."""

    def spread(count: int, parts: int) -> Tensor:
        return torch.linspace(0, count - 1, count // parts).floor().to(device)

    groups = []
    for times, parts in (((-1,), 1), ((-3,), 2), ((-19, -14, -9, -4), 4)):
        when = torch.tensor([times], device=device)
        groups.append(_rotation(when, spread(rows, parts), spread(columns, parts)))
    return torch.cat(groups, 1)


def _turn(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the interleaved pairs of [B, tokens, heads, 128]."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)
