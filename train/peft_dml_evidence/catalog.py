# SPDX-License-Identifier: Apache-2.0
"""All cells of the evidence, by command."""

from collections.abc import Callable
from typing import Any

from peft_dml_evidence.baseline_cells import CORRUPTED, NOISY, RADAR_CORRUPTED, SEVERITIES, WEATHER, baselines
from peft_dml_evidence.cells import (
    EVERY_SUBSET,
    KEY_SEEDS,
    MAIN_SUBSETS,
    PROPOSED,
    STANDARD,
    TARGET_LOOKS,
    Cell,
    ScenePick,
    TrainingPlan,
)
from peft_dml_evidence.component_cells import ablate, weights
from peft_dml_evidence.frame_conditions import LOST_ODOMETRY
from peft_dml_evidence.gap_cells import domains
from peft_dml_evidence.zero_shot import zero_shot
from peft_dml_ros.core.classes import DETECTING
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.spec import CameraSpec
from peft_dml_tools.sim.vehicle_rig import make_rig

CAMERAS = CameraSpec().cameras
RADARS = tuple(sensor.name for sensor in make_rig().of("radar"))
RANKS = (4, 8, 16)


def robustness() -> list[Cell]:
    """Return cells of the proposed network without some sensors, with worse ones, and in weather."""

    def cell(name: str, about: str, looks: tuple[str, ...], subsets: tuple[str, ...] = ("all",), **more: Any) -> Cell:
        return Cell("robustness", name, about, looks=("clear", *looks), subsets=subsets, **more)

    beams = tuple(f"beamsreducing/{s}" for s in SEVERITIES)
    fast = ScenePick("test", "fast")
    late = tuple(f"{kind}:{m}" for kind in ("frozen", "delayed") for m in DETECTING)
    return [
        Cell("robustness", "subsets", "All 31 subsets of five sensors", subsets=EVERY_SUBSET, seeds=KEY_SEEDS),
        cell("weather", "Fog, rain and snow on all sensors at once", WEATHER, STANDARD, seeds=KEY_SEEDS),
        cell("multicorrupt", "MultiCorrupt's ten types at three severities", CORRUPTED, seeds=KEY_SEEDS),
        cell(
            "multicorrupt_radar",
            "The same with four kinds of radar noise on top",
            (*NOISY, *RADAR_CORRUPTED),
            seeds=KEY_SEEDS,
        ),
        cell("one_lost", "One camera or one radar lost", tuple(f"lost:{s}" for s in (*CAMERAS, *RADARS)), MAIN_SUBSETS),
        cell("beams", "LiDAR with 16, 8 and 4 beams", beams, ("all", "no camera", "lidar only")),
        cell(
            "field_of_view",
            "LiDAR that sees ±90° and ±60° only",
            ("field_of_view/1", "field_of_view/2"),
            ("all", "no camera", "lidar only"),
        ),
        cell("late", "A modality half a second old, with its true stamps (delayed) or new ones (frozen)", late),
        cell("odometry", "Odometry lost at 8 m/s and more", LOST_ODOMETRY, test=fast, seeds=KEY_SEEDS),
    ]


def ranks() -> list[Cell]:
    """Return what the second stage may change, on the same data and for the same steps."""

    def cell(name: str, about: str, plan: TrainingPlan) -> Cell:
        return Cell("ranks", name, about, plan, MAIN_SUBSETS, TARGET_LOOKS, seeds=KEY_SEEDS)

    ranked = [
        cell(f"rank{r}", f"LoRA rank {r}", TrainingPlan(adapt=(f"adapters.rank={r}", f"adapters.alpha={2 * r}")))
        for r in RANKS
    ]
    return [
        cell("peft", "PEFT at the recipe's own rank", PROPOSED),
        cell("full", "Full fine-tuning", TrainingPlan("full")),
        cell("head", "Projections, fusion and head only", TrainingPlan("head")),
        cell("scratch", "From scratch", TrainingPlan("scratch")),
        cell("base", "Not fine-tuned", TrainingPlan("base")),
        *ranked,
    ]


def cost() -> list[Cell]:
    """Return what each subset costs, and what attention and gate cost against plainer fusions."""
    words = "Parameters, operations, latency and CPU seconds by subset"
    plainer = ("concatenate", "average")
    return [
        Cell("cost", "subsets", words, TrainingPlan("untrained"), EVERY_SUBSET, measure="cost"),
        *(
            Cell("cost", kind, f"{words}, fusion {kind}", _untrained(kind), ("all",), measure="cost")
            for kind in plainer
        ),
    ]


def _untrained(fusion: str) -> TrainingPlan:
    return TrainingPlan("untrained", (f"network.fusion={fusion}",))


COMMANDS: dict[str, Callable[[], list[Cell]]] = {
    "robustness": robustness,
    "ablate": ablate,
    "ranks": ranks,
    "zero-shot": zero_shot,
    "domains": domains,
    "baselines": baselines,
    "cost": cost,
    "weights": weights,
}

#: What `evidence` runs first: every claim with one seed before any with three, and what needs most weights early
FIRST: tuple[tuple[str, tuple[str, ...], int], ...] = (
    # command, cells (all of it when none is named), seeds at most
    ("robustness", ("subsets",), 1),
    ("baselines", ("zero_filled", "averaging"), 1),
    ("ranks", ("full", "peft"), 1),
    ("cost", (), 1),
    ("zero-shot", (), 1),
    ("robustness", ("multicorrupt_radar", "weather", "odometry"), 1),
    ("baselines", ("zero_filled_multicorrupt_radar", "averaging_multicorrupt_radar"), 1),
    ("domains", (), 1),
    ("ranks", ("full", "peft"), 3),
    ("robustness", ("subsets",), 3),
    ("domains", (), 3),
    ("baselines", (), 3),
    ("robustness", (), 3),
    ("ablate", (), 3),
    ("ranks", (), 3),
    ("zero-shot", (), 3),
    ("weights", (), 3),
)

RENAMED = {"ours": "it is called 'complete' now"}


def choose(cells: list[Cell], names: list[str]) -> list[Cell]:
    """Return the named cells, in the catalogue's order; all when none is named. Raises ConfigError: no such cell."""
    known = {cell.name for cell in cells}
    for name in names:
        if name not in known:
            raise ConfigError(f"no cell '{name}'; {RENAMED.get(name) or nearest(name, known)}")
    return [cell for cell in cells if not names or cell.name in names]


def by_importance() -> list[tuple[Cell, int]]:
    """Return all cells and seeds, each once."""
    found: dict[tuple[str, str, int], tuple[Cell, int]] = {}
    for command, names, seeds in FIRST:
        for cell in choose(COMMANDS[command](), list(names)):
            for seed in cell.seeds[:seeds]:
                found.setdefault((command, cell.name, seed), (cell, seed))
    return list(found.values())
