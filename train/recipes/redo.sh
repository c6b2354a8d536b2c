#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two cells of docs/results.md again, from seeds and the models/base of their commit: not adapted to fog, and PEFT on it.
# Simulates 80 scenes, adapts, scores, and says whether the figures lie within the stated intervals.
#   make setup-test && train/recipes/redo.sh
# Under ten minutes on two idle cores. CELLS: cells of the gap `fog`, e.g. CELLS=fog_peft_8; RUN: folder of the run.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/redo}
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1
CHOSEN=()
for cell in ${CELLS:-fog_none fog_peft_all}; do CHOSEN+=(--cell "$cell"); done

# Code, recipe and base as they were at the cells' commit: models/base has been trained on since.
COMMIT=${COMMIT:-$(sed -n 's/.*"commit": "\([0-9a-f]*\)".*/\1/p' train/results/domains/fog_none.near.s7.json)}
mkdir -p "$RUN/code"
git archive "$COMMIT" | tar -x -C "$RUN/code" \
  || { echo "commit $COMMIT is not here; fix: git fetch --unshallow, or a clone with its history" >&2; exit 1; }

# The same seed and number of scenes as in evidence.sh; scenes that are there already are kept.
peft-dml simulate --domain target --out "$RUN/domains/fog" --scenes 80 --seconds 3 --seed 65 --lidar-hz 10 --workers 2 \
  --splits 0.5,0,0.5 --weather fog=40
PYTHONPATH="$RUN/code:$RUN/code/train" peft-dml-train domains --config near --base "$RUN/code/models/base" --data "$RUN/domains/fog" --domains "$RUN/domains" \
  --runs "$RUN/weights" --out "$RUN/results" --frames 120 --seeds 1 "${CHOSEN[@]}"
python -m peft_dml_evidence.redo "$RUN/results"
