#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pyproj 3.7.2 (PROJ of its wheel): height above the ellipsoid (EPSG:4979) to height above the sea (EPSG:4326+5773, EGM96), whose grid
#   is not installed, as in every wheel.
#
# Guess before the run: the transformation that needs the grid cannot be done: an error, or inf for what could not be computed; with
#   only_best=True, which is there to insist on the best one, an error for sure.
# Seen: 600 m in Munich stays 600 m, where EGM96 would give about 554; no error, no warning, with only_best=True as without. Only
#   the description says "ballpark vertical transformation"; allow_ballpark=False raises ProjError.
# Matters here: heights of GNSS receivers and of maps are apart by up to 100 m. Heights are used here only as changes within a drive.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" pyproj==3.7.2
PROJ_NETWORK=OFF PYTHONPATH=$folder python3 - <<'PYTHON'
from pyproj import Transformer
from pyproj.exceptions import ProjError

for options in ({}, {"only_best": True}):
    change = Transformer.from_crs("EPSG:4979", "EPSG:4326+5773", **options)
    height = change.transform(48.1, 11.5, 600.0)[2]
    print(options, height, change.description)
    assert height == 600 and "ballpark" in change.description, "the behaviour has changed"
try:
    Transformer.from_crs("EPSG:4979", "EPSG:4326+5773", allow_ballpark=False)
except ProjError as error:
    print("allow_ballpark=False:", error)
else:
    raise AssertionError("the behaviour has changed")
PYTHON
