#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The second adapter of models/base, for heavy rain: after train/recipes/demo.sh, with its RUN, TARGET, BUNDLE, OPTIONS and SET.
# CONDITIONS: what both adapters are evaluated in; WEATHER: what they are compared in, with an interval.
set -euo pipefail
cd "$(dirname "$0")/../.."
PATH="$PWD/.venv/bin:$PATH"
RUN=${RUN:-runs/demo}
TARGET=${TARGET:-$RUN/target}
CONFIG=${CONFIG:-train/configs/rain.yaml}
BUNDLE=${BUNDLE:-models/base}
read -r -a CONDITIONS <<< "${CONDITIONS:---weather clear --weather rain=40 --weather rain=80}"
read -r -a WEATHER <<< "${WEATHER:---weather rain=40 --weather rain=80}"
CHANGES=()
read -r -a OPTIONS <<< "${OPTIONS:-}"
for one in ${SET:-}; do CHANGES+=(--set "$one"); done
export OMP_WAIT_POLICY=PASSIVE OMP_NUM_THREADS=1

[ -d "$RUN/adapters/rain" ] || {
  peft-dml-train finetune --config "$CONFIG" --data "$TARGET" --out "$RUN" --adapter rain --from default --resume "${OPTIONS[@]}" "${CHANGES[@]}"
  echo train/recipes/rain.sh > "$RUN/finetune-rain/recipe.txt"
}
peft-dml-train export --config "$CONFIG" --data "$TARGET" --out "$RUN" --adapter rain --bundle "$BUNDLE" "${CHANGES[@]}"
# The same test scenes for both adapters: in clear air and in rain.
for adapter in rain default; do
  peft-dml-train evaluate --config "$CONFIG" --data "$TARGET" --bundle "$BUNDLE" --adapter $adapter --out "$RUN/evaluation_$adapter" \
    "${CONDITIONS[@]}" --record "${CHANGES[@]}"
done
# Is it better in rain beyond chance? The answer goes into its card.
python -m peft_dml_evidence.adapter_gain --bundle "$BUNDLE" --adapter rain --data "$TARGET" "${WEATHER[@]}" --record
