#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The bundle of the second adapter, for heavy rain, on the demo's base: after train/recipes/demo.sh, with its RUN and DATA.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/demo}
DATA=${DATA:-$RUN/data}
CONFIG=train/configs/rain.yaml
BUNDLE=models/demo_rain
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

[ -d "$RUN/adapters/rain" ] || peft-dml-train finetune --config "$CONFIG" --data "$DATA" --out "$RUN" --adapter rain --from default --resume --set "splits.finetune=[scene-52]"
peft-dml-train export --config "$CONFIG" --data "$DATA" --out "$RUN" --adapter rain --bundle "$BUNDLE" --weights fp16
# The same test scenes for both bundles: in clear air and in rain.
peft-dml-train evaluate --config "$CONFIG" --data "$DATA" --bundle "$BUNDLE" --out "$RUN/evaluation_rain" --weather clear --weather rain=40 --weather rain=80 --record
peft-dml-train evaluate --config "$CONFIG" --data "$DATA" --bundle models/demo --out "$RUN/evaluation_demo_in_rain" --weather rain=40 --weather rain=80 --weather fog=50 --weather snow=5 --record
