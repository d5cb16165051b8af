"""What the benchmarks share: clocks, summaries, the machine they ran on and how its time is spent."""

from __future__ import annotations

import platform
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend
from torch.profiler import ProfilerActivity, profile

ATTENTION = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}

# Which kernel (or, on a CPU, which operator) belongs where: the first pattern that matches counts.
GROUPS = {
    "attention": r"flash|fmha|attention|_attend|sdpa|softmax",
    "our kernels": r"^_\w+_kernel$",
    "copies and casts": r"memcpy|memset|copy|catarray|nchwtonhwc|nhwctonchw|aten::(cat|fill|_to)",
    "convolution": r"conv|fprop|dgrad|winograd|im2col|vol2col",
    "GEMM": r"gemm|nvjet|cublas|cutlass|matmul|splitk|gemv|xmma|aten::(mm|addmm|bmm|baddbmm)",
    "elementwise and norm": r"elementwise|norm|reduce|triton|gelu|silu|aten::",
}
SYNCS = (
    "cudaStreamSynchronize",
    "cudaDeviceSynchronize",
    "cudaEventSynchronize",
    "aten::_local_scalar_dense",
)
LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx")


class Clock:
    """Marks on the device's own timeline: CUDA events, or the host's clock where there is no GPU."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = device.type == "cuda"

    def mark(self) -> Any:
        if not self.cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def milliseconds(self, start: Any, end: Any) -> float:
        """Time between two marks; call `synchronize` first."""
        return start.elapsed_time(end) if self.cuda else (end - start) * 1e3

    def synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def wall(self, call: Callable[[], Any]) -> tuple[float, Any]:
        """Milliseconds on the host's clock until the device has finished ``call``, and its result."""
        self.synchronize()
        start = time.perf_counter()
        result = call()
        self.synchronize()
        return (time.perf_counter() - start) * 1e3, result


class Recorder:
    """Times the calls of chosen methods where they happen, without waiting for the device."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._marks: dict[str, list[tuple[Any, Any]]] = defaultdict(list)

    def watch(self, owner: Any, method: str) -> None:
        """Record every call of ``owner.method`` from now on."""
        setattr(owner, method, self.timed(method, getattr(owner, method)))

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = self.clock.mark()
            result = call(*args, **kwargs)
            self._marks[name].append((start, self.clock.mark()))
            return result

        return wrapper

    def milliseconds(self, name: str) -> list[float]:
        self.clock.synchronize()
        return [self.clock.milliseconds(start, end) for start, end in self._marks[name]]


@dataclass(frozen=True)
class Figure:
    """Median, least and greatest of some measurements in milliseconds."""

    median: float
    least: float
    greatest: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        return cls(statistics.median(values), min(values), max(values), len(values))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A Markdown table with aligned columns; floats get two decimals at most."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return (
                f"{value:.0f}"
                if abs(value) >= 1000
                else f"{value:.1f}"
                if abs(value) >= 10
                else f"{value:.2f}"
            )
        return str(value)

    lines = [list(header), *([cell(value) for value in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    lines.insert(1, ["-" * width for width in widths])
    for line in lines:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |")
    print(flush=True)


def environment(device: torch.device) -> dict[str, Any]:
    """What the figures depend on: device, driver, versions and the commit of this checkout."""
    about: dict[str, Any] = {
        "device": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": git_commit(Path(__file__).resolve().parents[1]),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        driver = Path("/proc/driver/nvidia/version")
        found = re.search(r"\d+\.\d+(\.\d+)?", driver.read_text()) if driver.is_file() else None
        about |= {
            "device": properties.name,
            "memory GB": round(properties.total_memory / 1e9, 1),
            "driver": found[0] if found else None,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return about


def git_commit(root: Path) -> str | None:
    """The commit that is checked out in ``root``, or None outside a git checkout."""
    head = root / ".git" / "HEAD"
    if not head.is_file():
        return None
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text
    loose = root / ".git" / text.removeprefix("ref: ")
    return loose.read_text().strip() if loose.is_file() else None


def ceilings(device: torch.device, dtype: torch.dtype, size: int = 8192) -> dict[str, float]:
    """What this device reaches just now: a matrix product of random values, and a copy of 4 GB."""
    clock = Clock(device)
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(2**32, device=device, dtype=torch.uint8).random_()
    target = torch.empty_like(source)
    product = [clock.wall(lambda: a @ b)[0] for _ in range(13)][3:]
    copy = [clock.wall(lambda: target.copy_(source))[0] for _ in range(13)][3:]
    return {
        "matrix product TFLOP/s": 2 * size**3 / statistics.median(product) / 1e9,
        "copy TB/s, read and written": 2 * source.numel() / statistics.median(copy) / 1e9,
    }


def profiled(call: Callable[[], Any], device: torch.device) -> dict[str, Any]:
    """Where the time of ``call`` goes.

    Returns milliseconds and launches per group of kernels, the time in which the device ran none, calls that
    made the host wait, and the kernels that took most. On a CPU the operators take the kernels' place.
    """
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    clock = Clock(device)
    clock.synchronize()
    with profile(activities=activities, acc_events=True) as recorded:
        call()
        clock.synchronize()
    if device.type == "cuda":
        events = recorded.events()
        kernels = [e for e in events if e.device_type == DeviceType.CUDA]
        spans = [(e.name, e.time_range.start, e.time_range.end) for e in kernels]
        busy = _union([(start, end) for _, start, end in spans])
        whole = max(end for *_, end in spans) - min(start for _, start, _ in spans)
        host = {
            "waits": _count(events, SYNCS),
            "kernel launches": sum(_count(events, LAUNCHES).values()),
            "idle ms": (whole - busy) / 1e3,
            "whole ms": whole / 1e3,
        }
        costs = [(name, (end - start) / 1e3, 1) for name, start, end in spans]
    else:
        host = {}
        costs = [(a.key, a.self_cpu_time_total / 1e3, a.count) for a in recorded.key_averages()]
    groups: dict[str, list[float]] = {name: [0.0, 0] for name in [*GROUPS, "other"]}
    names: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
    for name, took, count in costs:
        for total in (groups[group_of(name)], names[name]):
            total[0] += took
            total[1] += count
    largest = sorted(names.items(), key=lambda item: -item[1][0])[:25]
    return {
        "groups": {name: {"ms": ms, "launches": count} for name, (ms, count) in groups.items()},
        **host,
        "kernels": [
            {"name": name[:160], "group": group_of(name), "ms": ms, "launches": n}
            for name, (ms, n) in largest
        ],
    }


def group_of(name: str) -> str:
    """The group in `GROUPS` that a kernel or operator belongs to."""
    return next((group for group, pattern in GROUPS.items() if re.search(pattern, name.lower())), "other")


def print_profile(title: str, found: dict[str, Any], kernels: int = 14) -> None:
    rows = [[name, total["ms"], total["launches"]] for name, total in found["groups"].items()]
    if "idle ms" in found:
        rows += [["idle", found["idle ms"], ""], ["whole", found["whole ms"], found["kernel launches"]]]
    print(f"Profile: {title}; waits of the host: {found.get('waits', {})}")
    print_table(["group", "ms", "launches"], rows)
    shown = [[k["name"][:90], k["group"], k["ms"], k["launches"]] for k in found["kernels"][:kernels]]
    print_table(["kernel", "group", "ms", "launches"], shown)


def _count(events: Any, names: Sequence[str]) -> dict[str, int]:
    return {name: count for name in names if (count := sum(e.name == name for e in events))}


def _union(spans: list[tuple[float, float]]) -> float:
    """Length of the union of intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
