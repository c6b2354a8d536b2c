# SPDX-License-Identifier: Apache-2.0
"""summary.json: the key figures, and the targets that they are held against."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from peft_dml_evidence.baseline_cells import BASELINES, NOISY
from peft_dml_evidence.frame_conditions import LOST_ODOMETRY
from peft_dml_evidence.gap_cells import GAPS
from peft_dml_evidence.report import baseline_comparison as against
from peft_dml_evidence.report import gaps
from peft_dml_evidence.report.results import Figure, Results, compare
from peft_dml_evidence.statistics import WHOLE, Interval, difference, joined, ratio
from peft_dml_evidence.zero_shot import ZERO_SHOT_CLASSES
from peft_dml_ros.core.classes import DETECTING

ALL = "lidar+camera+radar+imu+gnss"
NO_LIDAR = "camera+radar+imu+gnss"
NO_CAMERA = "lidar+radar+imu+gnss"
NO_RADAR = "lidar+camera+imu+gnss"
LEAST_NDS = 0.1  #: Of the complete network: below it, ratios are noise

#: Mean of the zero-shot pairs: below it, nothing is found that could be lifted. Where the pairs are not found either
#: when trained together, the network is too weak to tell.
LEAST_AP = 0.01

KEYS = (
    "seeds",
    "nds_full",
    "nds_no_lidar",
    "nds_no_camera",
    "nds_peft",
    "nds_full_finetune",
    "trained_share",
    "mra",
    "nds_zero_filled_no_lidar",
    "zero_shot_ap",
    "zero_shot_ap_without_metric_loss",
)


GAP_KEYS = ("gap_closed", "gap_closed_interval", "forgotten")
MORE_KEYS = ("mra_zero_filled", "cells_won", "nds_zero_filled", "zero_shot", "retrieval")


@dataclass(frozen=True, slots=True)
class ClaimTarget:
    """One claim and its target."""

    claim: str  #: In words
    least: float  #: What is wanted at least
    found: Interval | None  #: What was measured, with its interval; none when it was not
    made_of: str  #: The figures behind it
    weak: bool = False  #: Its networks detect too little for a ratio to mean anything
    nothing: bool = False  #: What the claim is about is not found at all
    word: str = ""  #: The verdict, where more than this interval decides it

    @property
    def measured(self) -> str:
        """The figure with its interval, for the page."""
        if self.nothing or self.found is None:
            return "-" if self.nothing else "not run"
        return self.found.text()

    @property
    def verdict(self) -> str:
        """Whether it holds: the word that the interval gives, or why there is none."""
        if self.found is None:
            return "not run"
        if self.weak:
            return "the network is too weak to tell"
        if self.nothing:
            return "missed: next to nothing is found, with the loss or without"
        return self.word or self.found.verdict(self.least)


#: Cells of embeddings by the loss that made them
RETRIEVALS = {
    "recipe's loss": ("zero-shot", "retrieval"),
    "no metric loss": ("zero-shot", "retrieval_without_metric_loss"),
}


def zero_shot_ap(results: Results, suffix: str = "") -> Figure | None:
    """Return the mean AP over the held-out pairs; none while a pair is missing."""
    found = [results.ap(m, c, suffix) for m in DETECTING for c in ZERO_SHOT_CLASSES]
    return Figure.of(joined(f.sample for f in found if f)) if all(found) else None


def key_figures(results: Results) -> dict[str, Figure | None]:
    """Return figures by the keys of the summary, without seeds and share."""
    return {
        "nds_full": results.score("robustness", "subsets", subset=ALL),
        "nds_no_lidar": results.score("robustness", "subsets", subset=NO_LIDAR),
        "nds_no_camera": results.score("robustness", "subsets", subset=NO_CAMERA),
        "nds_peft": results.target("peft"),
        "nds_full_finetune": results.target("full"),
        "mra": results.mean_resistance(radar=True),
        "nds_zero_filled_no_lidar": results.score("baselines", "zero_filled", subset="no lidar"),
        "zero_shot_ap": zero_shot_ap(results),
        "zero_shot_ap_without_metric_loss": zero_shot_ap(results, "_without_metric_loss"),
    }


def trained_share(results: Results) -> float | None:
    """Return the share of all parameters that the fine-tuning of PEFT-DML trains."""
    for entry in results.of("ranks", "peft") + results.of("robustness", "subsets"):
        share = entry["training"].get("adapted", {}).get("parameters", {}).get("share")
        if share is not None:
            return float(share)
    return None


def summary_of(results: Results | None) -> dict[str, Any]:
    """Return what summary.json holds; null for what was not run."""
    if results is None:
        return dict.fromkeys(KEYS) | {
            "seeds": [],
            "config": None,
            "spread": {},
            **dict.fromkeys((*GAP_KEYS, *MORE_KEYS)),
        }
    figures = key_figures(results)
    seeds = [int(r["seed"]) for r in results.of("robustness", "subsets")]
    values = {key: None if f is None else round(f.value, 5) for key, f in figures.items()}
    values["trained_share"] = trained_share(results)
    spread = {key: round(f.spread, 5) for key, f in figures.items() if f is not None and f.seeds > 1}
    found = {"seeds": seeds, **{key: values[key] for key in KEYS[1:]}, "config": results.config, "spread": spread}
    return found | gap_figures(results) | more_figures(results)


def gap_figures(results: Results) -> dict[str, Any]:
    """Return the share that PEFT closes of each gap, its interval, and NDS forgotten on the source."""
    by_gap = gaps.gap_closed(results)

    def each(of: Callable[[Interval], Any]) -> dict[str, Any] | None:
        return {name: {k: of(v) if v else None for k, v in by.items()} for name, by in by_gap.items()} or None

    lost = {gap.name: round(f.value, 5) for gap in GAPS if (f := gaps.forgotten(results, gap))}
    values = (each(lambda f: _finite(f.value)), each(lambda f: [_finite(f.low), _finite(f.high)]), lost or None)
    return dict(zip(GAP_KEYS, values, strict=True))


def more_figures(results: Results) -> dict[str, Any]:
    """Return what the baselines reach, the zero-shot pairs and the retrieval between sensors."""
    pairs = {"with_loss": "", "without_loss": "_without_metric_loss", "together": "_together"}
    zero_shot = {words: _rounded(zero_shot_ap(results, suffix)) for words, suffix in pairs.items()}
    recalls = {words: _rounded(class_recall(results, *cell)) for words, cell in RETRIEVALS.items()}
    values = (
        _rounded(against.resistance_of(results, "zero_filled", radar=True)),
        _rounded(against.won(results, NOISY)),
        _rounded(results.score("baselines", "zero_filled")),
        zero_shot if any(v is not None for v in zero_shot.values()) else None,
        recalls if any(v is not None for v in recalls.values()) else None,
    )
    return dict(zip(MORE_KEYS, values, strict=True))


def class_recall(results: Results, command: str, cell: str) -> Figure | None:
    """Return the share of objects whose nearest other object in another sensor is of their class, by seed."""
    found = {int(r["seed"]): r["retrieval"]["recall_at_1"].values() for r in results.of(command, cell)}
    return Figure.of({seed: {WHOLE: mean(pair["class"] for pair in pairs)} for seed, pairs in found.items()})


def _rounded(figure: Figure | None) -> float | None:
    return None if figure is None else round(figure.value, 5)


def _finite(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None


def fullest(all_results: list[Results]) -> Results | None:
    """Return the recipe with the most key figures; the larger one where two have as many."""
    if not all_results:
        return None

    def filled_in(results: Results) -> int:
        return sum(f is not None for f in key_figures(results).values()) + len(gaps.gap_closed(results))

    return max(all_results, key=filled_in)


def _ratio(above: Figure | None, below: Figure | None) -> Interval | None:
    """Return one figure over another, on shared seeds; none where either is missing or both are nothing."""
    if above is None or below is None or not (above.value or below.value):
        return None
    return compare(ratio, above, below)


def _alone(figure: Figure | None) -> Interval | None:
    return compare(lambda value: value, figure)


def _saved(results: Results) -> ClaimTarget:
    """Return the claim that IMU and GNSS are of use where odometry is lost."""
    kept, blind = (results.score("robustness", "odometry", LOST_ODOMETRY[i]) for i in (0, -1))
    made_of = ", ".join("not run" if figure is None else figure.text() for figure in (kept, blind))
    words = "NDS that IMU and GNSS save where odometry is lost at 8 m/s and more"
    return ClaimTarget(words, 0.0, compare(difference, kept, blind), made_of)


def _against(results: Results, baseline: str) -> ClaimTarget:
    """Return the claim that no baseline has more NDS with all sensors."""
    mine, theirs = results.score("robustness", "subsets", subset=ALL), results.score("baselines", baseline)
    made_of = ", ".join("not run" if figure is None else figure.text() for figure in (mine, theirs))
    return ClaimTarget(
        f"NDS with all sensors, less that of {against.WORDS[baseline]}", 0.0, compare(difference, mine, theirs), made_of
    )


def _gap_claims(results: Results) -> list[ClaimTarget]:
    """Return the claims on the gaps that were run."""
    found = []
    for gap in GAPS:
        for few, least in ((0, gaps.LEAST_ALL), (gaps.FEW, gaps.LEAST_FEW)):
            if (share := gaps.closed(results, gap, few)) is not None:
                figures = [gaps.nds(results, gap, mode, few) for mode in ("peft", "full", "base")]
                made_of = ", ".join(f.text() for f in figures if f)
                words = f"Share of gap `{gap.name}` that PEFT closes, {few or 'all'} scenes"
                found.append(ClaimTarget(words, least, share, made_of, word=gaps.verdict(results, gap, few)))
                words = f"NDS of PEFT on gap `{gap.name}`, less that of full fine-tuning, {few or 'all'} scenes"
                found.append(ClaimTarget(words, 0.0, compare(difference, *figures[:2]), made_of))
        if (lost := gaps.forgotten(results, gap)) is not None:
            kept = Interval(-lost.value, -lost.high, -lost.low, lost.by_seed, lost.scenes)
            words = f"Gained on the source after adapting to `{gap.name}` (less than 0 is forgotten)"
            found.append(ClaimTarget(words, -gaps.MOST_FORGOTTEN, kept, "NDS, the adapter on"))
    return found


def targets(results: Results) -> list[ClaimTarget]:
    """Return the issue's targets with what was measured."""
    f = key_figures(results)

    def texts(*keys: str) -> str:
        return ", ".join("not run" if (figure := f[key]) is None else figure.text() for key in keys)

    weak = any((figure := f[key]) is not None and figure.value < LEAST_NDS for key in ("nds_full", "nds_full_finetune"))
    nothing = (pairs := f["zero_shot_ap"]) is not None and pairs.value < LEAST_AP
    together = zero_shot_ap(results, "_together")
    lift = _ratio(f["zero_shot_ap"], f["zero_shot_ap_without_metric_loss"])
    found = [
        ClaimTarget(
            "PEFT keeps full fine-tuning's NDS",
            0.98,
            _ratio(f["nds_peft"], f["nds_full_finetune"]),
            texts("nds_peft", "nds_full_finetune"),
        ),
        ClaimTarget(
            "NDS kept without LiDAR", 0.70, _ratio(f["nds_no_lidar"], f["nds_full"]), texts("nds_no_lidar", "nds_full")
        ),
        ClaimTarget(
            "NDS kept without cameras",
            0.97,
            _ratio(f["nds_no_camera"], f["nds_full"]),
            texts("nds_no_camera", "nds_full"),
        ),
        ClaimTarget(
            "No-LiDAR NDS, times the zero-filled baseline's",
            3.0,
            _ratio(f["nds_no_lidar"], f["nds_zero_filled_no_lidar"]),
            texts("nds_no_lidar", "nds_zero_filled_no_lidar"),
        ),
        ClaimTarget("mRA, radar corrupted too", 0.90, _alone(f["mra"]), texts("mra")),
        ClaimTarget(
            "Corrupted cells, radar too, in which no baseline is better, of 30",
            against.LEAST_WON,
            _alone(wins := against.won(results, NOISY)),
            "not run" if wins is None else wins.text(1),
        ),
        *(_against(results, baseline) for baseline in BASELINES),
        _saved(results),
        ClaimTarget(
            "Zero-shot AP with the metric loss, times that without",
            1.20,
            lift,
            texts("zero_shot_ap", "zero_shot_ap_without_metric_loss"),
            weak=nothing and together is not None and together.value < LEAST_AP,
            nothing=nothing,
        ),
    ]
    return [*_gap_claims(results), *(replace(target, weak=weak or target.weak) for target in found)]
