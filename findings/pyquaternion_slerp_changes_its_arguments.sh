#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pyquaternion 0.9.9: Quaternion.slerp(q0, q1, amount) when the two point to opposite halves.
#
# Guess before the run: it takes the shorter way by negating one of the two for itself, and leaves both arguments as they are.
# Seen: q0 itself is negated, so that after one call it is no longer equal to its copy, and reads
#   -170 degrees around -z for 170 around z. rotate() and slerp also bring arguments to length 1 in place. The rotation stays the same.
# Matters here: ego poses of nuScenes come as such quaternions; caches and comparisons by value see other poses after an
#   interpolation, and a recorded orientation jumps in sign. Here poses are interpolated by own code that changes nothing.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check pyquaternion==0.9.9 numpy==1.26.4
"$folder/venv/bin/python" - <<'PYTHON'
from copy import deepcopy

from pyquaternion import Quaternion

poses = [Quaternion(axis=[0, 0, 1], degrees=170), Quaternion(axis=[0, 0, 1], degrees=-170)]
before = deepcopy(poses)
middle = Quaternion.slerp(*poses, 0.5)
again = Quaternion.slerp(*poses, 0.5)
long = Quaternion(2, 0, 0, 0)
long.rotate([1, 0, 0])
print("before:", before, "after:", poses, "middle:", middle, again, "length after rotate:", long.norm)
assert poses[1] == before[1] and middle == again and abs(abs(middle.degrees) - 180) < 1e-6
assert poses[0] != before[0] and poses[0] == -before[0] and long.norm == 1, "the behaviour has changed"
PYTHON
