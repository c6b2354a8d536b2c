# SPDX-License-Identifier: Apache-2.0
"""Puts the figures of bench/data.json into docs/realism.md.

peft-dml bench data && python docs/make_realism.py
"""

import json
from pathlib import Path
from typing import Any

from peft_dml_tools.markdown_pages import fill_page, markdown_table

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
FEW = 10
SWEEPS = ("scene", "LiDAR sweep", "front radar")


def section(figures: dict[str, Any]) -> str:
    """Return Markdown of the page's figures."""
    realism = figures["realism"]
    rows, outside = realism["rows"], realism["outside"]
    near = f"{realism['rows_within']} of {len(rows)} figures lie within a factor of {realism['factor']}"
    many = f"{realism['scenes']} scenes of {realism['seconds_a_scene']:g} s, {realism['frames']} keyframes"
    parts = (
        f"{near}; the others are bold. Simulated: {many}.",
        "### Objects",
        "Each cell is real / simulated; † marks real figures of fewer than ten objects.",
        objects(rows),
        "### Scenes and sweeps",
        sweeps(rows),
        "### Outside",
        f"{'; '.join(outside)}." if outside else "None.",
        "### Seconds and memory",
        conditions(figures),
        speed(figures),
    )
    return "\n\n".join(parts)


def objects(rows: list[dict[str, Any]]) -> str:
    """Return a line a class, `real / simulated` in each cell."""
    mine = [row for row in rows if row["group"] not in SWEEPS]
    names = list(dict.fromkeys(row["name"] for row in mine))
    cells = {(row["group"], row["name"]): cell(row) for row in mine}
    heads = [name + (f", {row['unit']}" if row["unit"] else "") for name, row in zip(names, mine, strict=False)]
    groups = dict.fromkeys(row["group"] for row in mine)
    return markdown_table(("", *heads), ((g, *(cells.get((g, name), "–") for name in names)) for g in groups))


def cell(row: dict[str, Any]) -> str:
    """Return `real / simulated`, bold where they lie apart."""
    few = "†" if row["real_count"] < FEW else ""
    text = f"{number(row['real'])}{few} / {number(row['simulated'])}"
    return text if row["within_1_5"] else f"**{text}**"


def sweeps(rows: list[dict[str, Any]]) -> str:
    """Return a line a figure, with how far the real ones lie apart among themselves."""
    lines = []
    for row in (row for row in rows if row["group"] in SWEEPS):
        spread = "–" if row["real_least"] is None else f"{number(row['real_least'])} to {number(row['real_most'])}"
        simulated, ratio = number(row["simulated"]), number(row["ratio"])
        if not row["within_1_5"]:
            simulated, ratio = f"**{simulated}**", f"**{ratio}**"
        unit = f", {row['unit']}" if row["unit"] else ""
        real = (number(row["real"]), spread, number(row["keyframe"]))
        lines.append((f"{row['group']}: {row['name']}{unit}", *real, simulated, ratio))
    return markdown_table(("", "real", "least to most", "real keyframe", "simulated", "ratio"), lines)


def conditions(figures: dict[str, Any]) -> str:
    """Return on what, and what was measured."""
    scene, machine, software = figures["scene"], figures["machine"], figures["software"]
    height_px = scene["image_width_px"] * 9 // 16
    return (
        f"Processor seconds on one core of {machine['processor']} ({machine['cores']} cores), commit "
        f"{software['commit']}. Pictures {scene['image_width_px']} × {height_px} at {scene['camera_hz']:g} Hz, "
        f"LiDAR {scene['lidar_hz']:g} Hz. A keyframe is read with ten LiDAR sweeps, six cycles of each radar and six "
        "pictures; corrupting is the mean over all weathers and corruptions."
    )


def speed(figures: dict[str, Any]) -> str:
    """Return what the tools use, by length and by number of scenes."""
    rows = [_speed_row(f"1 scene of {row['seconds']:g} s", row) for row in figures["by_length"]]
    rows += [
        _speed_row(f"{row['scenes']} scene{'s'[: row['scenes'] - 1]} of {row['seconds_a_scene']:g} s", row)
        for row in figures["by_scenes"]
    ]
    return markdown_table(("", "simulate", "peak", "read a keyframe", "corrupt a frame", "export", "peak"), rows)


def _speed_row(title: str, row: dict[str, Any]) -> tuple[str, ...]:
    simulate, export = row["simulate"], row["export"]
    return (
        title,
        f"{simulate['cpu_s']:.1f} s",
        f"{simulate['peak_mb']:.0f} MB",
        f"{row['read']['cpu_ms_per_sample']:.1f} ms",
        f"{row['corrupt']['cpu_ms_per_sample']:.0f} ms" if "corrupt" in row else "–",
        f"{export['cpu_s']:.1f} s",
        f"{export['peak_mb']:.0f} MB",
    )


def number(value: float | None) -> str:
    """Return three significant digits without an exponent."""
    if value is None:
        return "–"
    return f"{value:.0f}" if abs(value) >= 100 else f"{float(f'{value:.3g}'):g}"


def main() -> None:
    """Update docs/realism.md."""
    figures = json.loads((ROOT / "bench" / "data.json").read_text(encoding="utf-8"))
    fill_page(ROOT / "docs" / "realism.md", BEGIN, section(figures), END)


if __name__ == "__main__":
    main()
