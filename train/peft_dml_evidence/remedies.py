# SPDX-License-Identifier: Apache-2.0
"""Cells of what may help where a target is missed."""

from peft_dml_evidence.cells import MAIN_SUBSETS, NO_METRIC, TARGET_LOOKS, Cell, TrainingPlan
from peft_dml_evidence.looks import WITH_RADAR
from peft_dml_evidence.zero_shot import ZERO_SHOT_TOGETHER, without_pairs
from peft_dml_tools.sim.corruptions import MULTICORRUPT
from peft_dml_train.data.withheld import UNLABELLED

HEAVY_WEATHER = "finetune.weather=[clear, clear, clear, rain=25, rain=50, fog=50, fog=100, snow=2.5, snow=5]"

CONTRASTIVE = "losses.metric=contrastive"
NOISY_RADAR = (
    "finetune.weather=[clear, clear, clear, rain=10, rain=40, fog=80, radar_noise/1, radar_noise/2, radar_noise/3]"
)

REMEDY_PAIRS = "lidar"
"""Zero-shot pairs that remedies of the metric loss are tried on."""

REMEDY_LOOKS = (*TARGET_LOOKS, *(f"{name}/2{WITH_RADAR}" for name in MULTICORRUPT))
"""Remedies against corruptions are tried at the middle severity."""


def remedies() -> list[Cell]:
    """Return what may help where a target is missed; each changes one thing, most in the second stage."""
    wide = ("adapters.rank=16", "adapters.alpha=32", "adapters.bottleneck=16")
    second: tuple[tuple[str, str, TrainingPlan], ...] = (
        ("longer", "Second stage twice as long", TrainingPlan(longer=2)),
        ("rate", "Second stage at twice the rate", TrainingPlan(adapt=("finetune.rate=0.003",))),
        (
            "wide",
            "Rank 16, bottleneck 16",
            TrainingPlan(adapt=wide),
        ),
        ("lidar_dropout", "LiDAR dropped more often, .7", TrainingPlan(adapt=("dropout.lidar=0.7",))),
        ("camera_dropout", "Cameras dropped more often, .7", TrainingPlan(adapt=("dropout.camera=0.7",))),
        ("consistency", "Consistency weighs three times as much", TrainingPlan(adapt=("losses.consistency=1.5",))),
        ("single", "Each modality detects alone, weight 1", TrainingPlan(adapt=("losses.single=1.0",))),
    )
    harder: tuple[tuple[str, str, TrainingPlan], ...] = (
        ("corruption", "Corruption twice as often", TrainingPlan(adapt=("dropout.corruption=0.6",))),
        ("gate", "Gate supervision weighs 1", TrainingPlan(adapt=("losses.gate=1.0",))),
        ("radar_noise", "Second stage with radar noise in a third of the frames", TrainingPlan(adapt=(NOISY_RADAR,))),
        ("heavy_weather", "Second stage in heavier weather", TrainingPlan(adapt=(HEAVY_WEATHER,))),
    )
    metric: tuple[tuple[str, str, tuple[str, ...]], ...] = (
        ("metric_weight", "Metric loss weighs four times as much", ("losses.alignment=0.2", "losses.instance=0.2")),
        ("metric_margin", "Wider margins", ("losses.alignment_margin=0.6", "losses.instance_margin=0.3")),
        ("metric_contrastive", "Supervised contrast instead of triplets", (CONTRASTIVE,)),
    )
    pairs = ZERO_SHOT_TOGETHER[REMEDY_PAIRS]
    alone = tuple(f"{m} only" for m, _ in pairs)
    unlabelled = (
        ("metric_unlabelled", "The modality meets the class unlabelled: only the loss on instances sees both", ()),
        ("metric_unlabelled_contrastive", "The same with supervised contrast", (CONTRASTIVE,)),
        ("metric_unlabelled_without", "The same without metric loss", NO_METRIC),
    )
    contrastive = TrainingPlan(base=(CONTRASTIVE,))
    return [
        Cell("remedies", "contrastive", "Supervised contrast, both stages", contrastive, MAIN_SUBSETS, TARGET_LOOKS),
        Cell("remedies", "retrieval_contrastive", "Its embeddings", contrastive, measure="retrieval"),
        *(Cell("remedies", name, about, plan, MAIN_SUBSETS, TARGET_LOOKS) for name, about, plan in second),
        *(Cell("remedies", name, about, plan, MAIN_SUBSETS, REMEDY_LOOKS) for name, about, plan in harder),
        *(Cell("remedies", name, about, without_pairs(pairs, *more), alone) for name, about, more in metric),
        *(
            Cell("remedies", name, about, without_pairs(pairs, *more, how=f":{UNLABELLED}"), alone)
            for name, about, more in unlabelled
        ),
    ]
