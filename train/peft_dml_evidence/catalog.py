# SPDX-License-Identifier: Apache-2.0
"""All cells of the evidence, by command."""

from collections.abc import Callable

from peft_dml_evidence.cells import (
    EVERY_SUBSET,
    KEY_SEEDS,
    MAIN_SUBSETS,
    NO_METRIC,
    PROPOSED,
    STANDARD,
    TARGET_LOOKS,
    Cell,
    Mode,
    TrainingPlan,
)
from peft_dml_evidence.gap_cells import domains
from peft_dml_evidence.looks import WITH_RADAR
from peft_dml_evidence.remedies import remedies
from peft_dml_evidence.zero_shot import zero_shot
from peft_dml_ros.core.classes import DETECTING
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.spec import CameraSpec
from peft_dml_tools.sim.corruptions import MULTICORRUPT, RADAR_NOISE
from peft_dml_tools.sim.vehicle_rig import make_rig

SEVERITIES = (1, 2, 3)
CAMERAS = CameraSpec().cameras
RADARS = tuple(sensor.name for sensor in make_rig().of("radar"))
WEATHER = ("fog=200", "fog=100", "fog=50", "rain=10", "rain=25", "rain=50", "snow=1", "snow=2.5", "snow=5")
"""Three severities each: visibility in m, rates in mm/h."""

RANKS = (4, 8, 16)
NO_DROPOUT = tuple(f"dropout.{m}=0" for m in ("lidar", "camera", "radar", "imu", "gnss"))
NO_DEGRADATION = (*NO_DROPOUT, *(f"dropout.{k}=0" for k in ("single_camera", "sweep", "stale", "corruption", "late_s")))
DETECTION_ALONE = (*NO_METRIC, "losses.consistency=0", "losses.gate=0", "losses.single=0")
ZERO_FILLED = TrainingPlan(base=("network.fusion=concatenate", *NO_DEGRADATION, *DETECTION_ALONE))
AVERAGING = TrainingPlan(base=("network.fusion=average", *NO_METRIC, "losses.consistency=0", "losses.gate=0"))

CORRUPTED = tuple(f"{name}/{s}" for name in MULTICORRUPT for s in SEVERITIES)
RADAR_CORRUPTED = tuple(f"{name}/{s}" for name in RADAR_NOISE for s in SEVERITIES)


def robustness() -> list[Cell]:
    """Return cells of the proposed network without some sensors, with worse ones, and in weather."""

    def cell(name: str, about: str, looks: tuple[str, ...], subsets: tuple[str, ...] = ("all",)) -> Cell:
        return Cell("robustness", name, about, looks=("clear", *looks), subsets=subsets)

    beams = tuple(f"beamsreducing/{s}" for s in SEVERITIES)
    late = tuple(f"{kind}:{m}" for kind in ("frozen", "delayed") for m in DETECTING)
    noisy = tuple(f"{look}{WITH_RADAR}" for look in CORRUPTED)
    return [
        Cell("robustness", "subsets", "All 31 subsets of five sensors", subsets=EVERY_SUBSET, seeds=KEY_SEEDS),
        cell("weather", "Fog, rain and snow on all sensors at once", WEATHER, STANDARD),
        cell("multicorrupt", "MultiCorrupt's ten types at three severities", CORRUPTED),
        cell("multicorrupt_radar", "The same with four kinds of radar noise on top", (*noisy, *RADAR_CORRUPTED)),
        cell("one_lost", "One camera or one radar lost", tuple(f"lost:{s}" for s in (*CAMERAS, *RADARS)), MAIN_SUBSETS),
        cell("beams", "LiDAR with 16, 8 and 4 beams", beams, ("all", "no camera", "lidar only")),
        cell(
            "field_of_view",
            "LiDAR that sees ±90° and ±60° only",
            ("field_of_view/1", "field_of_view/2"),
            ("all", "no camera", "lidar only"),
        ),
        cell("late", "A modality half a second old, with its true stamps (delayed) or new ones (frozen)", late),
    ]


def ablate() -> list[Cell]:
    """Return cells of the proposed network with one part left out."""
    parts: tuple[tuple[str, str, Mode, tuple[str, ...]], ...] = (
        ("complete", "Everything", "peft", ()),
        ("no_lora", "Without low-rank adapters", "no_lora", ()),
        ("no_adapters", "Without bottleneck adapters", "no_adapters", ()),
        ("no_cross_attention", "Without cross-attention: the gate alone weighs", "peft", ("network.fusion=gate",)),
        ("no_gate", "Without gate: attention alone", "peft", ("network.fusion=attention", "losses.gate=0")),
        ("no_metric_loss", "Without metric loss", "peft", NO_METRIC),
        ("no_consistency", "Without consistency", "peft", ("losses.consistency=0",)),
        ("no_modality_dropout", "Without modality dropout", "peft", NO_DROPOUT),
        ("no_gate_supervision", "Without gate supervision", "peft", ("losses.gate=0",)),
    )
    return [
        Cell("ablate", name, about, TrainingPlan(mode, base), MAIN_SUBSETS, TARGET_LOOKS)
        for name, about, mode, base in parts
    ]


