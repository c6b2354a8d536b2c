#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# All experiments behind docs/results.md, the most important first. Finished cells are skipped: call it again at any time.
#   DATA=runs/demo/data PROFILE=quick train/recipes/evidence.sh
# DATA: simulated or real scenes with splits; DOMAINS: folder of the gaps' scenes, simulated here if DATA is. CONFIG:
# tiny, near, one_town, fresh, demo or nuscenes; BASE: bundle whose network every cell begins with, and whose own
# robustness is scored: cells that need another base say so; FROM: encoders alone, frozen, to which every base is
# trained; PROFILE: quick or full; JOBS: cells at once; MINUTES: in all, after them no new stage begins; RUNS, OUT:
# folders of weights and of results; GAPS: some of the gaps; DOMAIN: of DATA, source or target; ARGS: more options of
# the commands.
# The gaps as they stand on the page, and the robustness of models/base:
#   DATA=runs/demo/target CONFIG=near BASE=models/base ARGS="--frames 120" train/recipes/evidence.sh
# Components and baselines, everything behind the encoders of models/base trained alike:
#   DATA=runs/demo/target CONFIG=fresh FROM=models/base/base.safetensors ARGS="--frames 40" train/recipes/evidence.sh
# The gaps of a base that has seen one town, one rig and clear weather (DATA: `peft-dml simulate --domain source`):
#   DATA=runs/source DOMAIN=source CONFIG=one_town FROM=models/base/base.safetensors train/recipes/evidence.sh
#
# Measured with recipe near on one core that three others shared, CPU seconds a step: PEFT .45, full fine-tuning 1.04,
# projections, fusion and head .26; on the whole grid (demo) 1.07, 1.56 and .58. Preparing a frame takes .2 s, once for
# all; scoring one .3 s. 820 runs in all, each claim with one seed before any with three.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
DATA=${DATA:-runs/demo/data}
DOMAINS=${DOMAINS:-${DATA}_domains}
DOMAIN=${DOMAIN:-target}
BASE=${BASE:-}
FROM=${FROM:-}
CONFIG=${CONFIG:-tiny}
PROFILE=${PROFILE:-full}
JOBS=${JOBS:-2}
RUNS=${RUNS:-runs/evidence}
OUT=${OUT:-train/results}
read -r -a MORE <<< "${ARGS:-}"
case $PROFILE in
  quick)
    MINUTES=${MINUTES:-130} GAP_SCENES=16
    MORE=(--frames 72 --scenes 200 --set bfloat16=true --set pretrain.steps=900 --set finetune.steps=300 "${MORE[@]}") ;;
  full) MINUTES=${MINUTES:-0} GAP_SCENES=80 ;;
  *) echo "PROFILE=$PROFILE: choose quick or full" >&2; exit 2 ;;
esac
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
BEGIN=$SECONDS

run() {
  local left=0
  if [ "$MINUTES" != 0 ]; then
    left=$(( MINUTES - (SECONDS - BEGIN) / 60 ))
    [ "$left" -gt 0 ] || return 0
  fi
  # A cell that fails says why; the others go on.
  peft-dml-train "$@" --data "$DATA" --domains "$DOMAINS" --config "$CONFIG" --runs "$RUNS" --out "$OUT" \
    --jobs "$JOBS" --minutes "$left" ${BASE:+--base "$BASE"} ${FROM:+--from "$FROM"} "${MORE[@]}" || true
}

# How scenes of each gap differ from those of DATA.
declare -A GAP=([fog]="--seed 65 --weather fog=40" [rain]="--seed 61 --weather rain=60")
if [ "$DOMAIN" = source ]; then
  GAP[rig]="--seed 63 --vehicle nuscenes --lidar hdl32e"
  GAP[beams]="--seed 62 --lidar-beams 10"
  GAP[streets]="--seed 64 --streets winding --traffic left"
else
  GAP[rig]="--seed 63 --weather clear --vehicle van --lidar pandar40p --focal 0.8"
  GAP[beams]="--seed 62 --weather clear --lidar-beams 8 --lidar-height 2.4"
  GAP[streets]="--seed 64 --weather clear --streets grid --traffic right"
fi
for gap in ${GAPS:-rain beams rig streets fog}; do
  read -r -a options <<< "${GAP[$gap]}"
  if ls "$DATA"/*/simulate.json > /dev/null 2>&1 && ! ls "$DOMAINS/$gap"/*/splits.json > /dev/null 2>&1; then
    peft-dml simulate --domain "$DOMAIN" --out "$DOMAINS/$gap" --scenes "$GAP_SCENES" --seconds 3 --lidar-hz 10 \
      --workers "$JOBS" --splits 0.5,0,0.5 "${options[@]}"
  fi
done
run evidence
peft-dml-train report --results "$OUT"
