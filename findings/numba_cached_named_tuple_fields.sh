#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# numba 0.68.1: a function with cache=True that takes a NamedTuple of another file, in which a field is added or moved.
#
# Guess before the run: the tuple is part of the function's signature, so that a changed one is another signature, as it is with
#   another number of fields, and is compiled again. (That changes of functions in other files are not seen is documented.)
# Seen: the signature in the cache names the class alone: with its fields fx, cx swapped to cx, fx the cached code reads the first
#   for the second: 2 * fx + cx of fx = 100, cx = 5 gives 110, not 205, without a warning. A field added later and then moved the same.
# Matters here: cameras and paint of the simulator are such tuples. pip writes every file again, so that caches expire; in a checkout
#   that is updated by git, remove *.nbi and *.nbc after a change to a tuple.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -qq --disable-pip-version-check numba==0.68.1 "numpy<2.5"
cd "$folder"
cat > project.py <<'PYTHON'
import numba
from camera import Camera


@numba.njit(cache=True)
def project(camera, x):
    return camera.fx * x + camera.cx


camera = Camera(**{"fx": 100.0, "cx": 5.0})
print(int(project(camera, 2.0)), int(project.py_func(camera, 2.0)), sum(project.stats.cache_hits.values()))
PYTHON
cat > run.sh <<'RUN'
printf 'from typing import NamedTuple\nclass Camera(NamedTuple):\n' > camera.py
for field in "$@"; do echo "    $field: float = 0.0" >> camera.py; done
exec env -u NUMBA_CACHE_DIR PYTHONDONTWRITEBYTECODE=1 venv/bin/python -c 'import project'
RUN
first=$(bash run.sh fx cx) again=$(bash run.sh fx cx) swapped=$(bash run.sh cx fx)
three=$(bash run.sh fx cx k1) moved=$(bash run.sh fx k1 cx)
echo "compiled, plain Python, hits: first $first; again $again; swapped $swapped; added $three; moved $moved"
[ "$first" = "205 205 0" ] && [ "$again" = "205 205 1" ] && [ "$three" = "205 205 0" ]
[ "$swapped" = "110 205 1" ] && [ "$moved" = "200 205 1" ] || { echo "the behaviour has changed"; exit 1; }
