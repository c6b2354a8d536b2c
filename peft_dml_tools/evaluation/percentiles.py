# SPDX-License-Identifier: Apache-2.0
"""Percentiles, computed in one way by every command that shows some."""

from collections.abc import Iterable
from typing import Final

import numpy as np

PERCENTILES: Final = (50, 95, 99)


def percentiles(values: Iterable[float]) -> dict[str, float]:
    """Return p50, p95 and p99 of the finite values, linear between two of them; empty when there is none."""
    array = np.array([value for value in values if np.isfinite(value)])
    return {f"p{p}": round(float(np.percentile(array, p)), 3) for p in PERCENTILES} if len(array) else {}
