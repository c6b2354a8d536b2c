#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The demo's recipe on one GPU within nine minutes in all: scenes on all cores, larger batches, minutes instead of steps;
# then a minute of `nuscenes` at full size on the same scenes, to see that it trains.
#   make setup-test && train/recipes/gpu.sh
# Variables are those of train/recipes/demo.sh. MINUTES: of each round of the pretraining and, twice, of the adaptation;
# SMOKE: overrides of the nuscenes recipe; DEVICE: cuda or cpu.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export RUN=${RUN:-runs/gpu} BUNDLE=${BUNDLE:-models/demo_gpu} RAIN=${RAIN-} WORKERS=${WORKERS:-$(nproc)}
export SOURCE=${SOURCE:-$RUN/source} TARGET=${TARGET:-$RUN/target} SOURCE_SCENES=${SOURCE_SCENES:-64} TARGET_SCENES=${TARGET_SCENES:-160}
DEVICE=${DEVICE:-cuda} MINUTES=${MINUTES:-1.0}
export OPTIONS="--device $DEVICE"
SMALL=${SET:-}
export SET="pretrain.batch=16 finetune.batch=16 pretrain.rate=0.004 finetune.rate=0.004 pretrain.minutes=$MINUTES
  finetune.minutes=$(awk "BEGIN {print 2 * $MINUTES}") pretrain.checkpoint_every=100000 finetune.checkpoint_every=100000 $SMALL"
train/recipes/demo.sh

smoke=(--set "splits.train=[sim_train]" --set pretrain.minutes=1 --set spec.lidar.sweeps=3 --set losses.depth=0.3)
for one in ${SMOKE:-}; do smoke+=(--set "$one"); done
peft-dml-train pretrain --config train/configs/nuscenes.yaml --data "$SOURCE" --out "$RUN/nuscenes" --device "$DEVICE" "${smoke[@]}"
echo "$SECONDS s in all"
