#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# lapx 0.11.1: a row that has no allowed partner. ("Positive infinity can represent a forbidden assignment.")
#
# Guess before the run: it stays free (-1), or the call raises, as SciPy's linear_sum_assignment does; all solvers of the package alike.
# Seen: lapjv and lapjvx match it with a forbidden column, total inf: one track and one detection that is out of reach, [[inf]], are a
#   pair. lapjvr and lapjvs raise ValueError, lapjvc leaves the row free. Where rows are more than columns lapjv leaves it free as well;
#   with a finite cost_limit it always does.
# Matters here: a gate that is written as inf holds with N + 1 tracks and fails with N. The tracker here assigns by own
#   code with a finite limit.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" lapx==0.11.1 numpy==1.26.4
PYTHONPATH=$folder python3 - <<'PYTHON'
import lap
import numpy as np

costs = np.array([[np.inf, np.inf], [1.0, 2.0]])
seen = {}
for name in ("lapjv", "lapjvx", "lapjvr", "lapjvs", "lapjvc"):
    try:
        seen[name] = [a.tolist() if isinstance(a, np.ndarray) else a for a in getattr(lap, name)(costs)]
    except ValueError:
        seen[name] = "ValueError"
more = lap.lapjv(np.vstack([costs, [3.0, 4.0]]), extend_cost=True)[1].tolist()
single, limited = lap.lapjv(np.array([[np.inf]]))[1].tolist(), lap.lapjv(costs, cost_limit=10.0)[1].tolist()
print(seen, "three rows:", more, "[[inf]]:", single, "with a limit:", limited)
assert more[0] == limited[0] == -1 and limited[1] == 0
assert seen["lapjv"][:2] == [np.inf, [0, 1]] or seen["lapjv"][:2] == [np.inf, [1, 0]], "the behaviour has changed"
assert seen["lapjvx"][0] == np.inf and len(seen["lapjvx"][1]) == 2 and single == [0], "the behaviour has changed"
assert seen["lapjvr"] == seen["lapjvs"] == "ValueError" and seen["lapjvc"][1] == [1], "the behaviour has changed"
PYTHON
