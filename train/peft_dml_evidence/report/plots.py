# SPDX-License-Identifier: Apache-2.0
"""One plot a claim, drawn only where its cells were run."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from peft_dml_evidence import catalog
from peft_dml_evidence.baseline_cells import WEATHER
from peft_dml_evidence.cells import EVERY_SUBSET, MAIN_SUBSETS, STANDARD
from peft_dml_evidence.component_cells import ablate
from peft_dml_evidence.gap_cells import GAPS
from peft_dml_evidence.report import gaps
from peft_dml_evidence.report.results import Figure, Results
from peft_dml_evidence.zero_shot import ZERO_SHOT_CLASSES
from peft_dml_ros.core.classes import CLASSES, DETECTING, MODALITIES
from peft_dml_tools.sim.corruptions import MULTICORRUPT
from peft_dml_train.evaluation.palette_png import save_palette_png

MARKERS = {"lidar": "o", "camera": "s", "radar": "^"}
MOST_LABELLED = 30  #: Bars of a plot that bear their figures


def bars(axes: Axes, labels: list[str], series: dict[str, list[Figure | None]]) -> None:
    """Draw groups of bars with their spread; what was not run has none."""
    width, place = 0.8 / len(series), np.arange(len(labels))
    for i, (name, figures) in enumerate(series.items()):
        values = [np.nan if f is None else f.value for f in figures]
        spread = [np.nan if f is None or f.seeds < 2 else f.spread for f in figures]
        drawn = axes.bar(place + (i - (len(series) - 1) / 2) * width, values, width, yerr=spread, capsize=2, label=name)
        if len(series) * len(labels) <= MOST_LABELLED:
            axes.bar_label(drawn, fmt=_short, fontsize="xx-small", padding=2)
    axes.set_xticks(place, [label.replace("_", " ") for label in labels], rotation=35, ha="right", fontsize="small")
    axes.set_axisbelow(True)
    axes.grid(axis="y", alpha=0.3)
    axes.set_ylabel("NDS")
    axes.margins(x=0.01, y=0.08)
    if len(series) > 1:
        above(axes, len(series))


def _short(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.2f}".replace("0.", ".", 1)


def above(axes: Axes, columns: int) -> None:
    """Draw the legend where it hides nothing."""
    axes.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=columns, frameon=False)


def draw_subsets(axes: Axes, results: Results) -> None:
    """Draw all subsets, best first, the letters of their sensors below."""
    found = {n: f for n in EVERY_SUBSET if (f := results.score("robustness", "subsets", subset=n))}
    order = sorted(found, key=lambda n: -found[n].value)
    letters = dict(zip(map(str, MODALITIES), "LCRIG", strict=True))
    bars(axes, ["".join(letters[m] for m in n.split("+")) for n in order], {"NDS": [found[n] for n in order]})
    axes.set_xlabel("L LiDAR, C cameras, R radar, I IMU, G GNSS")


def draw_weather(axes: Axes, results: Results) -> None:
    """Draw NDS along each weather."""
    looks = ["clear", *WEATHER]
    shown = ("all", "lidar only", "camera only", "radar only")
    bars(axes, looks, {s: [results.score("robustness", "weather", look, s) for look in looks] for s in shown})


def draw_multicorrupt(axes: Axes, results: Results) -> None:
    """Draw RA by type."""
    names = list(MULTICORRUPT)
    series = {
        text: [results.resistance(name, radar=radar) for name in names]
        for text, radar in (("radar clean", False), ("radar noise on top", True))
    }
    bars(axes, names, series)
    axes.set_ylabel("RA")
    axes.axhline(1.0, color="gray", lw=0.8)


def draw_ranks(axes: Axes, results: Results) -> None:
    """Draw NDS of the target by what was trained."""
    cells = catalog.ranks()
    bars(axes, [c.name for c in cells], {"target": [results.target(c.name) for c in cells]})


def draw_ablations(axes: Axes, results: Results) -> None:
    """Draw NDS without each component."""
    cells = [cell for cell in ablate() if results.of("ablate", cell.name)]
    series: dict[str, list[Figure | None]] = {
        s: [results.score("ablate", c.name, "clear", s) for c in cells] for s in MAIN_SUBSETS
    }
    bars(axes, [c.name for c in cells], series)


def draw_zero_shot(axes: Axes, results: Results) -> None:
    """Draw AP of pairs never trained together."""
    pairs = [(m, c) for m in DETECTING for c in ZERO_SHOT_CLASSES]
    series = {
        text: [results.ap(m, c, suffix) for m, c in pairs]
        for text, suffix in (
            ("metric loss", ""),
            ("without metric loss", "_without_metric_loss"),
            ("trained together", "_together"),
        )
    }
    bars(axes, [f"{m}, {c}" for m, c in pairs], series)
    axes.set_ylabel("AP")


def draw_embeddings(axes: Axes, results: Results) -> None:
    """Draw the embedding map: colour is the class, shape the modality."""
    points = results.of("zero-shot", "retrieval")[0]["retrieval"]["map"]
    names = [c for c in CLASSES if any(p[1] == c for p in points)]
    for i, name in enumerate(names):
        for m in DETECTING:
            mine = np.array([p[2:] for p in points if p[:2] == [m, name]]).reshape(-1, 2)
            label = name if m == DETECTING[0] else None
            axes.scatter(mine[:, 0], mine[:, 1], s=14, marker=MARKERS[m], color=f"C{i}", alpha=0.7, label=label)
    axes.set_title("circle LiDAR, square camera, triangle radar", fontsize="small")
    axes.set_xlabel("first main component")
    axes.set_ylabel("second")
    axes.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def draw_baselines(axes: Axes, results: Results) -> None:
    """Draw NDS by subset for PEFT-DML and the fusion of other systems."""
    series: dict[str, list[Figure | None]] = {"PEFT-DML": [results.proposed(s) for s in STANDARD]}
    for text, cell in (("zero-filled", "zero_filled"), ("averaging", "averaging")):
        series[text] = [results.score("baselines", cell, subset=s) for s in STANDARD]
    bars(axes, list(STANDARD), series)


def draw_cost(axes: Axes, results: Results) -> None:
    """Draw NDS against CPU seconds; IMU and GNSS cost next to nothing: only subsets without them are named."""
    costs = results.of("cost", "subsets")[0]["cost"]["subsets"]
    letters = dict(zip(map(str, MODALITIES), "LCRIG", strict=True))
    for name, found in costs.items():
        figure = results.score("robustness", "subsets", subset=name)
        parts = name.split("+")
        if figure is None or not set(parts) & set(DETECTING):
            continue
        named = set(parts) <= set(DETECTING)
        place = (1e3 * found["cpu_s"], figure.value)
        axes.scatter(
            place[0],
            place[1],
            color="tab:blue" if named else "lightgray",
            s=40 if named else 12,
            zorder=3 if named else 2,
        )
        if named:
            text = "".join(letters[m] for m in parts)
            axes.annotate(text, place, xytext=(6, 4), textcoords="offset points", fontsize="small", zorder=4)
    axes.set_xlabel("CPU ms a frame (L LiDAR, C cameras, R radar; gray: with IMU or GNSS as well)")
    axes.set_ylabel("NDS")
    axes.margins(0.06)
    axes.grid(alpha=0.3)


GAP_CELLS = tuple(("domains", gap.cell("base")) for gap in GAPS)

Draw = Callable[[Axes, Results], None]
#: By name: who draws, the title, and the cells without which there is nothing to draw
PLOTS: dict[str, tuple[Draw, str, tuple[tuple[str, str], ...]]] = {
    "subsets": (draw_subsets, "NDS by subset of sensors", (("robustness", "subsets"),)),
    "weather": (draw_weather, "NDS in weather", (("robustness", "weather"),)),
    "multicorrupt": (draw_multicorrupt, "Resistance to MultiCorrupt's corruptions", (("robustness", "multicorrupt"),)),
    "ranks": (draw_ranks, "NDS in the target, by what the second stage trains", (("ranks", "peft"),)),
    "ablations": (draw_ablations, "NDS without a component", (("ablate", "complete"),)),
    "zero_shot": (draw_zero_shot, "AP of pairs never trained together", (("zero-shot", "lidar_together"),)),
    "embeddings": (draw_embeddings, "Object embeddings of three modalities", (("zero-shot", "retrieval"),)),
    "gaps": (gaps.draw, "NDS gained by adapting, 95 % intervals", GAP_CELLS),
    "baselines": (draw_baselines, "PEFT-DML and others' fusion in the same harness", (("baselines", "zero_filled"),)),
    "cost": (draw_cost, "NDS against cost", (("cost", "subsets"), ("robustness", "subsets"))),
}


def drawable(results: Results, name: str) -> bool:
    """Return True when the cells of a plot were run."""
    needed = (results.of(*cell) for cell in PLOTS[name][2])
    return any(needed) if name == "gaps" else all(needed)


def file_name(results: Results, name: str) -> str:
    """Return the name of a plot's file."""
    return f"results_{results.config}_{name}.png"


def save(results: Results, folder: Path) -> list[Path]:
    """Draw all that can be drawn."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, (draw, title, _) in PLOTS.items():
        if drawable(results, name):
            canvas = Canvas(figsize=(9, 4.2), layout="constrained")
            axes = canvas.subplots()
            draw(axes, results)
            canvas.suptitle(title)
            paths.append(folder / file_name(results, name))
            save_palette_png(canvas, paths[-1], 90)
    return paths
