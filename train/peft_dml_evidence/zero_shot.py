# SPDX-License-Identifier: Apache-2.0
"""Cells of what was never trained together."""

from peft_dml_evidence.cells import NO_METRIC, Cell, TrainingPlan
from peft_dml_ros.core.classes import DETECTING

ZERO_SHOT_CLASSES = ("traffic_cone", "barrier")
"""The only classes that less than half of the simulated frames hold, so that most frames keep the modality."""

ZERO_SHOT_TOGETHER = {
    "lidar": (("lidar", "traffic_cone"), ("camera", "barrier")),
    "camera": (("camera", "traffic_cone"), ("radar", "barrier")),
    "radar": (("radar", "traffic_cone"), ("lidar", "barrier")),
}
"""Pairs that one network is trained without: each modality lacks one class at most, three networks serve six pairs."""

WHOLE = ("losses.consistency=0",)
"""Of zero-shot networks: the full pass would teach a modality what it must not have seen."""


def zero_shot() -> list[Cell]:
    """Return cells of modality-class pairs never trained together, tested by that modality; and the shared space."""
    cells = []
    for pairs in ZERO_SHOT_TOGETHER.values():
        for suffix, words, more in (("", "", ()), ("_without_metric_loss", ", without metric loss", NO_METRIC)):
            plan = without_pairs(pairs, *more)
            for m, c in pairs:
                about = f"{c} by {m} alone, never trained together{words}"
                cells.append(Cell("zero-shot", f"{m}_{c}{suffix}", about, plan, (f"{m} only",)))
    together = TrainingPlan("base", WHOLE)
    cells += [
        Cell("zero-shot", f"{m}_together", f"{m} alone, all classes trained together", together, (f"{m} only",))
        for m in DETECTING
    ]
    with_loss = Cell("zero-shot", "retrieval", "Recall@1 between modalities, embedding map", measure="retrieval")
    without = Cell(
        "zero-shot",
        "retrieval_without_metric_loss",
        "The same without metric loss",
        TrainingPlan(base=NO_METRIC),
        measure="retrieval",
    )
    return [*cells, with_loss, without]


def without_pairs(pairs: tuple[tuple[str, str], ...], *more: str, how: str = "") -> TrainingPlan:
    """Return a base that never sees these modalities and classes together, or so without labels alone."""
    withheld = ", ".join(f"{m}:{c}{how}" for m, c in pairs)
    return TrainingPlan("base", (f"withheld=[{withheld}]", *WHOLE, *more))
