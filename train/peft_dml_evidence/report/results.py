# SPDX-License-Identifier: Apache-2.0
"""All results of a folder, and the figures that tables, plots and the summary take from them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from peft_dml_evidence.catalog import COMMANDS, SEVERITIES
from peft_dml_evidence.cells import TARGET_LOOKS
from peft_dml_evidence.files import read
from peft_dml_evidence.looks import WITH_RADAR
from peft_dml_tools.sim.corruptions import MULTICORRUPT, RADAR_NOISE
from peft_dml_train.evaluation.sensors import SUBSETS

CONFIGS = ("nuscenes", "demo", "tiny")


@dataclass(frozen=True, slots=True)
class Figure:
    """Mean over seeds.

    Attributes:
        value: Mean.
        spread: Standard deviation, 0 for one seed.
        seeds: How many.
    """

    value: float
    spread: float
    seeds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure | None:
        """None of nothing."""
        found = list(values)
        return cls(mean(found), stdev(found) if len(found) > 1 else 0.0, len(found)) if found else None

    def text(self, digits: int = 3) -> str:
        """With its spread where there is one."""
        spread = f" ± {self.spread:.{digits}f}" if self.seeds > 1 else ""
        return f"{self.value:.{digits}f}{spread}"


class Results:
    """Results of one recipe.

    Args:
        config: Its name.
        records: By command and cell, one for each seed.
    """

    def __init__(self, config: str, records: dict[tuple[str, str], list[dict[str, Any]]]) -> None:
        self.config, self.records = config, records

    def of(self, command: str, cell: str) -> list[dict[str, Any]]:
        """All seeds of a cell, in order; empty when it was not run."""
        return self.records.get((command, cell), [])

    def score(
        self, command: str, cell: str, look: str = "clear", subset: str = "all", key: str = "nds"
    ) -> Figure | None:
        """One figure of a cell; none when it was not run."""
        entries = [r["scores"].get(look, {}).get(subset) for r in self.of(command, cell) if "scores" in r]
        return Figure.of(entry[key] for entry in entries if entry)

    def ours(self, name: str) -> Figure | None:
        """NDS of our network in clear air with one of the standard subsets."""
        return self.score("robustness", "subsets", subset="+".join(SUBSETS[name]))

    def target(self, cell: str, subset: str = "all", command: str = "ranks") -> Figure | None:
        """NDS in what the second stage trains for: mean over clear air and its weather, for each seed."""
        seeds = []
        for r in self.of(command, cell):
            values = [r.get("scores", {}).get(look, {}).get(subset, {}).get("nds") for look in TARGET_LOOKS]
            if all(v is not None for v in values):
                seeds.append(mean(values))
        return Figure.of(seeds)

    def ap(self, modality: str, name: str, suffix: str = "") -> Figure | None:
        """AP of a class by one modality alone, where the two never met in training (or as the suffix says)."""
        cell, subset = f"{modality}_{name}{suffix}", f"{modality} only"
        if suffix == "_together":
            cell = f"{modality}{suffix}"
        found = [r["scores"].get("clear", {}).get(subset) for r in self.of("zero-shot", cell) if "scores" in r]
        return Figure.of(entry["ap"][name] for entry in found if entry)

    def resistance(self, name: str, *, radar: bool) -> Figure | None:
        """MultiCorrupt's RA: NDS under a corruption over clean NDS, mean of three severities.

        Args:
            name: A corruption; kinds of radar noise were run beside the noisy ones.
            radar: All kinds of radar noise on top.
        """
        cell = "multicorrupt_radar" if radar or name in RADAR_NOISE else "multicorrupt"
        ratios = []
        for r in self.of("robustness", cell):
            scores = r["scores"]
            clean = scores["clear"]["all"]["nds"]
            values = [scores.get(f"{name}/{s}{WITH_RADAR if radar else ''}", {}).get("all") for s in SEVERITIES]
            if clean and all(values):
                ratios.append(mean(v["nds"] / clean for v in values if v))
        return Figure.of(ratios)

    def mean_resistance(self, *, radar: bool, names: Iterable[str] = MULTICORRUPT) -> Figure | None:
        """MRA: mean of RA over the ten types, or those named; none while one of them is missing."""
        found = [self.resistance(name, radar=radar) for name in names]
        return Figure.of([mean(f.value for f in found if f)]) if all(found) else None

    def relative_resilience(self, name: str) -> float | None:
        """RRA of a corruption: sum of NDS over severities against the zero-filled baseline's."""
        looks = [f"{name}/{s}" for s in SEVERITIES]
        ours = [self.score("robustness", "multicorrupt", look) for look in looks]
        theirs = [self.score("baselines", "zero_filled_multicorrupt", look) for look in looks]
        if not all(ours) or not all(theirs):
            return None
        below = sum(f.value for f in theirs if f)
        return sum(f.value for f in ours if f) / below - 1 if below else None

    def progress(self) -> dict[str, tuple[int, int]]:
        """Finished and planned runs (cells times seeds) by command."""
        counts = {}
        for command, make in COMMANDS.items():
            cells = make()
            done = sum(len({r["seed"] for r in self.of(command, c.name)} & set(c.seeds)) for c in cells)
            counts[command] = (done, sum(len(c.seeds) for c in cells))
        return counts


def load(folder: Path) -> list[Results]:
    """Results of all recipes that have any, the largest recipe first."""
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
