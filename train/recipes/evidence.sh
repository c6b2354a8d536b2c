#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All experiments behind docs/results.md, the most important first. Finished cells are skipped: call it again at any time.
#   DATA=runs/demo/data MINUTES=300 train/recipes/evidence.sh
# DATA: simulated or real scenes with splits; LAYOUT: scenes of another sensor layout, simulated here if DATA is.
# CONFIG: tiny, demo or nuscenes; JOBS: cells at once; MINUTES: in all, after them no new stage begins; ARGS: more options.
#
# What `tiny` takes on 240 scenes of 3 s, in minutes of one idle core (from steps and frames timed one by one, not from a whole run):
#   a base, 1600 steps of 0.45 s                      12   31 of them: 3 of ours, 6 ablations, 13 zero-shot, 7 baselines, 2 domains
#   a second stage, 500 steps of 0.5 s                 4   42 of them
#   frames in memory, once a process and command    4-14   most of it is weather on the second stage's frames, 1 s each
#   scoring: eight subsets in clear air 2; with the target's weather 9; `weather` 25; `multicorrupt` 35; `multicorrupt_radar` 60; 31 subsets 3
# Parts 1 to 4 below: about 2, 11, 3 and 6 hours of one core; halve it for two. FRAMES=72 halves the scoring.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
DATA=${DATA:-runs/demo/data}
LAYOUT=${LAYOUT:-${DATA}_layout}
CONFIG=${CONFIG:-tiny}
JOBS=${JOBS:-2}
MINUTES=${MINUTES:-0}
FRAMES=${FRAMES:-0}
read -r -a MORE <<< "${ARGS:-}"
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
BEGIN=$SECONDS

run() {
  local left=0
  if [ "$MINUTES" != 0 ]; then
    left=$(( MINUTES - (SECONDS - BEGIN) / 60 ))
    [ "$left" -gt 0 ] || return 0
  fi
  # A cell that fails says why; the others go on.
  peft-dml-train "$@" --data "$DATA" --layout-data "$LAYOUT" --config "$CONFIG" --jobs "$JOBS" --minutes "$left" --frames "$FRAMES" "${MORE[@]}" || true
  peft-dml-train report --no-plots
}

# 1. The key rows with one seed, and what costs nothing to train.
run robustness --cell subsets --seeds 1
run cost
run ranks --cell peft --cell full --seeds 1
run baselines --cell zero_filled --seeds 1
# 2. The claims, one by one.
run zero-shot
run ablate
run ranks --seeds 1
run baselines --seeds 1
run robustness --cell weather --cell multicorrupt_radar --cell multicorrupt --seeds 1
# 3. The key rows with the other seeds.
run robustness --cell subsets
run ranks --cell peft --cell full
run baselines --cell zero_filled
# 4. Everything else.
if ls "$DATA"/*/simulate.json > /dev/null 2>&1 && ! ls "$LAYOUT"/*/splits.json > /dev/null 2>&1; then
  peft-dml simulate --out "$LAYOUT" --scenes 60 --seconds 3 --seed 107 --lidar-hz 10 --lidar-height 2.4 --lidar-beams 16 --focal 0.8 --workers "$JOBS" --splits 0.7,0.1,0.2
fi
run robustness
run domains
run baselines
peft-dml-train report
