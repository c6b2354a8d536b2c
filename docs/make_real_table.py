# SPDX-License-Identifier: Apache-2.0
"""Measures a bundle on a real keyframe and puts the table into docs/realism.md.

python docs/make_real_table.py KEYFRAME_FOLDER [BUNDLE]
"""

import sys
from pathlib import Path
from typing import Any

from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.markdown_pages import fill_page, markdown_table
from peft_dml_tools.run.keyframe_study import study
from peft_dml_tools.run.offline import Offline
from peft_dml_tools.whole_files import write_json

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- real keyframe: made by docs/make_real_table.py -->", "<!-- end of real keyframe -->"


def measured(folder: Path, bundle: str) -> dict[str, Any]:
    """Return all rows for the first keyframe of a folder."""
    reader = NuScenesReader(folder, allow_missing=True)
    token = reader.samples()[0]
    rig = reader.rig(token)
    offline = Offline(NodeParams(bundle=bundle), rig, tuple(rig.sensors))
    manifest = offline.bundle.manifest
    return {"bundle": f"{manifest.name} {manifest.version}", "rows": list(study(offline, reader, token))}


def section(figures: dict[str, Any]) -> str:
    """Return Markdown of the table."""
    head = (
        f"Bundle {figures['bundle']}. Found: cars with a car within 2 m at score .2; false: car boxes without such. "
        "The axis error is the median of found cars, modulo half a turn; false boxes are those of all classes over .3."
    )
    names = ("", "sensors", "cars found", "false cars", "axis error, rad", "car AP 2 m", "mean AP", "false boxes")
    rows = []
    for row in figures["rows"]:
        found = f"{row['cars_found']} of {row['cars']}"
        numbers = (row["axis_error_rad"], row["car_ap_2m"], row["map"])
        texts = ["–" if value is None else f"{value:.3f}" for value in numbers]
        rows.append((row["variant"], row["sensors"], found, row["cars_false"], *texts, row["false_boxes"]))
    return f"{head}\n\n{markdown_table(names, rows)}"


def main() -> None:
    """Measure, keep the figures in bench/real_keyframe.json, update the page."""
    figures = measured(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "demo")
    write_json(ROOT / "bench" / "real_keyframe.json", figures)
    fill_page(ROOT / "docs" / "realism.md", BEGIN, section(figures), END)


if __name__ == "__main__":
    main()
