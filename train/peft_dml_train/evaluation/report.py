# SPDX-License-Identifier: Apache-2.0
"""An evaluation as a table and as plots."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from peft_dml_ros.core.classes import CLASSES
from peft_dml_train.evaluation.subsets import Scores

ERRORS = {"mATE": "trans_err", "mASE": "scale_err", "mAOE": "orient_err", "mAVE": "vel_err", "mAAE": "attr_err"}


FILE_WIDTH = 130  #: Columns of tables that go to a file or a pipe


def wide_console() -> Console:
    """Return a console that breaks no table in a file or a pipe."""
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, FILE_WIDTH)
    return console


def summary(metrics: dict[str, Any]) -> dict[str, float]:
    """Return the seven official figures, by the names that manifests use."""
    figures = {"map": metrics["mean_ap"], "nds": metrics["nd_score"]}
    return figures | {short.lower(): metrics["tp_errors"][name] for short, name in ERRORS.items()}


def score_table(scores: Scores) -> Table:
    """Return all conditions and subsets; the last column is NDS against the first row."""
    table = Table("condition", "sensors", "mAP", "NDS", *ERRORS, "NDS kept")
    first = next(iter(next(iter(scores.values())).values()))["nd_score"]
    for condition, subsets in scores.items():
        for name, metrics in subsets.items():
            kept = f"{metrics['nd_score'] / first:.1%}" if first else "-"
            table.add_row(condition, name, *(f"{v:.3f}" for v in summary(metrics).values()), kept)
    return table


def class_table(metrics: dict[str, Any], name: str) -> Table:
    """Return one run by class: AP over all distances, by range, and the errors."""
    ranges = metrics["ranges"]
    table = Table("class", "objects", "AP", *(f"AP {r}" for r in ranges), *(e[1:] for e in ERRORS), title=name)
    for c in CLASSES:
        by_range = [_number(part["ap"].get(c)) for part in ranges.values()]
        errors = [_number(metrics["class_errors"][c][error]) for error in ERRORS.values()]
        table.add_row(c, str(metrics["objects"][c]), _number(_mean_ap(metrics, c)), *by_range, *errors)
    return table


def save_plots(scores: Scores, folder: Path) -> list[Path]:
    """Return bars by subset, by class and by range for the first condition; with several, NDS of all as a matrix."""
    folder.mkdir(parents=True, exist_ok=True)
    condition, subsets = next(iter(scores.items()))
    figures = {
        "subsets": _figure(_draw_subsets, subsets, f"Sensor subsets, {condition}"),
        "classes": _figure(_draw_classes, subsets, f"AP by class, {condition}"),
        "ranges": _figure(_draw_ranges, subsets, f"mAP by distance, {condition}"),
    }
    if len(scores) > 1:
        figures["conditions"] = _figure(_draw_conditions, scores, "NDS by condition and sensors")
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean_ap(metrics: dict[str, Any], name: str) -> float:
    return float(np.mean(list(metrics["ap"][name].values())))


def _figure(draw: Any, content: Any, title: str) -> Figure:
    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    draw(axes, content)
    axes.set_title(title)
    return figure


def _bars(axes: Axes, labels: list[str], series: dict[str, list[float]]) -> None:
    width, place = 0.8 / len(series), np.arange(len(labels))
    for i, (name, values) in enumerate(series.items()):
        axes.bar(place + (i - (len(series) - 1) / 2) * width, values, width, label=name)
    axes.set_xticks(place, labels, rotation=30, ha="right")
    axes.set_ylim(0, 1)
    axes.grid(axis="y", alpha=0.3)
    axes.legend(fontsize="small")


def _draw_subsets(axes: Axes, subsets: dict[str, Any]) -> None:
    figures = {name: summary(m) for name, m in subsets.items()}
    _bars(
        axes, list(figures), {"mAP": [f["map"] for f in figures.values()], "NDS": [f["nds"] for f in figures.values()]}
    )


def _draw_classes(axes: Axes, subsets: dict[str, Any]) -> None:
    _bars(axes, list(CLASSES), {name: [_mean_ap(m, c) for c in CLASSES] for name, m in subsets.items()})


def _draw_ranges(axes: Axes, subsets: dict[str, Any]) -> None:
    for name, m in subsets.items():
        values = [np.nan if part["mean_ap"] is None else part["mean_ap"] for part in m["ranges"].values()]
        axes.plot(list(m["ranges"]), values, marker="o", label=name)
    axes.set_ylim(0, 1)
    axes.set_ylabel("mAP of the classes that occur there")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _draw_conditions(axes: Axes, scores: Scores) -> None:
    names = list(next(iter(scores.values())))
    values = np.array([[scores[c][n]["nd_score"] for n in names] for c in scores])
    axes.imshow(values, vmin=0, vmax=max(float(values.max()), 0.1), cmap="viridis", aspect="auto")
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(scores)), list(scores))
    for (row, column), value in np.ndenumerate(values):
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="white", fontsize="small")
