"""The motion model (LMDM): a transformer that denoises 80 frames of motion under a condition per frame.

What does not change from step to step (the condition's keys and values) is computed once per window, what does not
change from window to window (the tokens of the time) once per number of steps. Both branches of the guidance run as one
batch. The shapes are always the same and nothing is read back, so a whole window can be captured as one CUDA graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import WINDOW, MotionModelConfig
from .schedule import Steps

TIME_TOKENS = 2
GUIDANCE = 2.0


class Turn(NamedTuple):
    """Cosines and sines ``[positions, D / 2]`` of the rotary embedding."""

    cosine: Tensor
    sine: Tensor

    def __call__(self, x: Tensor, first: int = 0) -> Tensor:
        """``x`` ``[B, n, D]`` with every pair of neighbours turned by its position's angle, positions from ``first``.

        The whole vector is turned before it is projected, not the queries and keys of single heads.
        """
        places = slice(first, first + x.shape[1])
        cosine, sine = self.cosine[places], self.sine[places]
        a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
        return torch.stack([a * cosine - b * sine, b * cosine + a * sine], -1).flatten(-2)


class Rotary(nn.Module):
    """The frequencies of the rotary embedding, a buffer that every layer of the checkpoint repeats."""

    def __init__(self, width: int):
        super().__init__()
        exponents = torch.arange(0, width, 2, dtype=torch.float32) / width
        self.register_buffer("freqs", 1 / 10000**exponents)

    def turn(self, positions: int) -> Turn:
        angles = torch.arange(positions, device=self.freqs.device)[:, None] * self.freqs
        return Turn(angles.cos(), angles.sin())


class Attention(nn.Module):
    """Multi-head attention with the packed parameters of ``nn.MultiheadAttention``."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def project(self, x: Tensor, first: int, count: int) -> tuple[Tensor, ...]:
        """``count`` of queries, keys and values from ``first`` (0, 1, 2) on, each ``[B, heads, n, width / heads]``."""
        width = x.shape[-1]
        rows = slice(first * width, (first + count) * width)
        y = F.linear(x, self.in_proj_weight[rows], self.in_proj_bias[rows])
        return y.unflatten(-1, (count, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.out_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    def to_self(self, x: Tensor, turn: Turn) -> Tensor:
        """Self-attention of ``[B, n, D]`` in which queries and keys are turned."""
        q, k = self.project(turn(x), 0, 2)
        (v,) = self.project(x, 2, 1)
        return self.attend(q, k, v)

    def keys_values(self, memory: Tensor, turn: Turn, first: int = 0) -> Tensor:
        """Keys of the turned and values of the plain memory ``[B, n, D]``: ``[2, B, heads, n, width / heads]``."""
        (k,) = self.project(turn(memory, first), 1, 1)
        (v,) = self.project(memory, 2, 1)
        return torch.stack([k, v])


class EncoderLayer(nn.Module):
    """A layer that reads the condition of all frames."""

    def __init__(self, config: MotionModelConfig, rotary: Rotary):
        super().__init__()
        width = config.width
        self.self_attn = Attention(width, config.heads)
        self.linear1, self.linear2 = (
            nn.Linear(width, config.feed_forward),
            nn.Linear(config.feed_forward, width),
        )
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.rotary = rotary

    def forward(self, x: Tensor, turn: Turn) -> Tensor:
        x = x + self.self_attn.to_self(self.norm1(x), turn)
        return x + self.linear2(F.gelu(self.linear1(self.norm2(x))))


class Film(nn.Module):
    """Scale and shift of a layer's output by the time and the pooled condition."""

    def __init__(self, width: int):
        super().__init__()
        self.block = nn.Sequential(nn.Mish(), nn.Linear(width, 2 * width))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., 2, D]``: what the output is multiplied by, and what is added."""
        scale, shift = self.block(x).chunk(2, -1)
        return torch.stack([scale + 1, shift], -2)


class DecoderLayer(nn.Module):
    """A layer of the denoiser: frames read one another, then the condition."""

    def __init__(self, config: MotionModelConfig, rotary: Rotary):
        super().__init__()
        width = config.width
        self.self_attn = Attention(width, config.heads)
        self.multihead_attn = Attention(width, config.heads)
        self.linear1, self.linear2 = (
            nn.Linear(width, config.feed_forward),
            nn.Linear(config.feed_forward, width),
        )
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.film1, self.film2, self.film3 = (Film(width) for _ in range(3))
        self.rotary = rotary

    def films(self, x: Tensor) -> Tensor:
        """``[..., D]`` to the three films ``[3, 2, ..., D]``."""
        return torch.stack([film(x) for film in (self.film1, self.film2, self.film3)]).movedim(-2, 1)

    def forward(self, x: Tensor, turn: Turn, memory: Tensor, films: Tensor) -> Tensor:
        """Frames ``[B, n, D]``; ``memory`` are keys and values, ``films`` ``[3, 2, B, 1, D]``."""
        steps = films.unbind(0)
        x = _add(x, self.self_attn.to_self(self.norm1(x), turn), steps[0])
        (q,) = self.multihead_attn.project(turn(self.norm2(x)), 0, 1)
        x = _add(x, self.multihead_attn.attend(q, *memory.unbind(0)), steps[1])
        return _add(x, self.linear2(F.gelu(self.linear1(self.norm3(x)))), steps[2])


def _add(x: Tensor, y: Tensor, film: Tensor) -> Tensor:
    scale, shift = film.unbind(0)
    return torch.addcmul(x + shift, y, scale)


class Times(NamedTuple):
    """The model's view of S times.

    Attributes:
        memory: keys and values of each layer's two time tokens, ``[layers, 2, S, heads, 2, width / heads]``.
        embedding: ``[S, D]``, what the films start from.
    """

    memory: Tensor
    embedding: Tensor


class Condition(NamedTuple):
    """The model's view of the conditions of a batch of windows.

    Attributes:
        memory: keys and values of each layer, ``[layers, 2, B, heads, 80, width / heads]``.
        pooled: ``[B, D]``, what the condition adds to the time's embedding.
    """

    memory: Tensor
    pooled: Tensor


class _Stack(nn.Module):
    """Decoder layers under the checkpoint's name."""

    def __init__(self, layers: list[DecoderLayer]):
        super().__init__()
        self.stack = nn.ModuleList(layers)


class MotionModel(nn.Module):
    """The denoiser of motion; it predicts the clean motion. It is meant for float32."""

    def __init__(self, config: MotionModelConfig | None = None):
        super().__init__()
        self.config = config = config or MotionModelConfig()
        width = config.width
        self.null_cond_embed = nn.Parameter(torch.zeros(1, WINDOW, width))
        self.null_cond_hidden = nn.Parameter(torch.zeros(1, width))
        self.rotary = Rotary(width)
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(width, 4 * width), nn.Mish())
        self.to_time_cond = nn.Sequential(nn.Linear(4 * width, width))
        self.to_time_tokens = nn.Sequential(nn.Linear(4 * width, TIME_TOKENS * width))
        self.norm_cond = nn.LayerNorm(width)
        self.input_projection = nn.Linear(2 * config.motion, width)
        self.cond_encoder = nn.ModuleList(EncoderLayer(config, self.rotary) for _ in range(2))
        self.cond_projection = nn.Linear(config.condition, width)
        self.non_attn_cond_projection = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.seqTransDecoder = _Stack([DecoderLayer(config, self.rotary) for _ in range(config.layers)])
        self.final_layer = nn.Linear(width, config.motion)

    @property
    def layers(self) -> nn.ModuleList:
        return self.seqTransDecoder.stack

    def turn(self) -> Turn:
        """The rotary table of a window and its time tokens."""
        return self.rotary.turn(WINDOW + TIME_TOKENS)

    def times(self, times: Tensor) -> Times:
        """The view of integer times ``[S]``."""
        half = self.config.width // 2
        places = torch.arange(half, device=times.device)
        angles = times[:, None] * torch.exp(places * (-math.log(10000) / (half - 1)))
        u = self.time_mlp(torch.cat([angles.sin(), angles.cos()], -1))
        tokens = self.norm_cond(self.to_time_tokens(u).unflatten(-1, (TIME_TOKENS, -1)))
        turn = self.turn()
        memory = [layer.multihead_attn.keys_values(tokens, turn, WINDOW) for layer in self.layers]
        return Times(torch.stack(memory), self.to_time_cond(u))

    def encode(self, condition: Tensor) -> Tensor:
        """Tokens ``[B, 80, D]`` of condition rows ``[B, 80, C]``."""
        turn = self.turn()
        tokens = self.cond_projection(condition)
        for layer in self.cond_encoder:
            tokens = layer(tokens, turn)
        return tokens

    def _read(self, tokens: Tensor, pooled: Tensor) -> Condition:
        memory, turn = self.norm_cond(tokens), self.turn()
        read = [layer.multihead_attn.keys_values(memory, turn) for layer in self.layers]
        return Condition(torch.stack(read), pooled)

    def conditioned(self, condition: Tensor) -> Condition:
        """The view of condition rows ``[B, 80, C]``."""
        tokens = self.encode(condition)
        return self._read(tokens, self.non_attn_cond_projection(tokens.mean(1)))

    def unconditioned(self) -> Condition:
        """The view of no condition, of one window."""
        return self._read(self.null_cond_embed, self.null_cond_hidden)

    def films(self, embedding: Tensor) -> Tensor:
        """All films ``[layers, 3, 2, ..., 1, D]`` of embeddings ``[..., D]``: the time's plus the pooled condition."""
        return torch.stack([layer.films(embedding) for layer in self.layers]).unsqueeze(-2)

    def denoise(self, x: Tensor, memory: Tensor, films: Tensor, turn: Turn) -> Tensor:
        """The clean motion ``[B, 80, 265]``.

        Args:
            x: the noisy motion beside the motion of the frame before, ``[B, 80, 2 * 265]``.
            memory: keys and values of condition and time, ``[layers, 2, B, heads, 82, width / heads]``.
            films: ``[layers, 3, 2, B, 1, D]``.
        """
        h = self.input_projection(x)
        for layer, read, film in zip(self.layers, memory.unbind(0), films.unbind(0), strict=True):
            h = layer(h, turn, read, film)
        return self.final_layer(h)

    def forward(self, x: Tensor, before: Tensor, condition: Condition, times: Tensor) -> Tensor:
        """One pass of one branch: clean motion ``[B, 80, 265]`` of noisy motion at times ``[B]``, after ``before``
        ``[B, 265]``."""
        view = self.times(times)
        memory, pooled = (
            (part.expand(*part.shape[:axis], len(x), *part.shape[axis + 1 :]))
            for part, axis in ((condition.memory, 2), (condition.pooled, 0))
        )
        films = self.films(view.embedding + pooled)
        return self.denoise(_beside(x, before), torch.cat([memory, view.memory], -2), films, self.turn())


