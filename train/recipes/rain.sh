#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The second adapter of models/demo, for heavy rain: after train/recipes/demo.sh, with its RUN and DATA.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/demo}
DATA=${DATA:-$RUN/data}
CONFIG=train/configs/rain.yaml
BUNDLE=models/demo
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

[ -d "$RUN/adapters/rain" ] || peft-dml-train finetune --config "$CONFIG" --data "$DATA" --out "$RUN" --adapter rain --from default --resume --set "splits.finetune=[scene-52]"
peft-dml-train export --config "$CONFIG" --data "$DATA" --out "$RUN" --adapter rain --bundle "$BUNDLE"
# The same test scenes for both adapters: in clear air and in rain.
for adapter in rain default; do
  peft-dml-train evaluate --config "$CONFIG" --data "$DATA" --bundle "$BUNDLE" --adapter $adapter --out "$RUN/evaluation_$adapter" \
    --weather clear --weather rain=40 --weather rain=80 --record
done
peft-dml-train evaluate --config "$CONFIG" --data "$DATA" --bundle "$BUNDLE" --out "$RUN/evaluation_weather" --weather fog=50 --weather snow=5 --record
