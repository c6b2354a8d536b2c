# SPDX-License-Identifier: Apache-2.0
"""The table of targets: what a bundle has to reach on the scenes of its target domain, and what it reaches."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from rich.table import Table

from peft_dml_evidence.scoring import figures
from peft_dml_evidence.target_measures import SEVERITY
from peft_dml_ros.core.classes import CLASSES, DETECTING, Modality
from peft_dml_ros.core.errors import ConfigError, DataError, nearest
from peft_dml_tools import markdown_pages

Measured: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TargetRow:
    """One row of the table."""

    name: str  #: What is measured
    value: Callable[[Measured], float]  #: Takes it from the figures; raises KeyError or TypeError where they lack it
    wanted: float  #: Limit
    at_most: bool = False  #: The limit is an upper one

    def of(self, measured: Measured) -> float | None:
        """Return the value; None where it was not measured."""
        try:
            return float(self.value(measured))
        except (KeyError, TypeError, ZeroDivisionError):
            return None

    def met(self, value: float) -> bool:
        """Return whether a value reaches the target."""
        return value <= self.wanted if self.at_most else value >= self.wanted


def _score(subset: str, name: str, look: str = "clear") -> Callable[[Measured], float]:
    return lambda m: m["scores"][look][subset][name]


def _kept(subset: str) -> Callable[[Measured], float]:
    return lambda m: m["scores"]["clear"][subset]["nds"] / m["scores"]["clear"]["all"]["nds"]


def _heading(subset: str, name: str) -> Callable[[Measured], float]:
    return lambda m: m["headings"][subset][name]


def _gate(noise: str) -> Callable[[Measured], float]:
    return lambda m: m["gate"][f"{noise}/{SEVERITY}"] / m["gate"]["clear"]


def _lying(noise: str) -> Callable[[Measured], float]:
    return lambda m: m["scores"][f"{noise}/{SEVERITY}"]["all"]["nds"] / m["scores"]["clear"]["no radar"]["nds"]


def _turned(m: Measured) -> float:
    errors = [m["turned"][str(degrees)]["median_axis_error"] for degrees in (0, 45, 90)]
    return float(max(errors) - min(errors))


def _withheld(measured: Measured, below: str) -> float:
    found = measured["zero_shot"]
    return float(sum(row["withheld"] for row in found) / sum(row[below] for row in found))


NOISES: Final = {
    "four noises at once": "radar_noise",
    "echoes lost": "radar_keypoint_missing",
    "echoes invented": "radar_spurious_points",
    "echoes moved": "radar_point_shifting",
    "strength and speed": "radar_non_positional",
}

TARGETS: Final = (
    TargetRow("mAP, all sensors", _score("all", "map"), 0.74),
    TargetRow("NDS, all sensors", _score("all", "nds"), 0.74),
    TargetRow("mAOE in rad", _score("all", "maoe"), 0.35, at_most=True),
    TargetRow("axis error of still cars in rad", _heading("all", "axis_error_still"), 0.15, at_most=True),
    TargetRow("cars that LiDAR alone turns round", _heading("lidar only", "turned_round"), 0.25, at_most=True),
    TargetRow("mAVE without radar in m/s", _score("no radar", "mave"), 0.80, at_most=True),
    TargetRow("mAP, cameras alone", _score("camera only", "map"), 0.30),
    TargetRow("NDS kept without LiDAR", _kept("no lidar"), 0.70),
    TargetRow("NDS kept without cameras", _kept("no camera"), 0.97),
    TargetRow(
        "mAP that cameras add to the other sensors",
        lambda m: m["scores"]["clear"]["all"]["map"] - m["scores"]["clear"]["no camera"]["map"],
        0.03,
    ),
    TargetRow("an object's cosine across sensors", lambda m: m["retrieval"]["cosine"], 0.8),
    TargetRow("class recall@1 across sensors", lambda m: m["retrieval"]["class"], 0.75),
    TargetRow("object finds itself across sensors", lambda m: m["retrieval"]["instance"], 0.25),
    TargetRow("zero-shot AP ÷ AP trained together", lambda m: _withheld(m, "together"), 0.5),
    TargetRow("zero-shot AP, with ÷ without metric loss", lambda m: _withheld(m, "without_metric"), 1.5),
    TargetRow("NDS ÷ NDS of concatenation", lambda m: _score("all", "nds")(m) / m["concatenation"]["nds"], 1.02),
    *(TargetRow(f"radar's gate weight ÷ clean: {name}", _gate(n), 0.5, at_most=True) for name, n in NOISES.items()),
    *(TargetRow(f"NDS ÷ NDS without radar: {name}", _lying(n), 1.0) for name, n in NOISES.items()),
    TargetRow("axis error of cars, turned by 0, 45, 90°: range in rad", _turned, 0.2, at_most=True),
)


HEAD: Final = ("what", "previous", "this bundle", "wanted", "met")
BEGIN, END = "<!-- targets -->", "<!-- end of targets -->"


def target_rows(measured: Measured, previous: Measured | None = None) -> list[tuple[str, ...]]:
    """Return the rows of the table; a hyphen stands for what was not measured."""
    rows = []
    for target in TARGETS:
        values = [target.of(figures) for figures in (previous or {}, measured)]
        shown = ["-" if v is None else f"{v:.3f}" for v in values]
        met = "-" if values[1] is None else "yes" if target.met(values[1]) else "no"
        rows.append((target.name, *shown, f"{'≤' if target.at_most else '≥'} {target.wanted:g}", met))
    return rows


def target_table(rows: list[tuple[str, ...]]) -> Table:
    """Return rows as a table for a terminal."""
    table = Table(*HEAD)
    for row in rows:
        table.add_row(*row)
    return table


def fill_page(page: Path, rows: list[tuple[str, ...]], about: str) -> None:
    """Put rows into a Markdown page, between its two marks. Raises DataError: the page lacks them."""
    if not page.is_file() or END not in page.read_text(encoding="utf-8").partition(BEGIN)[2]:
        raise DataError(f"{page} lacks the lines {BEGIN} and {END}; fix: put them where the table goes")
    markdown_pages.fill_page(page, BEGIN, f"\n{about}\n\n{markdown_pages.markdown_table(HEAD, rows)}\n", END)


def read_previous(path: Path) -> Measured:
    """Read another bundle's figures: `targets.json`, or `metrics.json` of `evaluate`. Raises DataError: it is none."""
    try:
        found = json.loads(path.read_text())
        if "scores" in found:
            return dict(found)
        return {"scores": {look: {s: figures(m) for s, m in subsets.items()} for look, subsets in found.items()}}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"{path} holds no figures ({error!r}); fix: name a targets.json, or the metrics.json of an evaluation"
        raise DataError(msg) from error


def parse_withheld(text: str) -> tuple[Modality, str, list[str]]:
    """Parse `radar:barrier=ADAPTER[,ADAPTER_WITHOUT_METRIC_LOSS]`. Raises ConfigError: another form, unknown names."""
    pair, _, adapters = text.partition("=")
    modality, _, name = pair.partition(":")
    for word, choices in ((modality, DETECTING), (name, CLASSES)):
        if word not in choices:
            msg = f"--zero-shot {text}: {nearest(word, choices)}; write radar:barrier=ADAPTER[,WITHOUT_METRIC_LOSS]"
            raise ConfigError(msg)
    names = [part for part in adapters.split(",") if part]
    if len(names) not in {1, 2}:
        msg = f"--zero-shot {text}; fix: name one adapter of --run, or two, the second trained without metric loss"
        raise ConfigError(msg)
    return next(m for m in DETECTING if m == modality), name, names
