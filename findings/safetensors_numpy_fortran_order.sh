#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# safetensors 0.8.0: safetensors.numpy.save and save_file of arrays in Fortran's order ("tensors need to be contiguous and dense": they are).
#
# Guess before the run: they come back with the same numbers at the same places, since an array's bytes are taken in C's order, as by
#   ndarray.tobytes(); or they are refused with a ValueError, as safetensors.torch refuses tensors that are not contiguous.
# Seen: the memory is written as it lies, with the shape as it is: [[0, 1, 2], [3, 4, 5]] comes back as [[0, 3, 1], [4, 2, 5]], and a
#   transposed matrix as numbers of another one, without an error or a warning. Views with gaps get numbers that are not theirs.
# Matters here: weights that are transposed with .T, and results of linear algebra, which are often in Fortran's order, are scrambled in
#   the file. The cache of frames and the 8-bit weights of bundles are made C-contiguous before they are saved.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install -qq --disable-pip-version-check --target "$folder" safetensors==0.8.0 numpy==1.26.4
PYTHONPATH=$folder python3 - <<'PYTHON'
import numpy as np
from safetensors.numpy import load, save

rows = np.arange(6).reshape(2, 3)
back = load(save({"rows": rows, "columns": np.asfortranarray(rows), "transposed": rows.T, "every other": np.arange(10)[::2]}))
print({name: array.tolist() for name, array in back.items()})
assert np.asfortranarray(rows).flags.f_contiguous and np.array_equal(back["rows"], rows)
assert back["columns"].tolist() == [[0, 3, 1], [4, 2, 5]], "the behaviour has changed"
assert back["transposed"].tolist() == [[0, 1], [2, 3], [4, 5]] != rows.T.tolist(), "the behaviour has changed"
assert back["every other"].tolist() == [0, 1, 2, 3, 4], "the behaviour has changed"
PYTHON
