#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes a bundle of a run: the base with its default adapter and every further one, scored, checked, then put in place.
#   RUN=runs/demo DATA=runs/demo/data train/recipes/ship.sh
# RUN: base.pt, adapter/ and adapters/<name>/, as demo.sh and rain.sh leave it. DATA: scenes with validation and test splits.
# BUNDLE: replaced as a whole, when everything has passed. SCORES: none; quick, clear air and rain; full, all weather.
# SETS: overrides that the run was trained with, e.g. "--set network.lidar.out=48".
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/demo}
DATA=${DATA:-$RUN/data}
BUNDLE=${BUNDLE:-models/base}
SCORES=${SCORES:-full}
read -r -a SETS <<< "${SETS:-}"
case $SCORES in
  none) WEATHER=() ;;
  quick) WEATHER=(clear rain=60) ;;
  full) WEATHER=(clear rain=40 rain=80 fog=50 snow=5) ;;
  *) echo "SCORES=$SCORES: choose none, quick or full" >&2; exit 2 ;;
esac
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

MADE=$RUN/bundle/$(basename "$BUNDLE")
ADAPTERS=(default)
for folder in "$RUN"/adapters/*/; do
  [ ! -d "$folder" ] || ADAPTERS+=("$(basename "$folder")")
done
for adapter in "${ADAPTERS[@]}"; do
  config=train/configs/$adapter.yaml
  [ -f "$config" ] || config=train/configs/demo.yaml
  recipe=(--config "$config" --data "$DATA" --set "name=$(basename "$BUNDLE")" "${SETS[@]}" --bundle "$MADE" --adapter "$adapter")
  peft-dml-train export "${recipe[@]}" --out "$RUN"
  for weather in "${WEATHER[@]}"; do
    peft-dml-train evaluate "${recipe[@]}" --out "$RUN/evaluation/$adapter" --weather "$weather" --cache "$RUN/frames" --record
  done
done
peft-dml bundle check "$MADE"
for adapter in "${ADAPTERS[@]}"; do
  peft-dml adapter check "$adapter" --bundle "$MADE"
  size=$(du -cb "$MADE/adapters/$adapter" | tail -1 | cut -f1)
  [ "$size" -le 1200000 ] || { echo "adapter $adapter weighs $size bytes, more than 1200000" >&2; exit 1; }
done
rm -rf "$BUNDLE"
cp -r "$MADE" "$BUNDLE"
echo "$BUNDLE: $(du -cb "$BUNDLE" | tail -1 | cut -f1) bytes, adapters ${ADAPTERS[*]}"
