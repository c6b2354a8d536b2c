# SPDX-License-Identifier: Apache-2.0
"""Puts the figures of bench/*.json into docs/speed.md and the README, and draws the page's pictures.

make bench, or: peft-dml bench live && peft-dml bench summary && python docs/make_bench_plots.py
"""

import json
import textwrap
from pathlib import Path
from typing import Any

from peft_dml_tools.markdown_pages import fill_page, markdown_table
from peft_dml_train.evaluation.palette_png import save_palette_png

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
README_BEGIN, README_END = "<!-- live -->", "<!-- end of live -->"
FILES = ("summary", "verdicts", "live", "against", "engines")
WEAK = "recorder, one core taken"
MENTIONED = 0.05  #: Share of the frames from which on the README tells what the node gave up
NOTHING = "Nothing is measured yet: `make bench` fills this section."
BUDGET, GROWTH = "speed_budget.png", "speed_growth.png"
ENGINES = ("lidar", "camera", "radar", "imu", "gnss", "fusion")
PARTS = {
    "driver": "lateness of the vehicle's own message",
    "transport": "middleware, executor, unpacking",
    "wait": "wait for the worker",
    "inputs": "pillars and pictures",
    "decode": "decoding and suppression of boxes",
    "publish": "packing and publishing boxes",
    "rest": "all else",
}

Report = dict[str, Any]


def load(folder: Path) -> dict[str, Report]:
    """Return the benchmarks' files that are there, by name."""
    paths = {name: folder / f"{name}.json" for name in FILES}
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items() if path.is_file()}


def section(reports: dict[str, Report]) -> str:
    """Return Markdown of the page's figures; a note where nothing is measured."""
    parts: list[str] = []
    if {"summary", "verdicts"} <= reports.keys():
        parts += ["## Targets", *targets(reports["summary"], reports["verdicts"])]
    if "live" in reports:
        parts += live(reports["live"])
    if "against" in reports:
        parts += against(reports["against"])
    if "engines" in reports:
        parts += engines(reports["engines"])
    return "\n\n".join(parts) if parts else NOTHING


def targets(summary: Report, verdicts: Report) -> list[str]:
    """Return each figure with its target; what is missing with the reason, a miss with where it goes."""
    words = {True: "met", False: "**missed**"}
    rows = []
    for name, target in verdicts["targets"].items():
        value = "–" if summary[name] is None else f"{summary[name]:g}"
        verdict = words.get(verdicts["met"].get(name), verdicts["missing"].get(name, ""))
        rows.append((f"`{name}`", value, target, verdict))
    parts = [markdown_table(("figure", "measured", "target", ""), rows)]
    if verdicts["misses"]:
        parts.append(
            "Of each miss `bench/verdicts.json` holds a profile: what its figure is made of, stage by stage. The "
            "tables below show the same."
        )
    return parts


def live(report: Report) -> list[str]:
    """Return the node over DDS: conditions, subsets of the sensors, where time goes, every message."""
    rows = []
    for name, stretch in report["stretches"].items():
        latency, ratio = stretch["latency_ms"], stretch["overhead_ratio"]
        spread = " / ".join(_number(latency.get(p), 0) for p in ("p50", "p95", "p99"))
        engine, pair = _number(stretch["engines_ms"].get("p50"), 1), (_number(ratio.get(p), 2) for p in ("p50", "p99"))
        load = "–" if stretch["cpu_pct"] is None else f"{stretch['cpu_pct']:.0f} %"
        rows.append((name, f"{stretch['hz']:.2f}", spread, engine, *pair, load))
    head = ("sensors", "Hz", "stamp to publication, ms", "engines, ms", "ratio p50", "ratio p99", "CPU")
    return [
        "## The node over DDS",
        conditions(report),
        markdown_table(head, rows),
        "Stamp to publication is p50 / p95 / p99; CPU is that of the node, 100 % is one core.",
        *weak_cases(report.get("conditions", {})),
        "### Beyond the engines",
        *beyond(report["stretches"]["all"]),
        *slowest(report["profile"]),
        f"![Where the time of a frame goes, by sensors](images/{BUDGET})",
        "### Messages, frames and memory",
        accounts(report),
    ]


def conditions(report: Report) -> str:
    """Return on what was measured, and how busy it was."""
    machine, vehicle, node = report["machine"], report["vehicle"], report["node"]
    before, after = report["load_average"]["before"], report["load_average"]["after"][0]
    words = f"{report['bundle']}, {node['engine']}, {node['threads']} threads"
    return (
        f"Bundle {report.get('runs') or words}; {machine['cores']} cores of "
        f"{machine['processor']}; {vehicle['minutes']:g} minutes with all sensors, pictures "
        f"{vehicle['image_width_px']} pixels wide. Load average {before:g} before, {after:g} after; the benchmark's "
        "own load is about 1.5."
    )


