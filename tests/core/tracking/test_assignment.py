# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from peft_dml_ros.core.tracking.assignment import assign

costs = st.tuples(st.integers(0, 7), st.integers(0, 7)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.sampled_from([0.0, 0.5, 1.0, 2.5, 4.0, 9.0, np.inf]))
)


def total(cost, matched, limit):
    return sum(limit if column < 0 else cost[row, column] for row, column in enumerate(matched))


@given(costs)
def test_it_is_as_cheap_as_scipy_with_a_way_out_for_each_row(cost):
    optimize = pytest.importorskip("scipy.optimize")
    limit, (n, m) = 5.0, cost.shape
    padded = np.full((n, m + n), 1e6)
    padded[:, :m] = np.where(cost < limit, cost, 1e6)
    padded[np.arange(n), m + np.arange(n)] = limit
    rows, columns = optimize.linear_sum_assignment(padded)
    matched = assign(cost, limit)
    taken = matched[matched >= 0]
    assert len(set(taken)) == len(taken)
    assert all(cost[row, column] < limit for row, column in enumerate(matched) if column >= 0)
    assert total(cost, matched, limit) == pytest.approx(padded[rows, columns].sum())


def test_two_that_want_the_same_are_solved_together():
    # The nearest first would leave the second row with 4.
    assert assign(np.array([[1.0, 1.5], [0.9, 4.0]]), 10.0).tolist() == [1, 0]
