#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# numpy-quaternion 2024.0.13: mean_rotor_in_chordal_metric and as_rotation_vector, where q and -q are one rotation.
#
# Guess before the run: the mean of q and -q is q, and that of headings of 170 and -170 degrees is 180, as with SciPy's Rotation.mean; the
#   rotation vector of -q is that of q.
# Seen: the mean of q and -q is NaN in all four numbers, that of 170 and -170 degrees, both with w > 0, is 0: the opposite way. The
#   rotation vector of -q, for a turn of .6 rad, is 5.68 rad long and points the other way.
# Matters here: headings around south jump in sign, whatever w is, so that averages of a track or of GNSS point backwards, and rates
#   from such vectors show turns of 2 pi. nuScenes' quaternions have both signs. Here no orientations are averaged.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" numpy-quaternion==2024.0.13 numpy==1.26.4 scipy==1.14.1
PYTHONPATH=$folder python3 - <<'PYTHON'
import numpy as np
import quaternion
from scipy.spatial.transform import Rotation


def heading(degrees):
    return quaternion.quaternion(np.cos(np.radians(degrees) / 2), 0, 0, np.sin(np.radians(degrees) / 2))


def mean(*rotors):
    return quaternion.as_float_array(quaternion.mean_rotor_in_chordal_metric(np.array(rotors)))


turn = quaternion.quaternion(np.cos(0.3), 0, 0, np.sin(0.3))
same, south = mean(turn, -turn), mean(heading(170), heading(-170))
vectors = quaternion.as_rotation_vector(np.array([turn, -turn]))
theirs = Rotation.from_rotvec(np.radians([[0, 0, 170], [0, 0, -170]])).mean().magnitude()
print("mean of q and -q:", same, "of 170 and -170:", south, "SciPy's:", np.degrees(theirs), "vectors:", vectors)
assert np.isclose(theirs, np.pi) and np.allclose(vectors[0], [0, 0, 0.6])
assert np.isnan(same).all() and np.allclose(south, [1, 0, 0, 0]), "the behaviour has changed"
assert np.allclose(vectors[1], [0, 0, 0.6 - 2 * np.pi]), "the behaviour has changed"
PYTHON
