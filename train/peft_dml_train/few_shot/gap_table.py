# SPDX-License-Identifier: Apache-2.0
"""Table of what train/recipes/gaps.sh measured: `python -m peft_dml_train.few_shot.gap_table runs/gaps`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

SENSORS: Final = {"labelled": "all sensors", "unlabelled": "no LiDAR"}


def metrics_of(folder: Path) -> dict[str, Any] | None:
    """Return the metrics of an evaluation of one condition and subset; None where there is none."""
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    (by_subset,) = json.loads(path.read_text()).values()
    (found,) = by_subset.values()
    return dict(found)


def gap_rows(out: Path) -> Iterator[str]:
    """Yield the table's lines: a row for each domain and kind of labels."""
    yield from ("| domain | labels | scored with | mAP | NDS |", "|---|---|---|---|---|")
    for gap in sorted(path for path in out.iterdir() if path.is_dir()):
        for kind, sensors in SENSORS.items():
            before, after = (metrics_of(gap / "scores" / f"{kind}-{name}") for name in ("default", kind))
            if before is not None:
                cells = [
                    f"{before[key]:.3f} to {after[key]:.3f}" if after else f"{before[key]:.3f}; no gain, not written"
                    for key in ("mean_ap", "nd_score")
                ]
                yield f"| {gap.name} | {kind} | {sensors} | {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in gap_rows(Path(sys.argv[1])))
