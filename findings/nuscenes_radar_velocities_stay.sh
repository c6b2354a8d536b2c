#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nuscenes-devkit 1.2.0: what its point clouds do not say of transform, remove_close and subsample.
#
# Guess before the run: RadarPointCloud.transform, with which from_file_multisweep moves sweeps into one frame, turns velocities
#   as well; remove_close(1), "within a certain radius", removes a circle; subsample(.5) keeps half of the points, each once.
# Seen: velocities (vx, vy, vx_comp, vy_comp) stay in the axes of the radar: by a radar that looks backwards, cars drive the
#   other way. remove_close removes a square, with corners at 1.41. subsample draws with repeats: 1000 points leave about 390 of 500.
# Matters here: radars look to all sides, so features from such clouds mix axes. Here returns are read in the radar's axes, and
#   velocities are turned with the places (core/pillars.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check nuscenes-devkit==1.2.0
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from nuscenes.utils.data_classes import LidarPointCloud, RadarPointCloud

radar = RadarPointCloud(np.zeros((18, 1)))
radar.points[:10, 0] = [5, 0, 0, 0, 0, 0, 10, 0, 10, 0]  # x y z, dyn_prop id rcs, vx vy vx_comp vy_comp
radar.transform(np.diag([-1.0, -1, 1, 1]))  # a radar that looks backwards
place, speed = radar.points[0, 0], radar.points[[6, 8], 0].tolist()
near = LidarPointCloud(np.array([[0.9, 0.9, 0, 0], [1.1, 0, 0, 0], [0.9, 0, 0, 0]]).T.copy())
near.remove_close(1.0)
many = LidarPointCloud(np.tile(np.arange(1000.0), (4, 1)))
many.subsample(0.5)
distinct = len(np.unique(many.points[0]))
print("place:", place, "vx, vx_comp:", speed, "left:", near.points[:2].T.tolist(), "points:", many.nbr_points(), "distinct:", distinct)
assert place == -5 and speed == [10, 10], "the behaviour has changed"
assert near.points[:2].T.tolist() == [[1.1, 0]] and many.nbr_points() == 500 and distinct < 450, "the behaviour has changed"
PYTHON
