#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# ahrs 0.4.0: roll, pitch and yaw of a rotation matrix, DCM(rpy=...) ("array with roll->pitch->yaw angles") and DCM.to_rpy().
#
# Guess before the run: DCM(rpy=(.1, .2, .3)) is Rz(.3) Ry(.2) Rx(.1), as in ROS and as Quaternion(rpy=...) of the same library, and
#   to_rpy() gives .1, .2, .3 back.
# Seen: DCM takes the first number for the turn around z, so that a roll of .1 alone becomes a yaw; to_rpy() of it gives -.286, -.220,
#   -.038. Of the matrix Rz Ry Rx to_rpy() gives -.038, -.220, -.286: angles of the transposed matrix. The sign is wrong for turns around
#   one axis as well. Quaternion(rpy=...) and its to_angles() are right.
# Matters here: the yaw of a box or the roll of an IMU, taken from such a matrix, turns the other way, and a round trip through DCM hides
#   neither mistake nor order. Here angles are computed from matrices by own code.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" ahrs==0.4.0 numpy==1.26.4 scipy==1.14.1
PYTHONPATH=$folder python3 - <<'PYTHON'
import numpy as np
from ahrs import DCM, Quaternion
from scipy.spatial.transform import Rotation

angles = np.array([0.1, 0.2, 0.3])
matrix = Rotation.from_euler("ZYX", angles[::-1]).as_matrix()
w, x, y, z = Quaternion(rpy=angles)
print("matrix:", DCM(matrix).to_rpy(), "from angles and back:", DCM(rpy=angles).to_rpy())
print("quaternion and back:", Quaternion(rpy=angles).to_angles())
assert np.allclose(Rotation.from_quat([x, y, z, w]).as_matrix(), matrix) and np.allclose(Quaternion(rpy=angles).to_angles(), angles)
roll = DCM(rpy=[0.1, 0, 0])
assert np.allclose(roll, Rotation.from_euler("z", 0.1).as_matrix()), "the behaviour has changed"
assert np.allclose(DCM(rpy=angles).to_rpy(), [-0.28578, -0.22006, -0.03790], atol=1e-4), "the behaviour has changed"
transposed = Rotation.from_matrix(matrix.T).as_euler("ZYX")[::-1]
assert np.allclose(DCM(matrix).to_rpy(), transposed), "the behaviour has changed"
assert np.isclose(DCM(Rotation.from_euler("z", 0.3).as_matrix()).to_rpy()[2], -0.3), "the behaviour has changed"
PYTHON
