# SPDX-License-Identifier: Apache-2.0
"""Comparisons of cells by the seeds and scenes that they share, with an interval, and the word that follows from it.

A network's luck with its seed, and a scene's difficulty, are the same on both sides of a comparison: only differences
within a seed and a scene are looked at. Efron, "Bootstrap Methods", Annals of Statistics 1979; where there are no
figures by scene, Student's interval over the seeds.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Final, Literal, TypeAlias

import numpy as np

from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.evaluation.student_interval import student_interval

#: Values by seed and scene; the figure over all scenes stands under `WHOLE`
Sample: TypeAlias = Mapping[int, Mapping[str, float]]

WHOLE: Final = ""
RESAMPLES: Final = 2000
LEVEL: Final = 0.95

HOLDS, MISSED, UNDECIDED = "holds", "missed", "undecided"
EARNED, NOT_EARNED, NO_DIFFERENCE = "earned", "not earned", "no difference"


@dataclass(frozen=True, slots=True)
class Interval:
    """A comparison."""

    value: float  #: Over all shared seeds and scenes
    low: float  #: Lower end of the 95 % interval; -inf where one seed alone says nothing of it
    high: float  #: Upper end
    by_seed: Mapping[int, float]  #: Its value for each shared seed
    scenes: int = 0  #: Shared scenes that were resampled; 0 where only seeds were

    def verdict(self, least: float) -> str:
        """Return whether the value is at least this: only where the whole interval says so, or none of it.

        One seed decides nothing: its interval is of its scenes alone.
        """
        if len(self.by_seed) < 2:
            return UNDECIDED
        if self.low >= least:
            return HOLDS
        return MISSED if self.high < least else UNDECIDED

    def place(self, noise: float) -> str:
        """Return whether leaving a part out, which changes the figure by this interval, shows that it is needed."""
        if len(self.by_seed) < 2:
            return UNDECIDED
        if self.high < 0:
            return EARNED
        if self.low > 0:
            return NOT_EARNED
        known = math.isfinite(self.low) and max(-self.low, self.high) <= noise
        return NO_DIFFERENCE if known else UNDECIDED

    def text(self, digits: int = 3) -> str:
        """Return value and interval for the page."""
        if not math.isfinite(self.value):
            return "-"
        between = f" [{self.low:.{digits}f}, {self.high:.{digits}f}]" if math.isfinite(self.low) else ""
        return f"{self.value:.{digits}f}{between}{' (one seed)' if len(self.by_seed) < 2 else ''}"


def paired(statistic: Callable[..., float], *samples: Sample, seed: int = 0) -> Interval | None:
    """Return a statistic of several cells with its interval; None where they share no seed.

    Args:
        statistic: Of one mean for each sample, e.g. their ratio.
        samples: Of the cells.
        seed: Of the resampling.
    """
    seeds = sorted(set.intersection(*(set(sample) for sample in samples)))
    if not seeds:
        return None
    whole = [[_whole(sample[s]) for s in seeds] for sample in samples]
    by_seed = {s: statistic(*(values[i] for values in whole)) for i, s in enumerate(seeds)}
    value = statistic(*map(mean, whole))
    scenes = sorted(set.intersection(*(set(sample[s]) for sample in samples for s in seeds)) - {WHOLE})
    if len(scenes) < 2:
        return Interval(value, *_student(list(by_seed.values()), value), by_seed)
    arrays = [np.array([[sample[s][scene] for scene in scenes] for s in seeds]) for sample in samples]
    # A score of all scenes is not the mean of the scenes' scores, and differs more from seed to seed: it is the centre.
    centred = [a + (np.array(of) - a.mean(axis=1))[:, None] for a, of in zip(arrays, whole, strict=True)]
    low, high = _bootstrap(statistic, centred, seed)
    return Interval(value, low, high, by_seed, len(scenes))


def _whole(scenes: Mapping[str, float]) -> float:
    return scenes[WHOLE] if WHOLE in scenes else mean(scenes.values())


def _student(values: Sequence[float], value: float) -> tuple[float, float]:
    if len(values) < 2:
        return -math.inf, math.inf
    if not all(map(math.isfinite, values)):
        return min(values), max(values)
    found = student_interval(values)
    return value + found.low - found.mean, value + found.high - found.mean


def _bootstrap(statistic: Callable[..., float], arrays: Sequence[FloatArray], seed: int) -> tuple[float, float]:
    """Return the ends of the interval, from seeds and scenes drawn with replacement, the same for all cells."""
    draw = np.random.default_rng(seed)
    rows, columns = arrays[0].shape
    found = []
    for _ in range(RESAMPLES):
        at = np.ix_(draw.integers(rows, size=rows), draw.integers(columns, size=columns))
        found.append(statistic(*(float(array[at].mean()) for array in arrays)))
    tail = 100 * (1 - LEVEL) / 2
    # Over nothing a ratio is infinite: such draws count, but nothing lies between them and others.
    method: Literal["linear", "inverted_cdf"] = "linear" if np.isfinite(found).all() else "inverted_cdf"
    low, high = np.percentile(found, [tail, 100 - tail], method=method)
    return float(low), float(high)


def difference(a: float, b: float) -> float:
    """Return a − b."""
    return a - b


def ratio(a: float, b: float) -> float:
    """Return a / b; infinite over nothing."""
    return a / b if b else math.inf


def joined(samples: Iterable[Sample]) -> dict[int, dict[str, float]]:
    """Return the mean of several figures of a cell, for the seeds that have all of them."""
    every = list(samples)
    seeds = set.intersection(*(set(sample) for sample in every)) if every else set()
    return {s: {WHOLE: mean(_whole(sample[s]) for sample in every)} for s in sorted(seeds)}
