#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Mined against random frames on a domain gap: drives of which a fifth are in fog, adapters from COUNT frames of each kind.
#   make setup-test && train/recipes/mining.sh          writes train/results/mining.json
# About two hours of a core. BASE: bundle; COUNT, STEPS, SEEDS: frames and steps of an adapter, pairs. SCENES: ordinary ones, a
# quarter as many of the gap. POOL, SEEN, GAP: folders of both and of test scenes. What is in RUN already is used again.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
BASE=${BASE:-models/base}
RUN=${RUN:-runs/mining}
COUNT=${COUNT:-40} STEPS=${STEPS:-300} SEEDS=${SEEDS:-5} SCENES=${SCENES:-80}
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

simulate() { peft-dml simulate --out "$1" --domain "$2" --scenes "$3" --seconds 3 --seed "$4" --lidar-hz 10 --workers 1 "${@:5}"; }
[ -n "${POOL:-}" ] || { POOL=$RUN/pool; simulate "$POOL" mixed "$SCENES" 31; }
[ -n "${SEEN:-}" ] || { SEEN=$RUN/seen; simulate "$SEEN" target $((SCENES / 4)) 977 --weather fog=40; }
[ -n "${GAP:-}" ] || { GAP=$RUN/gap; simulate "$GAP" target 40 978 --weather fog=40 --splits 0,0,1; }
[ -f "$RUN/mined/mined.json" ] || peft-dml fleet mine "$POOL" "$SEEN" --bundle "$BASE" --count "$COUNT" --out "$RUN/mined"
for seed in $(seq "$SEEDS"); do
  [ -f "$RUN/random-$seed/mined.json" ] || \
    peft-dml fleet mine "$POOL" "$SEEN" --count "$COUNT" --random "$seed" --out "$RUN/random-$seed"
done
python -m peft_dml_evidence.mined_frames --base "$BASE" --work "$RUN" --test "$GAP" --seeds "$SEEDS" --steps "$STEPS"
