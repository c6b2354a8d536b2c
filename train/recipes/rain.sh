#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A second adapter for heavy rain on the demo's base, and its bundle models/demo_rain:
#   train/recipes/demo.sh && train/recipes/rain.sh
# A second call carries on where the first was interrupted.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/demo}
DATA=${DATA:-$RUN/data}
RAIN=${RAIN:-$RUN/rain}
CONFIG=train/configs/demo.yaml
BUNDLE=models/demo_rain
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

peft-dml simulate --out "$RAIN" --scenes "${SCENES:-60}" --seconds 3 --seed 71 --workers 2 --splits 0.85,0.15,0 --weather rain=50
[ -d "$RUN/adapters/rain" ] || peft-dml-train finetune --config "$CONFIG" --data "$RAIN" --out "$RUN" --adapter rain --resume
peft-dml-train export --config "$CONFIG" --data "$RAIN" --out "$RUN" --adapter rain --bundle "$BUNDLE"
# The same test scenes as the demo's, in clear air and in rain, for both bundles.
peft-dml-train evaluate --config "$CONFIG" --data "$DATA" --bundle "$BUNDLE" --out "$RUN/evaluation_rain" --weather clear --weather rain=50 --record
peft-dml-train evaluate --config "$CONFIG" --data "$DATA" --bundle models/demo --out "$RUN/evaluation_demo_in_rain" --weather rain=50 --record
