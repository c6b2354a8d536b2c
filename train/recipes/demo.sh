#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes models/demo from nothing but seeds: simulate, pretrain, finetune, export, evaluate.
#   make setup-test && train/recipes/demo.sh
# About two hours on two idle cores with 20 GB of memory. A second call carries on where the first was interrupted.
# DATA: folder of scenes that are there already; SCENES: how many to simulate otherwise.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/demo}
SCENES=${SCENES:-600}
CONFIG=train/configs/demo.yaml
# Threads that wait for one another must not spin when something else runs on the machine.
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

if [ -z "${DATA:-}" ]; then
  DATA=$RUN/data
  peft-dml simulate --out "$DATA" --scenes "$SCENES" --seconds 3 --seed 7 --lidar-hz 10 --workers 2 --splits 0.935,0.025,0.04
fi
# Two rounds: the second begins with the averaged weights of the first and a lower rate.
[ -f "$RUN/first/base.pt" ] || peft-dml-train pretrain --config "$CONFIG" --data "$DATA" --out "$RUN/first" --resume
[ -f "$RUN/base.pt" ] || peft-dml-train pretrain --config "$CONFIG" --data "$DATA" --out "$RUN" --resume \
  --from "$RUN/first/base.pt" --set pretrain.minutes=40 --set pretrain.rate=0.0015
# A third of the scenes will do, and weather on six pictures takes a second a frame.
[ -d "$RUN/adapter" ] || peft-dml-train finetune --config "$CONFIG" --data "$DATA" --out "$RUN" --resume \
  --set "splits.finetune=[scene-53, scene-54]"
peft-dml-train export --config "$CONFIG" --data "$DATA" --out "$RUN" --bundle models/demo
peft-dml-train evaluate --config "$CONFIG" --data "$DATA" --bundle models/demo --out "$RUN/evaluation" --record
