#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# pyarrow 26.0.1 (CPython 3.11, Linux x86-64) installs next to numpy 1.26.4 without a complaint and cannot be imported.
#
# Guess before the run: numpy is an optional dependency of pyarrow, so either pip refuses the pair or the import works
#   and only conversions to numpy fail.
# Seen: pip installs both, `pip check` finds nothing wrong, and `import pyarrow` raises
#   "ImportError: pyarrow requires NumPy 2.0 or newer, found 1.26.4". pyarrow 25.0.0 imports with the same numpy.
#   Without numpy, pyarrow 26.0.1 imports as well: only an older numpy is in the way.
# Matters here: nuscenes-devkit 1.2.0 holds numpy below 2, and Parquet is read for fleet results and T4 data sets.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
export PIP_DISABLE_PIP_VERSION_CHECK=1
$python -m pip install --quiet pyarrow==26.0.1
$python -c "import pyarrow; print('without numpy: pyarrow', pyarrow.__version__, 'imports')"
$python -m pip install --quiet numpy==1.26.4
$python -m pip check
if $python -c "import pyarrow" 2>"$folder/error"; then
    echo "changed: pyarrow 26.0.1 imports next to numpy 1.26.4"
    exit 1
fi
grep "pyarrow requires NumPy 2.0 or newer, found 1.26.4" "$folder/error"
$python -m pip install --quiet pyarrow==25.0.0
$python -c "import pyarrow; print('with numpy 1.26.4: pyarrow', pyarrow.__version__, 'imports')"
