#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PyAV 15.1.0 (FFmpeg 7 of its wheel): VideoFrame.to_ndarray(format="rgb24") of a full-range yuv420p frame.
#
# Guess before the run: the frame says color_range 2 (JPEG, full range), so grey of level 30 becomes RGB 30, 30, 30.
# Seen: 16, 16, 16: the frame is taken for one of limited range, as if it had said nothing; 235 becomes 255. The same
#   levels as yuvj420p, or with reformat(src_color_range="JPEG"), give 30.
# Matters here: T4 1.0 stores cameras as full-range BT.601 AV1, which is decoded to yuv420p with color_range 2: dark parts
#   of all pictures would be black, and bright ones white. The reader names the range.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export PIP_DISABLE_PIP_VERSION_CHECK=1
python3 -m pip install --quiet --target "$folder" av==15.1.0 "numpy<2.5"
PYTHONPATH=$folder python3 - <<'PYTHON'
import av


def frame(kind, level):
    made = av.VideoFrame(64, 64, kind)
    for plane, value in zip(made.planes, (level, 128, 128)):
        plane.update(bytes([value]) * plane.buffer_size)
    made.color_range = 2
    return made


def grey(made):
    return int(made.to_ndarray(format="rgb24")[0, 0, 0])


seen = {level: grey(frame("yuv420p", level)) for level in (30, 235)}
old = grey(frame("yuvj420p", 30))
told = int(frame("yuv420p", 30).reformat(format="rgb24", src_color_range="JPEG").to_ndarray()[0, 0, 0])
print(f"PyAV {av.__version__}: as it is {seen}, as yuvj420p {old}, with the range named {told}")
assert seen == {30: 16, 235: 255} and old == told == 30, "the behaviour has changed"
PYTHON
