#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nuscenes-devkit 1.2.0, detection evaluation: matched boxes whose velocity, predicted or true, is not known (NaN).
#
# Guess before the run: a predicted one costs 1 (`velocity_l2`: "we return inf, which is subsequently clipped to 1"), a true one is left out:
#   of two cars, the surer of which has NaN and the other is off by 3 m/s, the error is 2 or 3 m/s.
# Seen: .85 m/s either way: until the first known error, in order of confidence, `cummean` gives 0, as if the velocity were right. With NaN
#   for the less sure car it is 3. The same holds for attributes. Only where all are NaN the error is 1.
# Matters here: truth has NaN where an object was annotated once, so that AVE and AAE of rare classes come out too small. The
#   scores here are the devkit's, to compare with published ones; detections with NaN are dropped before.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check nuscenes-devkit==1.2.0
"$folder/venv/bin/python" - <<'PYTHON'
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.utils import center_distance
from nuscenes.eval.detection.algo import accumulate, calc_tp
from nuscenes.eval.detection.data_classes import DetectionBox

nan = float("nan")


def boxes(*speeds, scores=(-1.0, -1.0)):
    found = EvalBoxes()
    found.add_boxes("s", [DetectionBox("s", (20.0 * i, 0, 0), (2, 4, 1.5), (1, 0, 0, 0), (v, 0), detection_name="car", detection_score=s)
                          for i, (v, s) in enumerate(zip(speeds, scores))])
    return found


def error(truth, predicted):
    curves = accumulate(boxes(*truth), boxes(*predicted, scores=(0.9, 0.8)), "car", center_distance, 2.0)
    return round(calc_tp(curves, 0.1, "vel_err"), 2)


seen = {"predicted, surer": error((0, 0), (nan, 3)), "true, surer": error((nan, 0), (0, 3)),
        "predicted, less sure": error((0, 0), (3, nan)), "all": error((0, 0), (nan, nan))}
print(seen)
assert list(seen.values()) == [0.85, 0.85, 3, 1], "the behaviour has changed"
PYTHON
