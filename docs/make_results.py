# SPDX-License-Identifier: Apache-2.0
"""Puts a run of the demo into the README: its figures and its picture.

peft-dml demo && python docs/make_results.py demo_out
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft_dml_tools.bench.machine import machine
from peft_dml_tools.markdown_pages import fill_page, markdown_table
from peft_dml_tools.sim.faults import DEMO_FAULTS

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->", "<!-- end of results -->"


def section(metrics: dict[str, Any], scores: dict[str, Any], computer: Mapping[str, Any]) -> str:
    """Return Markdown of the README's results."""
    latency, full, out = metrics["latency_ms"], scores["full"], scores["lidar_out"]
    words = {"silence": "silent", "freeze": "frozen", "delay": "late"}
    faults = ", ".join(f"{f.sensor} {words[f.fault]} for {f.to_s - f.from_s:g} s" for f in DEMO_FAULTS)
    published, due = metrics["frames_published"], metrics["frames_expected"]
    out_n = metrics["frames_published_lidar_out"]
    rows = {
        "frames published": f"{published} ({due} due), {out_n} of them without LiDAR",
        "stamp to publication": f"median {latency['p50']:.0f} ms, 95 % within {latency['p95']:.0f} ms",
        "mAP (nuscenes-devkit), all sensors": _number(full["map"]),
        "mAP (nuscenes-devkit), LiDAR silent": _number(out["map"]),
    }
    for name in ("car", "pedestrian"):
        pair = (_number(score["ap"].get(name, {}).get("2 m")) for score in (full, out))
        rows[f"AP at 2 m, {name}: all sensors / LiDAR silent"] = " / ".join(pair)
    table = markdown_table(("", ""), rows.items())
    where = f"{computer['cores']} cores of {computer['processor']}, all topics recorded"
    return f"12 s of simulated driving on {where}; {faults}:\n\n{table}"


def _number(value: float | None) -> str:
    return "none there" if value is None else f"{value:.2f}"


def main(folder: Path) -> None:
    """Update README.md and docs/images/demo.webp from a folder that the demo wrote."""
    metrics, scores = (json.loads((folder / name).read_text()) for name in ("metrics.json", "scores.json"))
    fill_page(ROOT / "README.md", BEGIN, section(metrics, scores, machine()), END)
    from PIL import Image  # noqa: PLC0415  comes with matplotlib

    picture = Image.open(folder / "picture.png").convert("RGB")
    picture.save(ROOT / "docs" / "images" / "demo.webp", quality=85, method=6)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo_out"))