def _beside(x: Tensor, before: Tensor) -> Tensor:
    return torch.cat([x, before[:, None].expand(-1, x.shape[1], -1)], -1)


class Sampler:
    """Whole windows of motion by DDIM with a fixed number of steps.

    Its tables lie on the model's device, so make it again when that has moved. ``check_interrupt`` is called before
    every step.
    """

    def __init__(self, model: MotionModel, steps: int, check_interrupt: Callable[[], None] = lambda: None):
        self.model, self.steps, self._check_interrupt = model, Steps(steps), check_interrupt
        device = model.final_layer.weight.device
        with torch.inference_mode():
            self._times = model.times(torch.tensor(self.steps.times[:-1], device=device))
            self._none = model.unconditioned()

    def __call__(self, start: Tensor, noises: Tensor, before: Tensor, condition: Tensor) -> Tensor:
        """The clean motion ``[1, 80, 265]`` of a window.

        Args:
            start: noise ``[1, 80, 265]``.
            noises: the noise of all steps but the last, ``[steps - 1, 80, 265]``.
            before: the motion of the frame before, ``[1, 265]``.
            condition: ``[1, 80, 1103]``.
        """
        model, steps, turn = self.model, self.steps, self.model.turn()
        own = model.conditioned(condition)
        memory = torch.cat([own.memory, self._none.memory], 2)
        pooled = torch.cat([own.pooled, self._none.pooled])
        films = model.films(self._times.embedding[:, None] + pooled)  # [layers, 3, 2, S, 2, 1, D]
        x = start
        for step in range(steps.count):
            self._check_interrupt()
            moment = self._times.memory[:, :, step, None].expand(-1, -1, 2, -1, -1, -1)
            both = model.denoise(
                _beside(x, before).expand(2, -1, -1),
                torch.cat([memory, moment], -2),
                films[:, :, :, step],
                turn,
            )
            clean, unguided = both.chunk(2)
            clean = torch.lerp(unguided, clean, GUIDANCE)
            last = step == steps.count - 1
            x = clean if last else steps.advance(x, clean, noises[step], step)
        return x
