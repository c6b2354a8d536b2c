#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nuscenes-devkit 1.2.0, detection evaluation: boxes with equal scores.
#
# Guess before the run: they count in the order given, as after any stable sort by falling score; or AP does not depend on the order.
# Seen: the last given counts first. Three true cars and seven false ones, all of score .5: AP .10 with the true ones given
#   first, .99 with them given last. With scores that fall by 1e-6 from box to box it is the other way round. Nothing tells of ties.
# Matters here: scores that are rounded, or come from 8 bit, are equal by the hundred: the same boxes in another order have
#   another AP. Files of results are comparable when both are sorted alike; whoever rounds scores should sort them rising.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check nuscenes-devkit==1.2.0
"$folder/venv/bin/python" - <<'PYTHON'
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.utils import center_distance
from nuscenes.eval.detection.algo import accumulate, calc_ap
from nuscenes.eval.detection.data_classes import DetectionBox

TRUE, FALSE = (0, 20, 40), (60, 65, 70, 75, 80, 85, 90)


def boxes(places, scores):
    found = EvalBoxes()
    found.add_boxes("s", [DetectionBox("s", (x, 0, 0), (2, 4, 1.5), (1, 0, 0, 0), (0, 0), detection_name="car", detection_score=s)
                          for x, s in zip(places, scores)])
    return found


def precision(places, fall=0.0):
    given = boxes(places, [0.5 - fall * i for i in range(len(places))])
    return round(float(calc_ap(accumulate(boxes(TRUE, [-1.0] * 3), given, "car", center_distance, 2.0), 0.1, 0.1)), 2)


seen = {"true ones first": precision(TRUE + FALSE), "true ones last": precision(FALSE + TRUE),
        "first, falling": precision(TRUE + FALSE, 1e-6), "last, falling": precision(FALSE + TRUE, 1e-6)}
print(seen)
assert seen["true ones last"] == seen["first, falling"] > 0.9, "the behaviour has changed"
assert seen["true ones first"] == seen["last, falling"] < 0.2, "the behaviour has changed"
PYTHON
