#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pymap3d 3.2.0: ways across the 180th meridian, lox.loxodrome_inverse and vincenty.vreckon.
#
# Guess before the run: from 179 to -179 degrees east at latitude 10 a line of constant course leads 219 km east, as across any other
#   meridian; and vreckon, whose text says that "lon2 is always converted to the [-180 180] interval", keeps to that.
# Seen: loxodrome_inverse gives 19,516 km, due west: once around the earth. vreckon, 2000 km east from 170 degrees, gives 188.2;
#   from -170 degrees west 171.8. vdist, across the same line, is right.
# Matters here: tracks of GNSS receivers in Fiji, on Chukotka or at sea. The motion window of a drive made the same mistake, by own
#   code, and now takes the short way (core/motion.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" pymap3d==3.2.0 numpy==1.26.4
PYTHONPATH=$folder python3 - <<'PYTHON'
from pymap3d.lox import loxodrome_inverse
from pymap3d.vincenty import vdist, vreckon

here, across = [tuple(map(float, loxodrome_inverse(10, a, 10, b))) for a, b in ((19, 21), (179, -179))]
straight = float(vdist(10, 179, 10, -179)[0])
east, west = float(vreckon(10, 170, 2e6, 90)[1]), float(vreckon(10, -170, 2e6, 270)[1])
print("elsewhere:", here, "across 180:", across, "vdist:", straight, "vreckon:", east, west)
assert abs(here[0] - 219_300) < 500 and abs(straight - here[0]) < 500 and abs(here[1] - 90) < 1e-6 and 171 < west < 172
assert across[0] > 19e6 and abs(across[1] - 270) < 1e-6, "the behaviour has changed"
assert 188 < east < 189, "the behaviour has changed"
PYTHON