def ranks() -> list[Cell]:
    """Return what the second stage may change, on the same data and for the same steps."""

    def cell(name: str, about: str, plan: TrainingPlan, *, key: bool = False) -> Cell:
        return Cell("ranks", name, about, plan, MAIN_SUBSETS, TARGET_LOOKS, seeds=KEY_SEEDS if key else KEY_SEEDS[:1])

    ranked = [
        cell(f"rank{r}", f"LoRA rank {r}", TrainingPlan(adapt=(f"adapters.rank={r}", f"adapters.alpha={2 * r}")))
        for r in RANKS
    ]
    return [
        cell("peft", "PEFT at the recipe's own rank", PROPOSED, key=True),
        cell("full", "Full fine-tuning", TrainingPlan("full"), key=True),
        cell("head", "Projections, fusion and head only", TrainingPlan("head")),
        cell("scratch", "From scratch", TrainingPlan("scratch")),
        cell("base", "Not fine-tuned", TrainingPlan("base")),
        *ranked,
    ]


def baselines() -> list[Cell]:
    """Return cells of other systems' ways in the same harness, and one specialist for each set of sensors."""
    cells = [
        Cell(
            "baselines",
            "zero_filled",
            "Concatenation, zeros for what is missing, no dropout in training (BEVFusion's way)",
            ZERO_FILLED,
            STANDARD,
            seeds=KEY_SEEDS,
        ),
        Cell(
            "baselines",
            "averaging",
            "Mean over what is there, with modality dropout (UniBEV's way)",
            AVERAGING,
            STANDARD,
        ),
        Cell(
            "baselines",
            "zero_filled_multicorrupt",
            "The reference of the relative resilience",
            ZERO_FILLED,
            looks=("clear", *CORRUPTED),
        ),
    ]
    for name, sensors in (("lidar", ("lidar",)), ("camera", ("camera",)), ("radar_camera", ("camera", "radar"))):
        base = (f"sensors=[{', '.join(sensors)}]", *NO_DROPOUT, *DETECTION_ALONE)
        # A pasted sample has no camera.
        base += ("pretrain.paste=0", "finetune.paste=0") if "camera" in sensors else ()
        about = f"Specialist for {' and '.join(sensors)}"
        cells.append(Cell("baselines", f"only_{name}", about, TrainingPlan(base=base), ("+".join(sensors),)))
    return cells


def cost() -> list[Cell]:
    """Return what each subset costs."""
    return [
        Cell(
            "cost",
            "subsets",
            "Parameters, operations, latency and CPU seconds by subset",
            TrainingPlan("untrained"),
            EVERY_SUBSET,
            measure="cost",
        )
    ]


COMMANDS: dict[str, Callable[[], list[Cell]]] = {
    "robustness": robustness,
    "ablate": ablate,
    "ranks": ranks,
    "zero-shot": zero_shot,
    "domains": domains,
    "baselines": baselines,
    "cost": cost,
    "remedies": remedies,
}

FIRST: tuple[tuple[str, tuple[str, ...], int], ...] = (
    # command, cells (all of it when none is named), seeds at most
    ("robustness", ("subsets",), 1),
    ("baselines", ("zero_filled",), 1),
    ("ranks", ("full", "peft"), 1),
    ("cost", (), 1),
    ("zero-shot", (), 1),
    ("robustness", ("multicorrupt_radar", "weather"), 1),
    ("ranks", ("full", "peft"), 3),
    ("robustness", ("subsets",), 3),
    ("baselines", ("zero_filled",), 3),
    ("ablate", (), 1),
    ("ranks", (), 1),
    ("baselines", ("averaging", "only_lidar", "only_camera", "only_radar_camera"), 1),
    ("domains", (), 3),
    ("robustness", ("late", "one_lost", "beams", "field_of_view", "multicorrupt"), 1),
    ("baselines", (), 3),
)
"""What `evidence` runs first: every claim with one seed before any with three, and what needs most weights early."""

RENAMED = {"ours": "it is called 'complete' now"}


def choose(cells: list[Cell], names: list[str]) -> list[Cell]:
    """Return the named cells, in the catalogue's order; all when none is named.

    Raises:
        ConfigError: no such cell.
    """
    known = {cell.name for cell in cells}
    for name in names:
        if name not in known:
            raise ConfigError(f"no cell '{name}'; {RENAMED.get(name) or nearest(name, known)}")
    return [cell for cell in cells if not names or cell.name in names]


def by_importance() -> list[tuple[Cell, int]]:
    """Return all cells and seeds but the remedies, which are run where a target is missed."""
    found: dict[tuple[str, str, int], tuple[Cell, int]] = {}
    for command, names, seeds in FIRST:
        for cell in choose(COMMANDS[command](), list(names)):
            for seed in cell.seeds[:seeds]:
                found.setdefault((command, cell.name, seed), (cell, seed))
    return list(found.values())
