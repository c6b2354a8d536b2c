# SPDX-License-Identifier: Apache-2.0
"""Cells of what was never trained together."""

from peft_dml_evidence.cells import KEY_SEEDS, NO_METRIC, Cell, TrainingPlan
from peft_dml_ros.core.classes import DETECTING

#: The only classes that less than half of the simulated frames hold, so that most frames keep the modality
ZERO_SHOT_CLASSES = ("traffic_cone", "barrier")

#: Pairs that one network is trained without: each modality lacks one class at most, three networks serve six pairs
ZERO_SHOT_TOGETHER = {
    "lidar": (("lidar", "traffic_cone"), ("camera", "barrier")),
    "camera": (("camera", "traffic_cone"), ("radar", "barrier")),
    "radar": (("radar", "traffic_cone"), ("lidar", "barrier")),
}

#: Of zero-shot networks: the full pass would teach a modality what it must not have seen
WHOLE = ("losses.consistency=0",)


def zero_shot() -> list[Cell]:
    """Return cells of modality-class pairs never trained together, tested by that modality; and the shared space."""
    cells = []
    for pairs in ZERO_SHOT_TOGETHER.values():
        for suffix, words, more in (("", "", ()), ("_without_metric_loss", ", without metric loss", NO_METRIC)):
            plan = without_pairs(pairs, *more)
            for m, c in pairs:
                about = f"{c} by {m} alone, never trained together{words}"
                cells.append(Cell("zero-shot", f"{m}_{c}{suffix}", about, plan, (f"{m} only",), seeds=KEY_SEEDS))
    together = TrainingPlan(base=WHOLE, fresh=True)
    for m in DETECTING:
        about = f"{m} alone, all classes trained together"
        cells.append(Cell("zero-shot", f"{m}_together", about, together, (f"{m} only",), seeds=KEY_SEEDS))
    words = "Recall@1 between modalities, embedding map"
    for name, about, more in (
        ("retrieval", words, ()),
        ("retrieval_without_metric_loss", f"{words}, without metric loss", NO_METRIC),
    ):
        plan = TrainingPlan(base=more)
        cells.append(Cell("zero-shot", name, about, plan, measure="retrieval", seeds=KEY_SEEDS))
    return cells


def without_pairs(pairs: tuple[tuple[str, str], ...], *more: str) -> TrainingPlan:
    """Return a plan whose encoders know every class, and whose adaptation never sees these modalities and classes.

    What reads the encoders starts fresh in the adaptation: nothing behind them ever had the pair.
    """
    withheld = ", ".join(f"{m}:{c}" for m, c in pairs)
    return TrainingPlan(base=(*WHOLE, *more), adapt=(f"withheld=[{withheld}]",), fresh=True)
