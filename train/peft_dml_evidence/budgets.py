# SPDX-License-Identifier: Apache-2.0
"""How long each recipe trains in the evidence: overrides that come before those of a cell."""

from pathlib import Path

#: The second stage's target in simulation, as in demo.yaml
TARGET_WEATHER = "finetune.weather=[clear, clear, clear, clear, rain=10, rain=40, fog=80, snow=3]"

#: By the recipe's name. `tiny` itself trains for four steps on a grid that no pedestrian fits: here it gets what it
#: needs to say something on two cores.
BUDGETS: dict[str, tuple[str, ...]] = {
    "tiny": (
        "bfloat16=false",
        "spec.grid.size=64",
        "spec.lidar.pillar_grid=128",
        "spec.lidar.pillars=4000",
        "spec.radar.pillars=400",
        "spec.candidates=300",
        "pretrain.steps=1600",
        "pretrain.batch=4",
        "pretrain.rate=0.003",
        "pretrain.ramp=0.1",
        "pretrain.checkpoint_every=200",
        "finetune.steps=500",
        "finetune.batch=4",
        "finetune.rate=0.0015",
        "finetune.checkpoint_every=200",
        "dropout.degraded_portion=0.1",
        TARGET_WEATHER,
    ),
    "demo": ("pretrain.checkpoint_every=200", "finetune.checkpoint_every=200"),
    "near": (),
    "fresh": (),
    "one_town": (),
    "nuscenes": (),
}


def recipe_file(config: str) -> Path:
    """Return the YAML file of a shipped recipe."""
    return Path(__file__).parents[1] / "configs" / f"{config}.yaml"
