#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# trimesh 5.2.0: a point cloud or mesh in UTM coordinates, exported as PLY.
#
# Guess before the run: its vertices are float64, PLY has `double`, and OBJ and XYZ of the same export keep millimetres: PLY keeps them too.
# Seen: `property float`: northings step by .5 m. 5412345.678 comes back as 5412345.5; points that are 10 cm apart become one place,
#   or half a metre apart, without a warning. OBJ and XYZ keep them.
# Matters here: maps and ground truth of surveys come in UTM. The simulator's meshes stay near their origin; subtract an offset first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" trimesh==5.2.0 numpy==1.26.4
PYTHONPATH=$folder python3 - <<'PYTHON'
from io import BytesIO

import numpy as np
import trimesh

points = np.array([[500000.123, 5412345.678, 100.0], [500000.123, 5412345.778, 100.0]])
content = trimesh.PointCloud(points).export(file_type="ply")
back = np.asarray(trimesh.load(BytesIO(content), file_type="ply").vertices)
lines = trimesh.PointCloud(points).export(file_type="xyz")
text = lines.decode() if isinstance(lines, bytes) else lines
print(content[:130], back - points, text, sep="\n")
assert "5412345.678" in text
assert b"property float x" in content and back[0, 1] == 5412345.5, "the behaviour has changed"
PYTHON