def weak_cases(conditions: Report) -> list[str]:
    """Return the pace and latency with and without a recorder, alone and with one core taken."""
    if not conditions:
        return []
    rows = []
    for name, case in conditions.items():
        spread = " / ".join(_number(case["latency_ms"].get(p), 0) for p in ("p50", "p95", "p99"))
        load = " / ".join(_number(case["cpu_pct_by_process"].get(p), 0) for p in ("node", "recorder", "replay"))
        rows.append((name, f"{case['hz']:.2f}", spread, load, _given_up(case) or "nothing"))
    head = ("condition", "Hz", "stamp to publication, ms", "node / recorder / replay, % of a core", "given up")
    words = (
        "The recorder keeps every topic; one core taken: another process computes without end. Given up is what the "
        "node itself said, as LOADED in `/diagnostics`, with the share of the frames."
    )
    return ["### With a recorder, and with other work on the machine", markdown_table(head, rows), words]


def _given_up(case: Report) -> str:
    return "; ".join(f"{words} ({share:.0%})" for words, share in case.get("given_up", {}).items())


def against(report: Report) -> list[str]:
    """Return how the demo's drive went with another build or bundle and with this one, pair by pair."""
    names = {key: side["commit"] or "this checkout" for key, side in report["sides"].items()}
    if names["other"] == names["this"]:
        names = {key: f"bundle {Path(side['bundle']).name}" for key, side in report["sides"].items()}
    machine = report["machine"]
    words = (
        f"{report['pairs']} pairs of `peft-dml demo` for each load on one drive of {report['seconds']:g} s with its "
        f"faults, {machine['cores']} cores of {machine['processor']}, the sides in turn; medians, and the change "
        "within pairs with Student's interval."
    )
    rows = []
    for load, both in report["loads"].items():
        for key, found in both["figures"].items():
            sign, value = ("× ", found["ratio"]) if "ratio" in found else ("", found["difference"])
            change = "–" if value is None else f"{sign}{value:.2f}" if sign else f"{value:+.3f}"
            ends = "" if found["low"] is None else f" ({found['low']:.2f} to {found['high']:.2f})"
            digits = 3 if "map" in key or "cpu" in key else 1
            pair = (_number(found[side], digits) for side in ("other", "this"))
            rows.append((load, f"`{key}`", *pair, f"{change}{ends}"))
    head = ("load", "figure", names["other"], names["this"], "change, 95 % interval")
    return ["## The demo, against the build before", words, markdown_table(head, rows)]


def readme_words(report: Report) -> str:
    """Return what the README says of the live node; the weak case where it was measured."""
    machine, vehicle, whole = report["machine"], report["vehicle"], report["stretches"]["all"]
    messages, latency = report["messages"], whole["latency_ms"]
    every = report.get("conditions", {})
    text = (
        f"Live on {machine['cores']} cores of {machine['processor']} at nuScenes' full rates (25 MB/s, pictures of "
        f"{vehicle['image_width_px']} pixels){', a recorder of every topic next to it' if every else ''}, "
        f"{vehicle['minutes']:g} minutes: {whole['hz']:.2f} Hz of boxes, {latency['p50']:.0f} ms from stamp to "
        f"publication in the median and {latency['p99']:.0f} ms in 99 of 100, "
        f"{100 - 100 / whole['overhead_ratio']['p50']:.0f} % of it not the network, "
        f"{messages['lost_in_transport'] + messages['unaccounted']} of {messages['sent']} messages lost."
    )
    if weak := every.get(WEAK):
        shares = {words: share for words, share in weak.get("given_up", {}).items() if share >= MENTIONED}
        gave = _given_up({"given_up": shares})
        text += (
            f" With one core taken by another program: {weak['hz']:.1f} Hz, 95 % within "
            f"{weak['latency_ms'].get('p95', 0):.0f} ms; the node "
            + (f"says what it gave up: {gave}." if gave else "gave nothing up.")
        )
    return "\n".join(textwrap.wrap(f"{text} [More](docs/speed.md).", 124))


def beyond(stretch: Report) -> list[str]:
    """Return the mean time of a frame that no engine spends."""
    parts = stretch["beyond_engines_ms"]
    if not parts:
        return ["No frame was measured."]
    rows = ((words, f"{parts[name]:.2f}") for name, words in {**PARTS, "sum": "sum"}.items())
    return [markdown_table(("where", "mean, ms"), rows)]


def slowest(profile: Report) -> list[str]:
    """Return the slowest hundredth of the frames, and which threads took the processor."""
    parts, frames = [], profile["slowest_percent"]
    if frames and frames["beyond_engines_ms"]:
        largest = sorted(((v, n) for n, v in frames["beyond_engines_ms"].items() if n != "sum"), reverse=True)[:3]
        largest_parts = ", ".join(f"{PARTS[name]} {value:.1f} ms" for value, name in largest)
        parts.append(
            f"In the slowest hundredth of the frames (ratio from {frames['ratio_from']:.2f} on) "
            f"{frames['beyond_engines_ms']['sum']:.1f} ms go beyond the engines, most of it: {largest_parts}."
        )
    if profile["cpu_pct"]:
        shares = ", ".join(f"{name} {value:.0f} %" for name, value in profile["cpu_pct"].items())
        parts.append(f"Processor time of the node by kind of thread, 100 % is one core: {shares}.")
    return parts


