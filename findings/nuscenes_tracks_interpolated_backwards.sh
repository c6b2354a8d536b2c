#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# nuscenes-devkit 1.2.0, tracking evaluation: boxes that fill a hole in a track.
#
# Guess before the run: `interpolate_tracks` puts them on the straight line between the box before and the box after, in
#   proportion to the time: an object that moves evenly by 10 m a keyframe and is missing at the 2nd, 3rd and 4th of five
#   is filled in at 10, 20 and 30 m.
# Seen: at 30, 20 and 10 m: the weights of the two ends are swapped, so that the object jumps ahead and drives back. With one
#   missing keyframe, half way, the two are the same.
# Matters here: `peft-dml bench tracking` scores with it, truth and tracks alike: truth without a LiDAR point for more
#   than one keyframe moves backwards in time, and so does a track that was hidden that long.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet nuscenes-devkit==1.2.0
"$folder/venv/bin/python" - <<'PYTHON'
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.tracking.data_classes import TrackingBox
from nuscenes.eval.tracking.loaders import interpolate_tracks


def box(x):
    return TrackingBox(sample_token="s", translation=(x, 0, 0), size=(2, 4, 1.5), rotation=(1, 0, 0, 0),
                       velocity=(0, 0), tracking_id="a", tracking_name="car", tracking_score=0.5)


def filled(xs):
    tracks = interpolate_tracks({i: [] if x is None else [box(x)] for i, x in enumerate(xs)})
    return [round(float(boxes[0].translation[0]), 3) for boxes in tracks.values()]


config_factory("tracking_nips_2019")  # fills in the names of classes
one, three = filled([0.0, None, 20.0]), filled([0.0, None, None, None, 40.0])
print("one missing:", one, "three missing:", three)
assert one == [0, 10, 20] and three == [0, 30, 20, 10, 40], "the behaviour has changed"
PYTHON
