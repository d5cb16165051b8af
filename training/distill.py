"""Distils the trained transformer's own fine sampling into three and four steps; the difference is a LoRA.

    python -m training.distill --corpus training/.state/corpus --out training/.state --seconds 300

The teacher samples whole clips with many small Euler steps that pass through the noise levels of both schedules. The
student, the same weights plus the LoRA, learns to go from each level of a schedule to that schedule's next one in one
step, in the context of the teacher's own clips, through windows of both lengths. Writes lora.safetensors (PEFT names,
scale 1/2 as in the published adapter) and distill.jpg.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from . import loop
from .evaluate import Exam
from .figures.clips import Drawers
from .parallel import Condition, flow, sample, schedule
from .pool import MOODS, condition_of
from .talker import build
from .texts import encode
from .train_talker import WINDOWS, arguments, parts

RANK, SCALE = 4, 0.5
STEPS = (3, 4)
TARGETS = (".q", ".k", ".v", ".o", ".ffn.0", ".ffn.2")


class LowRank(nn.Module):
    """The weight of a linear layer plus a scaled low-rank product."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.empty(RANK, weight.shape[1], device=weight.device))
        self.b = nn.Parameter(torch.zeros(weight.shape[0], RANK, device=weight.device))
        nn.init.kaiming_uniform_(self.a, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + SCALE * self.b @ self.a


def add_lora(model: nn.Module) -> dict[str, LowRank]:
    """Freeze the model and put a LoRA on the modules that the published adapter has; returns them by path."""
    model.requires_grad_(False)
    added = {}
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear) and name.endswith(TARGETS):
            added[name] = LowRank(module.weight)
            parametrize.register_parametrization(module, "weight", added[name])
    return added


def lora_state(added: dict[str, LowRank]) -> dict[str, Tensor]:
    """The LoRA in the published file's form, float16."""
    state = {}
    for name, pair in added.items():
        state[f"{name}.lora_A.default.weight"] = pair.a.detach().half().cpu().contiguous()
        state[f"{name}.lora_B.default.weight"] = pair.b.detach().half().cpu().contiguous()
    return state


def levels() -> Tensor:
    """The noise levels of both samplers, falling; the last one is 0."""
    return torch.cat([schedule(steps) for steps in STEPS]).unique().flip(0)


def fine_sigmas(most: float) -> tuple[Tensor, list[int]]:
    """A fine schedule through `levels`, no step longer than `most`, and where those lie in it."""
    fine, places = [], []
    for now, then in pairwise(levels().tolist()):
        places.append(len(fine))
        fine += torch.linspace(now, then, math.ceil((now - then) / most) + 1)[:-1].tolist()
    return torch.tensor([*fine, 0.0]), [*places, len(fine)]


def jumps() -> Tensor:
    """The steps of both samplers that move anything: [jumps, 2] places in `levels`, from and to."""
    pairs = {pair for steps in STEPS for pair in pairwise(schedule(steps).tolist()) if pair[0] > 0.1}
    places = {level: place for place, level in enumerate(levels().tolist())}
    return torch.tensor(sorted((places[now], places[then]) for now, then in pairs))


@torch.no_grad()
def trajectory(model, given: Condition, shape: torch.Size, most: float, window: int, device: str) -> Tensor:
    """The teacher's latents at the samplers' noise levels: [levels, B, 16, f, h, w]."""
    sigmas, places = fine_sigmas(most)
    with torch.autocast(device, torch.bfloat16):
        states = sample(model, torch.randn(shape, device=device), given, sigmas, window)
    return torch.stack([states[i] for i in places])


def select(given: Condition, index: Tensor) -> Condition:
    return Condition(**{name: value[index] for name, value in vars(given).items()})


def main() -> None:
    parser = arguments(__doc__.splitlines()[0], 300, 1e-3)
    parser.add_argument("--most", type=float, default=0.05, help="longest step of the teacher")
    parser.add_argument("--teaching", type=float, default=0.4, help="share of the time for the teacher")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    clock = loop.Clock(args.seconds)
    model = build().to(device).eval()
    if not loop.resume(args.resume, model):
        raise FileNotFoundError(f"{args.resume} is missing: train it first.")
    torch.manual_seed(args.seed)
    texts, drawers = encode(device, MOODS), Drawers(args.workers)
    encoder = parts(args, device, False, args.seed + 1_000_000, drawers)
    lessons: list[tuple[Condition, Tensor, Tensor, int]] = []
    while clock.progress < args.teaching or not lessons:
        clips, window = encoder.draw(args.batch), WINDOWS[len(lessons) % len(WINDOWS)]
        given = condition_of(clips, texts)
        path = trajectory(model, given, clips.clean.shape, args.most, window, device)
        lessons.append((given, path, clips.weight, window))
    encoder.close()
    print(f"distill: {len(lessons) * args.batch} clips taught after {clock.elapsed:.0f}s", flush=True)

    added = add_lora(model)
    weights = [p for pair in added.values() for p in pair.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=args.rate, betas=(0.9, 0.98), weight_decay=0.0)
    pairs, sigmas = jumps().to(device), levels().to(device)
    step, begin = 0, clock.progress
    while clock.progress < 1:
        loop.set_rate(
            optimizer, loop.learning_rate(args.rate, step, (clock.progress - begin) / (1 - begin), 50)
        )
        given, path, weight, window = lessons[int(torch.randint(len(lessons), ()))]
        level, next_level = pairs[torch.randint(len(pairs), (args.batch,), device=device)].unbind(1)
        row = torch.arange(args.batch, device=device)
        now, then = path[level, row], path[next_level, row]
        step_size = (sigmas[next_level] - sigmas[level]).view(-1, 1, 1, 1, 1)
        with torch.autocast(device, torch.bfloat16):
            made = flow(model, now, sigmas[level], given, window)
        error = F.mse_loss(made.float() * step_size, then - now, reduction="none") / step_size.square()
        loss = (error * weight).mean() / weight.mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"distill {step} {clock.elapsed:.0f}s loss {loss.item():.4f}", flush=True)
        step += 1
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(lora_state(added), args.out / "lora.safetensors", metadata={"format": "pt"})
    Exam(parts(args, device, True, 99, drawers), texts).report(model, args.out / "distill.jpg", STEPS)
    drawers.close()


if __name__ == "__main__":
    main()
