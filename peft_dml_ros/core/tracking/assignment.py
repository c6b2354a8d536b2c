# SPDX-License-Identifier: Apache-2.0
"""Distances, and the optimal assignment of rows to columns: for this alone SciPy would be too large a dependency."""

from typing import Final

import numba
import numpy as np

from peft_dml_ros.core.typing import FloatArray, IntArray

GATE: Final = 11.0  #: Squared Mahalanobis distance of position that is never matched: 99.6 % of true matches are nearer


@numba.njit(cache=True, nogil=True)
def distances(
    predicted: FloatArray, covariances: FloatArray, measured: FloatArray, variances: FloatArray, gate_m: FloatArray
) -> FloatArray:
    """Return (N, M) squared Mahalanobis distances of (N, 5) states to (M, 2) positions; infinite beyond the gates.

    A wider prediction is the less likely one of two that are equally many deviations away: half the logarithm of the
    determinant is added.
    """
    n, m = len(predicted), len(measured)
    cost = np.full((n, m), np.inf)
    for i in range(n):
        b, reach = covariances[i, 0, 1], gate_m[i] ** 2
        for j in range(m):
            dx, dy = measured[j, 0] - predicted[i, 0], measured[j, 1] - predicted[i, 1]
            if dx * dx + dy * dy > reach:
                continue
            a, d = covariances[i, 0, 0] + variances[j], covariances[i, 1, 1] + variances[j]
            spread = a * d - b * b
            distance = (d * dx * dx - 2 * b * dx * dy + a * dy * dy) / spread
            if distance <= GATE:
                cost[i, j] = distance + 0.5 * np.log(1.0 + spread)
    return cost


@numba.njit(cache=True, nogil=True)
def assign(cost: FloatArray, limit: float) -> IntArray:  # noqa: C901, PLR0912  one algorithm
    """Return the (N,) column of each row, -1 for as few rows as possible, at the least total cost.

    Shortest augmenting paths (Jonker and Volgenant, 1987); a row may stay unmatched at the price of `limit`.
    """
    n, m = cost.shape
    # Column 0 starts a path; columns m + 1 to m + n are each row's own way out.
    row_of = np.zeros(m + n + 1, dtype=np.int64)
    u, v = np.zeros(n + 1), np.zeros(m + n + 1)
    for i in range(1, n + 1):
        row_of[0] = i
        column = 0
        best = np.full(m + n + 1, np.inf)
        way = np.zeros(m + n + 1, dtype=np.int64)
        used = np.zeros(m + n + 1, dtype=np.bool_)
        while row_of[column] != 0:
            used[column] = True
            row, delta, following = row_of[column], np.inf, 0
            for j in range(1, m + n + 1):
                if used[j]:
                    continue
                price = cost[row - 1, j - 1] if j <= m else (limit if j - m == row else np.inf)
                if j <= m and price >= limit:
                    price = np.inf
                reduced = price - u[row] - v[j]
                if reduced < best[j]:
                    best[j], way[j] = reduced, column
                if best[j] < delta:
                    delta, following = best[j], j
            for j in range(m + n + 1):
                if used[j]:
                    u[row_of[j]] += delta
                    v[j] -= delta
                else:
                    best[j] -= delta
            column = following
        while column != 0:
            row_of[column] = row_of[way[column]]
            column = way[column]
    matched = np.full(n, -1, dtype=np.int64)
    for j in range(1, m + 1):
        if row_of[j] != 0:
            matched[row_of[j] - 1] = j - 1
    return matched
