#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# spatialmath-python 1.1.18: the same two orientations as UnitQuaternion and as SO3, and their methods of one name, interp and angdist.
#
# Guess before the run: both classes agree: half way from a heading of 170 degrees to one of -170 is 180, and the distance ("angle in
#   radians") of two headings that are .5 rad apart is .5.
# Seen: SO3 gives 180 and .5. UnitQuaternion goes the long way, to 0, unless shortest=True is given, which SO3, SE3 and SO2 do without being
#   asked; and its distance is .25, the angle between the quaternions, half of the one between the orientations.
# Matters here: poses that are interpolated face backwards while a vehicle turns around south, and errors of yaw are halved, when code
#   changes from one class to the other. Here poses are interpolated and compared by own code.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" spatialmath-python==1.1.18
PYTHONPATH=$folder python3 - <<'PYTHON'
from math import isclose

from spatialmath import SO3, UnitQuaternion

seen = {}
for kind in (SO3, UnitQuaternion):
    half = kind.Rz(170, "deg").interp(kind.Rz(-170, "deg"), 0.5)
    seen[kind.__name__] = abs(half.angvec(unit="deg")[0]), kind.Rz(0.2).angdist(kind.Rz(0.7))
short = UnitQuaternion.Rz(170, "deg").interp(UnitQuaternion.Rz(-170, "deg"), 0.5, shortest=True).angvec(unit="deg")[0]
print(seen, "shortest:", short)
assert isclose(seen["SO3"][0], 180) and isclose(seen["SO3"][1], 0.5) and isclose(abs(short), 180)
angle, distance = seen["UnitQuaternion"]
assert isclose(angle, 0, abs_tol=1e-6) and isclose(distance, 0.25), "the behaviour has changed"
PYTHON
