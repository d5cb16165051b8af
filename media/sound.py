"""AUDIO read in windows, so that its length costs no memory."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd

from torch import Tensor
from torch.nn.functional import pad

from .audio import resample

FILTER_SAMPLES = 64  # seen by the converter on either side of a sample, at the lower of the two rates


class MonoSound:
    """The mean of an AUDIO's channels at another rate, with seconds of silence before and after it.

    A window holds exactly the samples that the whole sound would have there if it were converted at once, and
    silence outside of it. ``samples`` is the length of the whole.
    """

    def __init__(self, audio: Mapping, rate: int, before: float = 0.0, after: float = 0.0) -> None:
        self._waveform, self._source_rate = audio["waveform"][0], int(audio["sample_rate"])
        self._lead = round(before * self._source_rate)
        length = self._lead + self._waveform.shape[-1] + round(after * self._source_rate)
        self.rate, self.samples = rate, -(-length * rate // self._source_rate)

    def read(self, start: int, stop: int) -> Tensor:
        """Samples ``start`` to ``stop`` as float32 [S] on the CPU."""
        if self.rate == self._source_rate:
            return self._source(start, stop)
        # Where both rates have a sample at the same time, the converter is in the state in which it begins.
        common = gcd(self._source_rate, self.rate)
        source_step, step = self._source_rate // common, self.rate // common
        reach = FILTER_SAMPLES * max(1, -(-self._source_rate // self.rate))
        first = max(0, (start * source_step // step - reach) // source_step)
        last = -(-stop * source_step // step) + reach
        window = self._source(first * source_step, last)[None]
        converted = resample(window, self._source_rate, self.rate)[0]
        return converted[start - first * step : stop - first * step]

    def _source(self, start: int, stop: int) -> Tensor:
        start, stop = start - self._lead, stop - self._lead
        inside = self._waveform[:, max(0, start) : max(0, stop)].float().cpu().mean(dim=0)
        before = min(max(0, -start), stop - start)
        return pad(inside, (before, stop - start - before - len(inside)))
