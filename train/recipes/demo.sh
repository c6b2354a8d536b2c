#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes models/demo from nothing but seeds: simulate, pretrain, finetune, export, evaluate.
#   make setup-test && train/recipes/demo.sh
# At most 90 minutes on two idle cores. A second call carries on where the first was interrupted.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/demo}
DATA=${DATA:-$RUN/data}
CONFIG=train/configs/demo.yaml
# Threads that wait for one another must not spin when something else runs on the machine.
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

peft-dml simulate --out "$DATA" --scenes 160 --seconds 3 --seed 7 --workers 2 --splits 0.8125,0.0625,0.125
[ -f "$RUN/base.pt" ] || peft-dml-train pretrain --config "$CONFIG" --data "$DATA" --out "$RUN" --resume
[ -d "$RUN/adapter" ] || peft-dml-train finetune --config "$CONFIG" --data "$DATA" --out "$RUN" --resume
peft-dml-train export --config "$CONFIG" --data "$DATA" --out "$RUN" --bundle models/demo
peft-dml-train evaluate --config "$CONFIG" --data "$DATA" --bundle models/demo --out "$RUN/evaluation" --record
