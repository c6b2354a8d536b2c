#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The base's recipe on one GPU within nine minutes in all: scenes on all cores, larger batches, minutes instead of steps;
# then a minute of `nuscenes` at full size on the same scenes, to see that it trains.
#   make setup-test && train/recipes/gpu.sh
# Variables are those of train/recipes/demo.sh. MINUTES: of the adaptation; the pretraining takes two fifths of them;
# SMOKE: overrides of the nuscenes recipe; DEVICE: cuda or cpu.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
export RUN=${RUN:-runs/gpu} BUNDLE=${BUNDLE:-models/base_gpu} RAIN=${RAIN-} WORKERS=${WORKERS:-$(nproc)} ROUNDS=${ROUNDS:-1}
export SOURCE=${SOURCE:-$RUN/source} TARGET=${TARGET:-$RUN/target} SOURCE_SCENES=${SOURCE_SCENES:-64} TARGET_SCENES=${TARGET_SCENES:-360}
export CONFIG=${CONFIG:-train/configs/gpu.yaml} EVALUATE=${EVALUATE:---sensors lidar,camera,radar,imu,gnss} TARGETS=${TARGETS-} RECIPE=train/recipes/gpu.sh
DEVICE=${DEVICE:-cuda} MINUTES=${MINUTES:-2.5}
export OPTIONS="--device $DEVICE"
SMALL=${SET:-}
export SET="pretrain.minutes=$(awk "BEGIN {print 0.4 * $MINUTES}") finetune.minutes=$MINUTES $SMALL"
# A batch on its way from a worker holds an open file for each tensor.
ulimit -n "$(ulimit -Hn)"
train/recipes/demo.sh

smoke=(--set "splits.train=[sim_train]" --set pretrain.minutes=1 --set spec.lidar.sweeps=3 --set losses.depth=0.3)
for one in ${SMOKE:-}; do smoke+=(--set "$one"); done
peft-dml-train pretrain --config train/configs/nuscenes.yaml --data "$SOURCE" --out "$RUN/nuscenes" --device "$DEVICE" "${smoke[@]}"
echo "$SECONDS s in all"
