#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Adds 8-bit graphs to a bundle: simulate, calibrate, check all 31 subsets of sensors against its own precision.
#   make setup-test && train/recipes/int8.sh          (or: make int8 BUNDLE=models/mine)
# The bundle is changed only where the check holds; a quarter of an hour on an idle core, most of it the check.
# 16 scenes calibrate; 24 are scored, every second keyframe: with half as many, two points of a rare class are noise. What
# is changed after a look at the scores is scored on scenes of another seed: SEED=... (4021 was that of 20 scenes before).
# BUNDLE: folder of the bundle; DOMAIN: of the scenes; DATA: folder whose sim_val calibrates and sim_test checks, instead.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
BUNDLE=${BUNDLE:-models/demo}
CONFIG=${CONFIG:-train/configs/demo.yaml}
DOMAIN=${DOMAIN:-mixed}
SEED=${SEED:-6107}
RUN=${RUN:-runs/int8}
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

if [ -z "${DATA:-}" ]; then
  DATA=$RUN/$DOMAIN-$SEED
  peft-dml simulate --out "$DATA" --domain "$DOMAIN" --scenes 40 --seconds 3 --seed "$SEED" --lidar-hz 10 --splits 0,0.4,0.6
fi
# All is tried on a copy.
COPY=$RUN/$(basename "$BUNDLE")
rm -rf "$COPY"
mkdir -p "$RUN"
cp -r "$BUNDLE" "$COPY"
peft-dml-train convert --bundle "$COPY" --precision int8 --add --data "$DATA" --config "$CONFIG"
peft-dml-train check-precision --bundle "$COPY" --precision int8 --data "$DATA" --config "$CONFIG" \
  --out "$RUN/check" --cache "$RUN/frames" --every 2 --record || { echo "$BUNDLE stays as it is; the losses are in $COPY/manifest.json"; exit 1; }
cp -r "$COPY/." "$BUNDLE/"
peft-dml bundle info "$BUNDLE"
