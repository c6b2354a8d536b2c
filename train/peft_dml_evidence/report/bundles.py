# SPDX-License-Identifier: Apache-2.0
"""The shipped bundles, compared with the experiments: the same recipe, longer trained; figures of their manifests."""

from pathlib import Path
from typing import Any

from peft_dml_evidence.report.markdown import number, percent, table
from peft_dml_evidence.report.results import Figure
from peft_dml_ros.core.bundle import MANIFEST, load_bundle


def bundles_of(folder: Path) -> dict[str, dict[str, Any]]:
    """Return metrics by name of the bundles in a folder that were evaluated with `--record`."""
    found = (load_bundle(path.parent).manifest for path in sorted(folder.glob(f"*/{MANIFEST}")))
    return {
        m.name: {**m.metrics, "share": m.trained_share, "stages": m.provenance["stages"]}
        for m in found
        if m.metrics.get("subsets")
    }


def bundles_table(bundles: dict[str, dict[str, Any]]) -> list[str]:
    """Return one row a bundle."""
    rows = []
    for name, metrics in bundles.items():
        whole, no_lidar, no_camera = (
            Figure.single(metrics["subsets"][s]["nds"]) for s in ("all", "no lidar", "no camera")
        )
        kept = (percent(no_lidar, whole), percent(no_camera, whole))
        steps = str(sum(stage["steps"] for stage in metrics["stages"].values()))
        rows.append([f"`{name}`", steps, number(metrics["map"]), number(whole), *kept, f"{metrics['share']:.1%}"])
    return table(("bundle", "steps", "mAP", "NDS", "kept without LiDAR", "kept without cameras", "trained"), rows)
