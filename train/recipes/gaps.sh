#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a few frames gain on four domains that a base was not adapted to, with labels and without:
#   BASE=models/base OUT=runs/gaps train/recipes/gaps.sh
# SCENES: of each domain, six keyframes each, to adapt on, and as many to test on. GAPS: some of them alone. ARGS: more
# options of adapt. Writes OUT/gaps.md. What is there already is used again.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
BASE=${BASE:-models/base}
OUT=${OUT:-runs/gaps}
SCENES=${SCENES:-6}
GAPS=${GAPS:-rain snow beams city}
read -r -a MORE <<< "${ARGS:-}"
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1
declare -A DOMAIN=(
  [rain]="--domain target --weather rain=60"
  [snow]="--domain target --weather snow=5"
  [beams]="--domain target --weather clear --lidar-beams 16 --lidar-height 2.4"
  [city]="--domain source"
)

for gap in $GAPS; do
  read -r -a domain <<< "${DOMAIN[$gap]}"
  for part in frames:41 test:42; do
    folder=$OUT/$gap/${part%:*}
    [ -f "$folder/v1.0-sim/splits.json" ] || peft-dml simulate --out "$folder" --scenes "$SCENES" --seconds 3 \
      --seed "${part#*:}" --lidar-hz 10 "${domain[@]}" --splits 0,0,1
  done
  for kind in labelled unlabelled; do
    made=$OUT/$gap/$kind
    # An adapter that is no better is not written: the row then says so.
    [ -d "$made" ] || peft-dml-train adapt --base "$BASE" --data "$OUT/$gap/frames" --out "$made" "${MORE[@]}" \
      $([ $kind = labelled ] || echo --unlabelled) || true
    sensors=$([ $kind = labelled ] && echo lidar,camera,radar,imu,gnss || echo camera,radar,imu,gnss)
    for adapter in default "$made"; do
      scores=$OUT/$gap/scores/$kind-$(basename "$adapter")
      [ ! -d "$adapter" ] && [ "$adapter" != default ] || [ -f "$scores/metrics.json" ] ||
        peft-dml-train evaluate --bundle "$BASE" --adapter "$adapter" --data "$OUT/$gap/test" --split sim_test \
          --sensors "$sensors" --out "$scores"
    done
  done
done
python -m peft_dml_train.few_shot.gap_table "$OUT" | tee "$OUT/gaps.md"