def accounts(report: Report) -> str:
    """Return where every message and frame went, and what memory did."""
    messages, frames, memory = report["messages"], report["frames"], report["memory"]
    dropped = sum(sum(s["dropped"].values()) for s in messages["by_sensor"].values())
    reasons = ", ".join(f"{n} {r.partition(': ')[2]}" for r, n in frames["drops"].items()) or "none dropped"
    resident = (
        f"Resident memory is {memory['max_mb']:.0f} MB at most, and changes by "
        f"{memory['growth_pct']:+.2f} % after the warm-up."
        if memory
        else "Memory was not followed."
    )
    return (
        f"Of {messages['sent']} messages, {messages['lost_in_transport']} were lost in transport, {dropped} dropped "
        f"for a reason, {messages['unaccounted']} are unaccounted for. Of {frames['triggered']} frames due, "
        f"{frames['published']} were published ({reasons}), {frames['unaccounted']} are unaccounted for. {resident}"
    )


def engines(report: Report) -> list[str]:
    """Return engines alone, and how the time of a frame grows."""
    percentiles = ("p50", "p95", "p99")
    rows = ((name, *(f"{times[p]:.2f}" for p in percentiles)) for name, times in report["engines"].items())
    return [
        "## Engines alone",
        f"Bundle {report['bundle']}, one thread, processor time.",
        markdown_table(("engine", *(f"{p}, ms" for p in percentiles)), rows),
        f"![Growth with points, sweeps, cameras and boxes](images/{GROWTH})",
    ]


def draw(reports: dict[str, Report], folder: Path) -> None:
    """Draw the pictures that the section shows."""
    folder.mkdir(parents=True, exist_ok=True)
    if "live" in reports:
        budget(reports["live"], folder / BUDGET)
    if "engines" in reports:
        growth(reports["engines"], folder / GROWTH)


def budget(report: Report, path: Path) -> None:
    """Draw a bar for each subset of the sensors: engines, then all else."""
    import matplotlib as mpl  # noqa: PLC0415  not needed for the text

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    bars = {n: _bar(s) for n, s in report["stretches"].items() if s["beyond_engines_ms"]}
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.6 * len(bars)), layout="constrained")
    names, colours = [*ENGINES, *PARTS], [*plt.cm.Blues_r([0.1 * i for i in range(6)]), *plt.cm.Oranges_r(_SHADES)]
    left = [0.0] * len(bars)
    for name, colour in zip(names, colours, strict=True):
        widths = [max(bar.get(name, 0.0), 0.0) for bar in bars.values()]
        if max(widths, default=0.0) > 0:
            axis.barh(list(bars), widths, left=left, color=colour, label=name, edgecolor="white", linewidth=0.5)
        left = [at + width for at, width in zip(left, widths, strict=True)]
    axis.axvline(100, color="0.4", linestyle=":", linewidth=1)
    axis.invert_yaxis()
    axis.set_xlabel("ms since the stamp; engines: median, blue; all else: mean, orange; dotted: the period")
    axis.legend(ncols=7, fontsize="x-small", loc="upper center", bbox_to_anchor=(0.5, -0.25), frameon=False)
    save_palette_png(figure, path, 110)
    plt.close(figure)


_SHADES = [0.1 * i for i in range(len(PARTS))]


def _bar(stretch: Report) -> dict[str, float]:
    medians = {name: stretch["stages_ms"].get(name, {}).get("p50", 0.0) for name in ENGINES}
    return medians | {name: stretch["beyond_engines_ms"][name] for name in PARTS}


def growth(report: Report, path: Path) -> None:
    """Time over points, sweeps, cameras and boxes."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    grown = report["growth"]
    curves = {
        "LiDAR points": grown["points"]["pillars_ms"],
        "LiDAR sweeps": grown["lidar_sweeps"]["inputs_ms"],
        "cameras": grown["cameras"]["frame_ms"],
        "boxes": grown["boxes"]["decode_and_nms_ms"],
    }
    figure, axes = plt.subplots(1, 4, figsize=(11, 2.6), layout="constrained")
    for axis, (name, curve) in zip(axes, curves.items(), strict=True):
        axis.plot([float(x) for x in curve], list(curve.values()), marker="o", color="C0")
        axis.set_xlabel(name)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ms")
    save_palette_png(figure, path, 110)
    plt.close(figure)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def main() -> None:
    """Update docs/speed.md with its pictures, and the README."""
    reports = load(ROOT / "bench")
    fill_page(ROOT / "docs" / "speed.md", BEGIN, section(reports), END)
    if "live" in reports and reports["live"]["stretches"]["all"]["latency_ms"]:  # a run without frames says nothing
        fill_page(ROOT / "README.md", README_BEGIN, readme_words(reports["live"]), README_END)
    draw(reports, ROOT / "docs" / "images")


if __name__ == "__main__":
    main()
