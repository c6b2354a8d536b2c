#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# evo 1.38.1: associate_trajectories of an estimate with a gap.
#
# Guess before the run: one to one, as in TUM's script: a pose of the estimate is matched with one of the truth, the nearest
#   within max_diff, or with none; poses without a partner are left out.
# Seen: each pose of the shorter one takes the nearest of the other, taken or not: truth at 0, .1, .2, .3 s and an estimate at .04,
#   .24, .26, .28, .9 give 4 pairs, in which .04 stands twice. At 10 m/s the greatest error becomes .6 m, not .4, and
#   between the two pairs the estimate stands still (RPE). Nothing tells of it.
# Matters here: odometry and GNSS that drop out for a moment are scored worse than they are. A max_diff below half of the
#   period of the truth keeps the pairs apart.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check evo==1.38.1 "numpy<2.5"
cd "$folder"
HOME=$folder venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
from evo.core import metrics, sync
from evo.core.trajectory import PoseTrajectory3D


def straight(*times):
    t = np.array(times)
    return PoseTrajectory3D(np.c_[10 * t, 0 * t, 0 * t], np.tile([1.0, 0, 0, 0], (len(t), 1)), t)


def matched(max_diff):
    pair = sync.associate_trajectories(straight(0, 0.1, 0.2, 0.3), straight(0.04, 0.24, 0.26, 0.28, 0.9), max_diff=max_diff)
    error = metrics.APE(metrics.PoseRelation.translation_part)
    error.process_data(pair)
    return [t.timestamps.tolist() for t in pair], round(float(error.get_statistic(metrics.StatisticsType.max)), 3)


wide, narrow = matched(0.1), matched(0.049)
print("max_diff .1:", wide, "max_diff .049:", narrow)
assert wide == ([[0, 0.1, 0.2, 0.3], [0.04, 0.04, 0.24, 0.28]], 0.6), "the behaviour has changed"
assert narrow == ([[0, 0.2, 0.3], [0.04, 0.24, 0.28]], 0.4), "the behaviour has changed"
PYTHON
