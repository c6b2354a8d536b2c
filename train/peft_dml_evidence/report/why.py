# SPDX-License-Identifier: Apache-2.0
"""Why a target is missed, as far as the cells tell; one paragraph each, made of their figures."""

from peft_dml_evidence.report.markdown import number
from peft_dml_evidence.report.results import Results
from peft_dml_evidence.report.summary import NO_RADAR, targets, zero_shot_ap


def _zero_filled(results: Results) -> str:
    theirs = [results.score("baselines", "zero_filled", subset=s) for s in ("no lidar", "radar only", "camera only")]
    proposed = [results.proposed(s) for s in ("no lidar", "radar only", "camera only")]
    a, b = ([number(f) for f in figures] for figures in (theirs, proposed))
    return (
        "The baseline is not blind without LiDAR, it has the radar: NDS "
        f"{a[0]} without LiDAR, {a[1]} by radar alone, {a[2]} by cameras alone; PEFT-DML {b[0]}, {b[1]}, {b[2]}. "
        "BEVFusion's tenth, which the target comes from, is that of cameras alone."
    )


def _resistance(results: Results) -> str:
    without = results.score("robustness", "subsets", subset=NO_RADAR)
    worst = results.score("robustness", "multicorrupt_radar", "dark/3+radar")
    a = [number(f) for f in (results.mean_resistance(radar=False), worst, without)]
    text = (
        f"With a clean radar mRA is {a[0]}; what is lost is lost to the radar's noise. At severity 3, in the dark, NDS "
        f"is {a[1]}, that of the network without any radar {a[2]}."
    )
    lies = worst is not None and without is not None and worst.value < without.value
    return text + (" The gate does not turn away from a radar that lies." if lies else "")


def _zero_shot(results: Results) -> str:
    together = number(zero_shot_ap(results, "_together"))
    return (
        "What reads the withheld modality has never met the class by it: aligned or not, it finds nothing there; "
        f"trained together the same sensors reach a mean AP of {together}."
    )


REASONS = {
    "No-LiDAR NDS, times the zero-filled baseline's": _zero_filled,
    "mRA, radar corrupted too": _resistance,
    "Zero-shot AP with the metric loss, times that without": _zero_shot,
}


def why(results: Results) -> list[str]:
    """Return a list of the claims whose figure is below the target, and what is behind each."""
    below = [t.claim for t in targets(results) if t.found is not None and t.found.value < t.least]
    missed = [claim for claim in below if claim in REASONS]
    return [*(f"- **{claim}.** {REASONS[claim](results)}" for claim in missed), *([""] if missed else [])]
