# SPDX-License-Identifier: Apache-2.0
"""What was tried against missed targets, failures kept."""

from statistics import mean

from peft_dml_evidence.cells import FIRST_SEED, TARGET_LOOKS
from peft_dml_evidence.looks import WITH_RADAR
from peft_dml_evidence.remedies import REMEDY_PAIRS, remedies
from peft_dml_evidence.report.markdown import table
from peft_dml_evidence.report.results import Results
from peft_dml_evidence.zero_shot import ZERO_SHOT_TOGETHER
from peft_dml_tools.sim.corruptions import MULTICORRUPT

LEAST = (0.98, 0.70, 3.0, 0.97, 0.90, None)
"""Targets of the columns; zero-shot AP is held against that without metric loss."""


class _Cell:
    """Figures of one cell and the first seed, as remedies have no other."""

    def __init__(self, results: Results, command: str, name: str) -> None:
        entries = [r for r in results.of(command, name) if r["seed"] == FIRST_SEED and "scores" in r]
        self.scores = entries[0]["scores"] if entries else {}

    def nds(self, look: str = "clear", subset: str = "all") -> float | None:
        found = self.scores.get(look, {}).get(subset)
        return None if found is None else float(found["nds"])

    def ap(self, modality: str, name: str) -> float | None:
        found = self.scores.get("clear", {}).get(f"{modality} only")
        return None if found is None else float(found["ap"][name])

    def kept(self, subset: str) -> float | None:
        return _ratio(self.nds(subset=subset), self.nds())

    def times(self, other: "_Cell") -> float | None:
        """Return NDS without LiDAR over another one's."""
        return _ratio(self.nds(subset="no lidar"), other.nds(subset="no lidar"))

    def target(self) -> float | None:
        return _mean([self.nds(look) for look in TARGET_LOOKS])

    def resistance(self) -> float | None:
        """Return MRA of the middle severity, radar noise on top."""
        return _ratio(_mean([self.nds(f"{name}/2{WITH_RADAR}") for name in MULTICORRUPT]), self.nds())


def _ratio(above: float | None, below: float | None) -> float | None:
    return above / below if above is not None and below else None


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return mean(known) if known and len(known) == len(values) else None


def _row(words: str, figures: tuple[float | None, ...]) -> list[str]:
    cells = []
    for figure, least in zip(figures, LEAST, strict=True):
        text = "-" if figure is None else f"{figure:.3f}"
        cells.append(f"**{text}**" if figure is not None and least is not None and figure >= least else text)
    return [words, *cells]


def remedies_table(results: Results) -> list[str]:
    """Return a row for each remedy that was run; nothing when none was."""
    full, zeros = _Cell(results, "ranks", "full").target(), _Cell(results, "baselines", "zero_filled")
    pairs = ZERO_SHOT_TOGETHER[REMEDY_PAIRS]
    rows = []
    for cell in remedies():
        found = _Cell(results, "remedies", cell.name)
        if found.scores:
            kept = (found.kept("no lidar"), found.times(zeros), found.kept("no camera"), found.resistance())
            rows.append(_row(cell.about, (_ratio(found.target(), full), *kept, _mean([found.ap(*p) for p in pairs]))))
    if not rows:
        return []
    proposed, noisy = _Cell(results, "ranks", "peft"), _Cell(results, "robustness", "multicorrupt_radar")
    first = []
    for words, suffix in (("PEFT-DML", ""), ("PEFT-DML without metric loss", "_without_metric_loss")):
        ap = _mean([_Cell(results, "zero-shot", f"{m}_{c}{suffix}").ap(m, c) for m, c in pairs])
        kept = (proposed.kept("no lidar"), proposed.times(zeros), proposed.kept("no camera"), noisy.resistance())
        first.append(_row(words, (*[None] * 5, ap) if suffix else (_ratio(proposed.target(), full), *kept, ap)))
    head = (
        "remedy",
        "target NDS of full",
        "kept without LiDAR",
        "no-LiDAR NDS, times zero-filled's",
        "kept without cameras",
        "mRA, severity 2",
        "zero-shot AP",
    )
    wanted = ["wanted", *(f"≥ {least:g}" for least in LEAST if least is not None), "≥ 1.2 × without"]
    return table(head, [wanted, *first, *rows])
