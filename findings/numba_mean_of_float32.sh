#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# numba 0.68.1: np.mean of a float32 array in a compiled function.
#
# Guess before the run: as in numpy, right to about 1e-6 of the value: numba's result is a float64, and numpy sums pairwise.
# Seen: the sum runs in float32, number after number: the mean of 30,000 times 100.1 is 100.082, of 200,000 100.012, of a million
#   101.318, of ten million 111.15. numpy gives 100.100 each time. That the result is a float64 hides it.
# Matters here: the centre of a cloud, 100 m away, is off by 2 to 9 cm for one sweep and by more than a metre for ten. Compiled
#   functions here call neither mean nor sum.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" numba==0.68.1 numpy==1.26.4
PYTHONPATH=$folder python3 - <<'PYTHON'
import numpy as np
from numba import njit


@njit
def mean(values):
    return np.mean(values)


seen = {}
for count in (30_000, 200_000, 1_000_000):
    values = np.full(count, 100.1, np.float32)
    assert abs(values.mean() - 100.1) < 1e-3 and isinstance(mean(values), float)
    seen[count] = round(mean(values), 3)
print(seen)
assert seen == {30_000: 100.082, 200_000: 100.012, 1_000_000: 101.318}, "the behaviour has changed"
PYTHON
