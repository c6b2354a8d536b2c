#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pyquaternion 0.9.9: yaw_pitch_roll, which says of itself: "intrinsic Tait-Bryan angles following the z-y'-x'' convention".
#
# Guess before the run: a car that heads 90 degrees and then leans by 20 to its side has yaw 90, pitch 0, roll 20; and for all rotations the
#   angles are those of SciPy's as_euler("ZYX").
# Seen: yaw 90, pitch 20, roll 0. None of 100 random rotations agrees with z-y'-x''; all agree with x-y'-z''. For a rotation
#   around one axis alone the two are the same, and the yaw of a level car is right.
# Matters here: nuScenes' devkit hands out such quaternions; yaw of a sensor that is tilted, or of a car on a slope, is off.
#   Here angles are computed from matrices.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check pyquaternion==0.9.9 scipy==1.17.1 numpy==1.26.4
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from pyquaternion import Quaternion
from scipy.spatial.transform import Rotation

leaning = Quaternion(axis=[0, 0, 1], degrees=90) * Quaternion(axis=[1, 0, 0], degrees=20)
seen = [round(float(np.degrees(angle)), 6) for angle in leaning.yaw_pitch_roll]
expected = Rotation.from_matrix(leaning.rotation_matrix).as_euler("ZYX", degrees=True).round(6).tolist()
rotations = Rotation.random(100, random_state=0)
angles = [Quaternion(matrix=r.as_matrix()).yaw_pitch_roll for r in rotations]
zyx = sum(np.allclose(a, r.as_euler("ZYX")) for a, r in zip(angles, rotations))
xyz = sum(np.allclose(a[::-1], r.as_euler("XYZ")) for a, r in zip(angles, rotations))
print("pyquaternion:", seen, "z-y'-x'':", expected, "of 100 as z-y'-x'':", zyx, "as x-y'-z'':", xyz)
assert np.allclose(expected, [90, 0, 20]) and np.allclose(seen, [90, 20, 0]) and (zyx, xyz) == (0, 100), "the behaviour has changed"
PYTHON
