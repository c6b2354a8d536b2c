# SPDX-License-Identifier: Apache-2.0
"""Student's interval of a mean, for comparisons of a few pairs or seeds."""

import math
from collections.abc import Sequence
from statistics import mean, stdev
from typing import Final, NamedTuple

#: 97.5 % quantile of Student's t for 1 to 9 degrees of freedom; the last one is kept for more, which is wider
STUDENT: Final = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)


class MeanInterval(NamedTuple):
    """A mean with its 95 % interval, which is infinite where one value alone says nothing of it."""

    mean: float
    low: float
    high: float


def student_interval(values: Sequence[float]) -> MeanInterval:
    """Return the mean of independent values and Student's 95 % interval of it. Raises ValueError: there is no value."""
    if not values:
        raise ValueError("no value, so no mean")
    middle = mean(values)
    if len(values) < 2:
        return MeanInterval(middle, -math.inf, math.inf)
    half = STUDENT[min(len(values) - 1, len(STUDENT)) - 1] * stdev(values) / math.sqrt(len(values))
    return MeanInterval(middle, middle - half, middle + half)
