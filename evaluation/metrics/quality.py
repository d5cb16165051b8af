"""How pictures please: aesthetics and quality by Q-Align, in a process of its own."""

from __future__ import annotations

from ..metric import Metric, Observed


def _mean(name: str):
    def compute(seen: Observed) -> float:
        return float(seen.tracks[name].values.double().mean())

    return compute


SOURCE = "Q-Align, 1 to 5, mean over sampled frames"
WEIGHTS = "q-future/one-align"
METRICS = (
    Metric("ASE", "of 5", "higher", ("aesthetics",), SOURCE, _mean("aesthetics"), weights=WEIGHTS),
    Metric("IQA", "of 5", "higher", ("quality",), SOURCE, _mean("quality"), weights=WEIGHTS),
)
