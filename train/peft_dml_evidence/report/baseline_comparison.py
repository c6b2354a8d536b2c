# SPDX-License-Identifier: Apache-2.0
"""The proposed network and two plainer fusions in every cell of MultiCorrupt and of the weather."""

from collections.abc import Sequence
from statistics import mean
from typing import Final

from peft_dml_evidence.baseline_cells import BASELINES, CORRUPTED, NOISY, SEVERITIES, WEATHER
from peft_dml_evidence.frame_conditions import WITH_RADAR
from peft_dml_evidence.report.markdown import MISSING, number, table
from peft_dml_evidence.report.results import Figure, Results
from peft_dml_evidence.statistics import WHOLE, Sample, joined
from peft_dml_tools.sim.corruptions import MULTICORRUPT

LEAST_WON: Final = 25  #: Of the 30 cells
WORDS: Final = {"zero_filled": "zero-filled concatenation", "averaging": "averaging"}


def cell_nds(results: Results, look: str, baseline: str = "") -> Figure | None:
    """Return NDS with all sensors in one cell of MultiCorrupt or of the weather, of PEFT-DML or of a baseline."""
    name = "weather" if look in WEATHER else "multicorrupt_radar" if look.endswith(WITH_RADAR) else "multicorrupt"
    return results.score("baselines" if baseline else "robustness", f"{baseline}_{name}" if baseline else name, look)


def won(results: Results, looks: Sequence[str]) -> Figure | None:
    """Return in how many cells no baseline is better, by seed; none where a cell or a shared seed lacks."""
    every = [[cell_nds(results, look, baseline) for baseline in ("", *BASELINES)] for look in looks]
    figures = [[f.sample for f in cell if f] for cell in every]
    seeds = set.intersection(*(set(sample) for cell in figures for sample in cell)) if all(map(all, every)) else set()

    def beaten(cell: list[Sample], seed: int) -> bool:
        mine, *theirs = (sample[seed][WHOLE] for sample in cell)
        return mine < max(theirs)

    return Figure.of({s: {WHOLE: float(sum(not beaten(cell, s) for cell in figures))} for s in sorted(seeds)})


def resistance_of(results: Results, baseline: str, *, radar: bool) -> Figure | None:
    """Return a baseline's own mRA: its NDS under each type over its own clean NDS, mean over types and severities."""
    looks, cell = (NOISY, "multicorrupt_radar") if radar else (CORRUPTED, "multicorrupt")
    clean = results.score("baselines", f"{baseline}_{cell}")
    found = [cell_nds(results, look, baseline) for look in looks]
    if clean is None or not all(found):
        return None
    total = joined(f.sample for f in found if f)
    return Figure.of({s: {WHOLE: v[WHOLE] / clean.sample[s][WHOLE]} for s, v in total.items() if s in clean.sample})


def headline(results: Results) -> str:
    """Return in how many cells PEFT-DML is not beaten."""
    phrases = []
    for words, looks in (("a clean radar", CORRUPTED), ("a noisy radar", NOISY), ("weather", WEATHER)):
        if (found := won(results, looks)) is not None:
            phrases.append(f"{words} in {found.value:.1f} of {len(looks)} cells")
    return f"Neither baseline is better under {'; '.join(phrases)}." if phrases else ""


def corrupted(results: Results) -> list[str]:
    """Return NDS by type, mean of the severities, of PEFT-DML and both baselines, radar clean and noisy; cells won."""
    rows = []
    for radar in ("", WITH_RADAR):
        for name in MULTICORRUPT:
            looks = [f"{name}/{s}{radar}" for s in SEVERITIES]
            means = [_mean(results, looks, baseline) for baseline in ("", *BASELINES)]
            wins = won(results, looks)
            rows.append(
                [
                    f"`{name}`{', radar noise' if radar else ''}",
                    *means,
                    f"{wins.value:.1f} of {len(looks)}" if wins else MISSING,
                ]
            )
    for noisy in (False, True):
        each = [results.mean_resistance(radar=noisy), *(resistance_of(results, b, radar=noisy) for b in BASELINES)]
        rows.append([f"**mRA{', radar noise' if noisy else ''}**", *(number(f) for f in each), "-"])
    return table(("type, mean of three severities", "PEFT-DML", *WORDS.values(), "cells won"), rows)


def weather(results: Results) -> list[str]:
    """Return NDS in each weather, next to the baselines'."""
    rows = []
    for look in WEATHER:
        figures = [number(cell_nds(results, look, baseline)) for baseline in ("", *BASELINES)]
        wins = won(results, (look,))
        rows.append([f"`{look}`", *figures, MISSING if wins is None else f"{wins.value:.0%} of seeds"])
    return table(("weather, all sensors", "PEFT-DML", *WORDS.values(), "not beaten"), rows)


def _mean(results: Results, looks: list[str], baseline: str) -> str:
    figures = [cell_nds(results, look, baseline) for look in looks]
    return number(mean(f.value for f in figures if f)) if all(figures) else MISSING
