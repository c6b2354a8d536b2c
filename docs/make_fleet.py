# SPDX-License-Identifier: Apache-2.0
"""Puts the figures of fleets, mining and domain gaps into docs/fleet.md and docs/cookbook.md.

peft-dml bench fleet && train/recipes/mining.sh && train/recipes/gaps.sh && python docs/make_fleet.py
"""

import json
from pathlib import Path
from typing import Any

from peft_dml_tools.markdown_pages import fill_section, markdown_table

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "fleet": ROOT / "bench" / "fleet.json",
    "mining": ROOT / "train" / "results" / "mining.json",
    "gaps": ROOT / "train" / "results" / "gaps.json",
}
PAGES = ("fleet", "cookbook")
MARKS = {name: (f"<!-- {name} -->", f"<!-- end of {name} -->") for name in FILES}
#: A fleet, what each of its vehicles records, and how long the machines have until the morning
VEHICLES, HOURS, WINDOW_H = 1000, 2.0, 8.0
LEAST_SPEEDUP, MOST_OVERHEAD_PCT = 1.8, 5
PRICE = 0.04  #: Of a core hour, in any currency: an example, about what clouds ask for
GAPS = {
    "fog": "40 m of sight",
    "rain": "60 mm/h",
    "beams": "16 beams, LiDAR at 2.4 m",
    "city": "another city and vehicle, right-hand traffic",
}
LABELS = {"labelled": "the data's", "unlabelled": "none, its own boxes"}
NOTHING = {
    "fleet": "Nothing is measured yet: `peft-dml bench fleet` fills this section, in eight minutes.",
    "mining": "Nothing is measured yet: `train/recipes/mining.sh` fills this section, in 40 minutes.",
    "gaps": "Nothing is measured yet: `train/recipes/gaps.sh` fills this section, in an hour.",
}

Report = dict[str, Any]


def _wanted(target: str, *, met: bool) -> str:
    return f"wanted {target}: {'met' if met else '**missed**'}"


def fleet(report: Report) -> str:
    """Return throughput, the run with a lost node, and what a night of a fleet needs."""
    machine, driven_h, core_s = report["machine"], VEHICLES * HOURS, report["core_s_per_driven_s"]
    recorded_gb, result_mb = report["recorded_mb_per_driven_s"] * 3.6, report["result_mb_per_driven_s"] * 3600
    core_h, raw_tb = driven_h * core_s, driven_h * recorded_gb / 1e3
    kept = (
        f"{report['lost']} lost, {report['counted_twice']} counted twice, {report['drives_per_s']:.1f} drives a second"
    )
    killed = f"{report['nodes']} nodes, {report['nodes_killed']} of them killed in the middle"
    speedup, overhead = report["speedup_2_cores"], report["overhead_pct"]
    faster = _wanted(f"≥ {LEAST_SPEEDUP}", met=speedup >= LEAST_SPEEDUP)
    cheap = _wanted(f"≤ {MOST_OVERHEAD_PCT} %", met=overhead <= MOST_OVERHEAD_PCT)
    measured = {
        "two workers against one": f"{speedup:.2f} × the throughput; {faster}",
        "cost of the engine": f"{overhead:.1f} % of the work; {cheap}",
        "a core": f"{report['frames_per_s_and_core']:.1f} frames a second; {core_s:.2f} core s a driven s (10 frames)",
        "a GPU": "not measured: no GPU was at hand",
        "recorded": f"{recorded_gb:.0f} GB a driven hour",
        "results": f"{result_mb:.0f} MB a driven hour: boxes as JSON Lines and Parquet, thumbnails",
        f"{report['drives']} short drives on {killed}": kept,
    }
    night = {
        f"{driven_h:,.0f} h driven × {core_s:.2f} core s a driven s": f"{core_h:,.0f} core hours",
        f"core hours ÷ {WINDOW_H:g} h until the morning": f"{core_h / WINDOW_H:,.0f} cores",
        f"core hours × a price, e.g. {PRICE} a core hour": f"{core_h * PRICE:,.0f} a night",
        f"{driven_h:,.0f} h driven × {recorded_gb:.0f} GB": f"{raw_tb:,.0f} TB to store and to read",
        f"TB ÷ {WINDOW_H:g} h": f"{raw_tb * 8e3 / (WINDOW_H * 3600):,.0f} Gbit/s: run where the drives are",
        f"{driven_h:,.0f} h driven × {result_mb:.0f} MB": f"{driven_h * result_mb / 1e3:,.0f} GB of results",
    }
    where = (
        f"Measured on {machine['cores']} cores of {machine['processor']}, drives of {report['drive_s']:g} s at "
        "nuScenes' rates with pictures of 1600 pixels, medians; the start of the cluster is left out. The load average "
        f"when it began was {machine['load_at_start']:.1f}."
    )
    needs = f"What {VEHICLES:,} vehicles × {HOURS:g} h a night need by these figures, each line with its formula:"
    return "\n\n".join(
        (
            where,
            markdown_table(("what", "measured"), measured.items()),
            needs,
            markdown_table(("formula", "gives"), night.items()),
        )
    )


