#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes models/base from nothing but seeds: two simulated domains, encoders pretrained on the source, less than a tenth
# of all parameters adapted to the target, a second adapter for rain, and the figures next to the previous bundle's.
#   make setup-test && train/recipes/demo.sh
# About four hours on two idle cores with 20 GB of memory and 10 GB of disk. Budgets are steps: on the same machine the
# same command gives the same weights. A second call carries on where the first was interrupted.
# SOURCE, TARGET: folders of the scenes, simulated here where they are empty; SOURCE_SCENES, TARGET_SCENES, SIMULATE:
# their numbers and more options of `peft-dml simulate`; SET: overrides of the recipes, e.g. SET="pretrain.steps=100";
# OPTIONS: more options of the training, e.g. OPTIONS="--device cuda"; RAIN= leaves the second adapter out.
# ROUNDS: of the pretraining, 2 or 1. EVALUATE: options of the evaluation; TARGETS= leaves the method's own figures out.
# PREVIOUS: metrics.json or targets.json to compare with; without it the bundle in BUNDLE is measured before it goes.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/demo}
SOURCE=${SOURCE:-$RUN/source}
TARGET=${TARGET:-$RUN/target}
CONFIG=${CONFIG:-train/configs/demo.yaml}
BUNDLE=${BUNDLE:-models/base}
RAIN=${RAIN-train/configs/rain.yaml}
WORKERS=${WORKERS:-2}
PREVIOUS=${PREVIOUS:-}
ROUNDS=${ROUNDS:-2}
TARGETS=${TARGETS-yes}
read -r -a EVALUATE <<< "${EVALUATE:-}"
read -r -a SIMULATE <<< "${SIMULATE:---seconds 3 --lidar-hz 10 --depth-stride 4}"
read -r -a OPTIONS <<< "${OPTIONS:-}"
CHANGES=()
for one in "name=$(basename "$BUNDLE")" ${SET:-}; do CHANGES+=(--set "$one"); done
# Threads that wait for one another must not spin when something else runs on the machine.
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

simulate() {  # domain, folder, scenes, seed, splits
  ls "$2"/*/splits.json > /dev/null 2>&1 && return
  ${NICE:-} peft-dml simulate --domain "$1" --out "$2" --scenes "$3" --seed "$4" --splits "$5" --workers "$WORKERS" "${SIMULATE[@]}"
}

# What lies behind the encoders is thrown away: a plain average teaches them most, and needs no gate.
pretrain() {  # folder, more options
  [ -f "$1/base.pt" ] || peft-dml-train pretrain --config "$CONFIG" --data "$SOURCE" --out "$1" --resume --set network.fusion=average \
    --set losses.consistency=0 --set losses.gate=0 --set dropout.degraded_portion=0 "${@:2}" "${OPTIONS[@]}" "${CHANGES[@]}"
}

simulate source "$SOURCE" "${SOURCE_SCENES:-100}" 11 0.96,0.02,0.02
# The target's scenes are made while the encoders train on the source's.
NICE="nice -n 10" simulate target "$TARGET" "${TARGET_SCENES:-360}" 12 0.9,0.03,0.07 & target=$!
trap '[ -z "$(jobs -pr)" ] || kill "$target"' EXIT
# Two rounds: the second begins with the averaged weights of the first.
[ "$ROUNDS" = 1 ] || pretrain "$RUN/first"
pretrain "$RUN" $([ "$ROUNDS" = 1 ] || echo --from "$RUN/first/base.pt")
wait "$target"
# The card of a run says that one command makes it again only where this script made its adapter.
[ -d "$RUN/adapter" ] || {
  peft-dml-train finetune --config "$CONFIG" --data "$TARGET" --out "$RUN" --resume "${OPTIONS[@]}" "${CHANGES[@]}"
  echo "${RECIPE:-train/recipes/demo.sh}" > "$RUN/finetune/recipe.txt"
}

if [ -z "$PREVIOUS" ] && [ -f "$BUNDLE/manifest.json" ] && [ ! -f "$RUN/previous/targets.json" ]; then
  peft-dml-train targets --config "$CONFIG" --data "$TARGET" --bundle "$BUNDLE" --out "$RUN/previous" \
    || echo "the bundle in $BUNDLE cannot be measured on these scenes: nothing to compare with" >&2
fi
[ -n "$PREVIOUS" ] || [ ! -f "$RUN/previous/targets.json" ] || PREVIOUS=$RUN/previous/targets.json
peft-dml-train export --config "$CONFIG" --data "$TARGET" --out "$RUN" --bundle "$BUNDLE" "${CHANGES[@]}"
peft-dml-train evaluate --config "$CONFIG" --data "$TARGET" --bundle "$BUNDLE" --out "$RUN/evaluation" "${EVALUATE[@]}" --record "${CHANGES[@]}"
[ -z "$TARGETS" ] || peft-dml-train targets --config "$CONFIG" --data "$TARGET" --bundle "$BUNDLE" --out "$RUN/targets" ${PREVIOUS:+--previous "$PREVIOUS"}
[ -z "$RAIN" ] || RUN=$RUN TARGET=$TARGET CONFIG=$RAIN BUNDLE=$BUNDLE SET=${SET:-} OPTIONS="${OPTIONS[*]}" train/recipes/rain.sh
