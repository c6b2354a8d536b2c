#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Check and measure the engines on this machine's NVIDIA GPU, in at most four minutes. Needs this package with the extra
# tensorrt-rtx (RTX cards), or tensorrt, or onnxruntime-gpu; what is missing is named and left out.
#   bash bench/gpu.sh [BUNDLE] [RESULT.json]
set -u
cd "$(dirname "$0")/.."
bundle=${1:-demo} out=${2:-bench/gpu.json} python=${PYTHON:-python3}
export PEFT_DML_ENGINE_CACHE=${PEFT_DML_ENGINE_CACHE:-$(mktemp -d)}
command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
status=0
timeout 150 "$python" bench/gpu.py --bundle "$bundle" --out "$out" --repeats 200 || status=$?
if "$python" -c "import pytest" 2>/dev/null; then
    timeout 80 "$python" -m pytest -q -m gpu tests/engines || { code=$?; [ $code = 5 ] || status=$code; }
fi
exit $status
