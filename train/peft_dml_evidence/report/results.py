# SPDX-License-Identifier: Apache-2.0
"""All results of a folder, and the figures that tables, plots and the summary take from them."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from peft_dml_evidence.baseline_cells import SEVERITIES
from peft_dml_evidence.catalog import COMMANDS
from peft_dml_evidence.cells import TARGET_LOOKS
from peft_dml_evidence.files import read
from peft_dml_evidence.frame_conditions import WITH_RADAR
from peft_dml_evidence.statistics import WHOLE, Interval, Sample, joined, paired
from peft_dml_tools.sim.corruptions import MULTICORRUPT, RADAR_NOISE
from peft_dml_train.evaluation.sensors import SUBSETS

CONFIGS = ("nuscenes", "demo", "near", "one_town", "fresh", "tiny")


@dataclass(frozen=True, slots=True)
class Figure:
    """Mean over seeds."""

    value: float  #: Mean
    spread: float  #: Standard deviation, 0 for one seed
    seeds: int  #: How many
    #: Its values by seed and scene, for comparisons
    sample: Sample = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, sample: Sample) -> "Figure | None":
        """Return the figure of a sample; none of an empty one."""
        found = [scenes[WHOLE] for scenes in sample.values()]
        return cls(mean(found), stdev(found) if len(found) > 1 else 0.0, len(found), sample) if found else None

    @classmethod
    def single(cls, value: float) -> "Figure":
        """Return a figure of one seed that nobody names."""
        return cls(value, 0.0, 1, {0: {WHOLE: value}})

    def text(self, digits: int = 3) -> str:
        """Return it with its spread where there is one."""
        spread = f" ± {self.spread:.{digits}f}" if self.seeds > 1 else ""
        return f"{self.value:.{digits}f}{spread}"


def compare(statistic: Callable[..., float], *figures: Figure | None) -> Interval | None:
    """Return a statistic of figures on the seeds and scenes that they share; none where one is missing."""
    found = [figure.sample for figure in figures if figure is not None]
    return paired(statistic, *found) if len(found) == len(figures) else None


def value_of(statistic: Callable[..., float], *figures: Figure | None) -> float:
    """Return the same without its interval; nan where there is none."""
    found = compare(statistic, *figures)
    return math.nan if found is None else found.value


class Results:
    """Results of one recipe: records by command and cell, one for each seed."""

    def __init__(self, config: str, records: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
        self.config, self.records = config, records

    def of(self, command: str, cell: str) -> list[dict[str, Any]]:
        """Return all seeds of a cell, in order; empty when it was not run."""
        return self.records.get((command, cell), [])

    def score(
        self, command: str, cell: str, look: str = "clear", subset: str = "all", key: str = "nds"
    ) -> Figure | None:
        """Return one figure of a cell; none when it was not run."""
        sample: dict[int, dict[str, float]] = {}
        for r in self.of(command, cell):
            if entry := r.get("scores", {}).get(look, {}).get(subset):
                scenes = r.get("scenes", {}).get(look, {}).get(subset, {}) if key == "nds" else {}
                sample[int(r["seed"])] = {WHOLE: entry[key], **scenes}
        return Figure.of(sample)

    def nds(self, command: str, cell: str) -> Figure | None:
        """Return NDS with all sensors under a cell's first look."""
        looks = [next(iter(r["scores"]), "clear") for r in self.of(command, cell) if "scores" in r]
        return self.score(command, cell, looks[0]) if looks else None

    def proposed(self, name: str) -> Figure | None:
        """Return the NDS of PEFT-DML in clear air with one of the standard subsets."""
        return self.score("robustness", "subsets", subset="+".join(SUBSETS[name]))

    def target(self, cell: str, subset: str = "all", command: str = "ranks") -> Figure | None:
        """Return NDS in what the second stage trains for: mean over clear air and its weather, for each seed."""
        figures = [self.score(command, cell, look, subset) for look in TARGET_LOOKS]
        return Figure.of(joined(f.sample for f in figures if f)) if all(figures) else None

    def ap(self, modality: str, name: str, suffix: str = "") -> Figure | None:
        """Return AP of a class by one modality alone, where the two never met in training (or as the suffix says)."""
        cell, subset = f"{modality}_{name}{suffix}", f"{modality} only"
        if suffix == "_together":
            cell = f"{modality}{suffix}"
        found = {int(r["seed"]): r["scores"].get("clear", {}).get(subset) for r in self.of("zero-shot", cell)}
        return Figure.of({seed: {WHOLE: entry["ap"][name]} for seed, entry in found.items() if entry})

    def resistance(self, name: str, *, radar: bool) -> Figure | None:
        """Return MultiCorrupt's RA: NDS under a corruption over clean NDS, mean of three severities.

        Args:
            name: A corruption; kinds of radar noise were run with the noisy ones.
            radar: All kinds of radar noise on top.
        """
        cell = "multicorrupt_radar" if radar or name in RADAR_NOISE else "multicorrupt"
        ratios: dict[int, dict[str, float]] = {}
        for r in self.of("robustness", cell):
            scores = r["scores"]
            clean = scores["clear"]["all"]["nds"]
            values = [scores.get(f"{name}/{s}{WITH_RADAR if radar else ''}", {}).get("all") for s in SEVERITIES]
            if clean and all(values):
                ratios[int(r["seed"])] = {WHOLE: mean(v["nds"] / clean for v in values if v)}
        return Figure.of(ratios)

    def mean_resistance(self, *, radar: bool, names: Iterable[str] = MULTICORRUPT) -> Figure | None:
        """Return MRA: mean of RA over the ten types, or those named; none while one of them is missing."""
        found = [self.resistance(name, radar=radar) for name in names]
        return Figure.of(joined(f.sample for f in found if f)) if all(found) else None

    def relative_resilience(self, name: str) -> float | None:
        """Return RRA of a corruption: sum of NDS over severities against the zero-filled baseline's."""
        looks = [f"{name}/{s}" for s in SEVERITIES]
        proposed = [self.score("robustness", "multicorrupt", look) for look in looks]
        theirs = [self.score("baselines", "zero_filled_multicorrupt", look) for look in looks]
        if not all(proposed) or not all(theirs):
            return None
        below = sum(f.value for f in theirs if f)
        return sum(f.value for f in proposed if f) / below - 1 if below else None

    def progress(self) -> dict[str, tuple[int, int]]:
        """Return finished and planned runs (cells times seeds) by command."""
        counts = {}
        for command, make in COMMANDS.items():
            cells = make()
            done = sum(len({r["seed"] for r in self.of(command, c.name)} & set(c.seeds)) for c in cells)
            counts[command] = (done, sum(len(c.seeds) for c in cells))
        return counts


def load(folder: Path) -> list[Results]:
    """Return results of all recipes that have any, the largest recipe first."""
    by_config: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for command in COMMANDS:
        for path in sorted((folder / command).glob("*.json")):
            found = read(path)
            if found is None or "cell" not in found:
                continue
            cells = by_config.setdefault(found["config"], {})
            cells.setdefault((command, found["cell"]), []).append(found)
    for cells in by_config.values():
        for entries in cells.values():
            entries.sort(key=lambda r: int(r["seed"]))
    return [Results(c, by_config[c]) for c in CONFIGS if c in by_config]
