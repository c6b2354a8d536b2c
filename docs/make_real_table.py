# SPDX-License-Identifier: Apache-2.0
"""Measures bundles on a real keyframe and puts their table into docs/realism.md.

python docs/make_real_table.py KEYFRAME_FOLDER [BUNDLE ...]
"""

import sys
from pathlib import Path
from typing import Any

from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_tools.atomic_files import write_json
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.markdown_pages import fill_page, markdown_table
from peft_dml_tools.run.keyframe_study import study
from peft_dml_tools.run.offline import OfflineDetector

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- real keyframe: made by docs/make_real_table.py -->", "<!-- end of real keyframe -->"


def measured(folder: Path, bundle: str) -> dict[str, Any]:
    """Return all rows for the first keyframe of a folder."""
    reader = NuScenesReader(folder, allow_missing=True)
    token = reader.samples()[0]
    rig = reader.rig(token)
    offline = OfflineDetector(NodeParams(bundle=bundle), rig, tuple(rig.sensors))
    manifest = offline.bundle.manifest
    return {"bundle": f"{manifest.name} {manifest.version}", "rows": list(study(offline, reader, token))}


def section(figures: list[dict[str, Any]]) -> str:
    """Return Markdown: a table of all variants, and one of the classes as recorded, bundle next to bundle."""
    names = [bundle["bundle"] for bundle in figures]
    cars = figures[0]["rows"][0]["cars"]
    head = (
        f"Bundles {', '.join(names)}. Found: cars of the {cars} on the grid with a box within 2 m at score .2; "
        "false: car boxes without a car. Axis: median error of found cars in rad, modulo half a turn. AP at 2 m "
        "of cars, and the mean over the classes that occur and four distances. False boxes: any class, over .3."
    )
    shown = ("found", "false", "axis", "car AP", "mean AP", "false boxes")
    columns = ("", "sensors", *(f"{name.split()[0]}: {column}" for name in names for column in shown))
    rows = [(*key, *(text for row in found for text in _texts(row))) for key, found in _together(figures)]
    sides = [(name.split()[0], sensors) for name in names for sensors in ("LiDAR", "all")]
    recorded = {sensors: found for (variant, sensors), found in _together(figures) if variant == "as recorded"}
    classes = [
        (label, *(f"{recorded[sensors][i]['ap_2m'][label]:.3f}" for i in range(len(figures)) for sensors in recorded))
        for label in recorded["all"][0]["ap_2m"]
    ]
    by_class = markdown_table(("AP at 2 m, as recorded", *(f"{name}: {sensors}" for name, sensors in sides)), classes)
    return f"{head}\n\n{markdown_table(columns, rows)}\n\n{by_class}\n\n{_by_intensity(figures)}"


def _by_intensity(figures: list[dict[str, Any]]) -> str:
    """Return boxes of each class over score .2 by gain of the intensity, by LiDAR alone."""
    by_lidar = {variant: found for (variant, sensors), found in _together(figures) if sensors == "LiDAR"}
    shown = {name: found for name, found in by_lidar.items() if name == "as recorded" or "intensity" in name}
    classes = dict.fromkeys(label for bundle in shown["as recorded"] for label in bundle["boxes"])
    places = range(len(figures))
    lines = [
        (label, *(str(found[i]["boxes"].get(label, 0)) for i in places for found in shown.values()))
        for label in classes
    ]
    columns = [f"{bundle['bundle'].split()[0]}: {name}" for bundle in figures for name in shown]
    return markdown_table(("boxes over .2, LiDAR alone", *columns), lines)


def _together(figures: list[dict[str, Any]]) -> list[tuple[tuple[str, str], list[dict[str, Any]]]]:
    """Return the rows of all bundles by variant and sensors."""
    tables = [{(row["variant"], row["sensors"]): row for row in bundle["rows"]} for bundle in figures]
    return [(key, [table[key] for table in tables]) for key in tables[0]]


def _texts(row: dict[str, Any]) -> tuple[str, ...]:
    numbers = (row["axis_error_rad"], row["car_ap_2m"], row["map"])
    texts = ("–" if value is None else f"{value:.3f}" for value in numbers)
    return str(row["cars_found"]), str(row["cars_false"]), *texts, str(row["false_boxes"])


def main() -> None:
    """Measure, keep the figures in bench/real_keyframe.json, update the page."""
    figures = [measured(Path(sys.argv[1]), bundle) for bundle in sys.argv[2:] or ["demo", "base"]]
    write_json(ROOT / "bench" / "real_keyframe.json", figures)
    fill_page(ROOT / "docs" / "realism.md", BEGIN, section(figures), END)


if __name__ == "__main__":
    main()