def mining(report: Report) -> str:
    """Return mined against random frames."""
    rows = []
    for row in report["by_seed"]:
        low, high = row["frames_95_percent"]
        kept = "".join(f"; {n}: no gain, the adapter before stays" for n, made in row["adapted"].items() if not made)
        change = f"{row['mined'] - row['random']:+.3f} ({low:+.3f} to {high:+.3f}){kept}"
        rows.append((row["seed"], f"{row['random']:.3f}", f"{row['mined']:.3f}", change))
    low, high = report["seeds_95_percent"]
    what = (
        f"Mined against random, {report['frames']} of {report['candidates']} keyframes each, {report['steps']} steps "
        f"at most from the default adapter; NDS on {report['test_frames']} other frames of the gap (fog in "
        f"which one sees 40 m, in a fifth of the drives), {report['base']:.3f} before:"
    )
    verdict = f"Over the seeds {report['difference']:+.3f} (95 %: {low:+.3f} to {high:+.3f}): **{report['verdict']}**."
    table = markdown_table(("seed", "random", "mined", "mined − random, 95 % over frames"), rows)
    return f"{what}\n\n{table}\n\n{verdict}"


def gaps(report: Report) -> str:
    """Return what a few frames gain on each domain."""
    rows = []
    for row in report["rows"]:
        sensors = "all sensors" if "lidar" in row["sensors"] else "no LiDAR"
        if row["adapted"]:
            low, high = row["gain_95_percent"]
            nds, mean_ap = (f"{row[f'{key}_before']:.3f} → {row[key]:.3f}" for key in ("nds", "map"))
            gain = f"{row['nds'] - row['nds_before']:+.3f} ({low:+.3f} to {high:+.3f}), {row['verdict']}"
            gain += f"; `adapt` had said {row['adapt_said']}" if "adapt_said" in row else ""
        else:
            nds, mean_ap = (f"{row[f'{key}_before']:.3f}" for key in ("nds", "map"))
            gain = f"{row.get('adapt_said', 'no step was better')}, not written"
        name = f"{row['domain']}, {GAPS[row['domain']]}"
        rows.append((name, LABELS[row["labels"]], sensors, nds, mean_ap, gain))
    what = (
        f"Measured: {report['scenes']} scenes of six keyframes each, some of them held out, {report['steps']} steps "
        f"at most from `{report['base']}`'s default adapter, one run each, written even where the gain on the frames "
        "held out may be chance (`--undecided`); NDS and mAP over the classes "
        f"{report.get('classes', 'that occur')}, on "
        f"{max(row['test_frames'] for row in report['rows'])} keyframes of other scenes of the domain:"
    )
    over = report.get("over", "frames")
    head = ("domain", "labels", "measured with", "NDS", "mAP", f"gain in NDS, 95 % over {over}")
    absent = [name for name in GAPS if name not in {row["domain"] for row in report["rows"]}]
    rest = f"\n\nNot measured yet: {', '.join(absent)}." if absent else ""
    return f"{what}\n\n{markdown_table(head, rows)}{rest}"


def fill(page: str, reports: dict[str, Report | None]) -> str:
    """Return the page with its figures replaced; a note where nothing is measured."""
    for name, write in (("fleet", fleet), ("mining", mining), ("gaps", gaps)):
        begin, end = MARKS[name]
        report = reports.get(name)
        page = fill_section(page, begin, write(report) if report else NOTHING[name], end)
    return page


def load() -> dict[str, Report | None]:
    """Return the files that are there."""
    return {n: json.loads(p.read_text(encoding="utf-8")) if p.is_file() else None for n, p in FILES.items()}


def main() -> None:
    """Update the pages."""
    for name in PAGES:
        page = ROOT / "docs" / f"{name}.md"
        page.write_text(fill(page.read_text(encoding="utf-8"), load()), encoding="utf-8")


if __name__ == "__main__":
    main()
