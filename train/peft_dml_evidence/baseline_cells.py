# SPDX-License-Identifier: Apache-2.0
"""Cells of other systems' fusions in the same harness, wherever the proposed one is tested, and of specialists."""

from typing import Final

from peft_dml_evidence.cells import KEY_SEEDS, NO_METRIC, STANDARD, Cell, TrainingPlan
from peft_dml_evidence.component_cells import NO_DROPOUT
from peft_dml_evidence.frame_conditions import WITH_RADAR
from peft_dml_ros.core.classes import MODALITIES
from peft_dml_tools.sim.corruptions import MULTICORRUPT, RADAR_NOISE

SEVERITIES: Final = (1, 2, 3)
#: Three severities each: visibility in m, rates in mm/h
WEATHER: Final = (
    "fog=200", "fog=100", "fog=50", "rain=10", "rain=25", "rain=50", "snow=1", "snow=2.5", "snow=5",
)  # fmt: skip

NO_DEGRADATION: Final = (
    *NO_DROPOUT,
    *(f"dropout.{k}=0" for k in ("single_camera", "sweep", "stale", "corruption", "late_s")),
)
DETECTION_ALONE: Final = (*NO_METRIC, "losses.consistency=0", "losses.gate=0", "losses.single=0")
ZERO_FILLED: Final = TrainingPlan(base=("network.fusion=concatenate", *NO_DEGRADATION, *DETECTION_ALONE))
AVERAGING: Final = TrainingPlan(base=("network.fusion=average", *NO_METRIC, "losses.consistency=0", "losses.gate=0"))
BASELINES: Final = {
    "zero_filled": ("Concatenation, zeros for what is missing, no dropout in training (BEVFusion's way)", ZERO_FILLED),
    "averaging": ("Mean over what is there, with modality dropout (UniBEV's way)", AVERAGING),
}

CORRUPTED: Final = tuple(f"{name}/{s}" for name in MULTICORRUPT for s in SEVERITIES)
NOISY: Final = tuple(f"{look}{WITH_RADAR}" for look in CORRUPTED)
RADAR_CORRUPTED: Final = tuple(f"{name}/{s}" for name in RADAR_NOISE for s in SEVERITIES)
#: Looks and subsets by the cell of `robustness` that each baseline is held against
HELD_AGAINST: Final = {
    "multicorrupt": (CORRUPTED, ("all",)),
    "multicorrupt_radar": ((*NOISY, *RADAR_CORRUPTED), ("all",)),
    "weather": (WEATHER, STANDARD),
}


def baselines() -> list[Cell]:
    """Return cells of other systems' ways, specialists, and the proposed network trained with ever more sensors."""
    cells = []
    for name, (about, plan) in BASELINES.items():
        cells.append(Cell("baselines", name, about, plan, STANDARD, seeds=KEY_SEEDS))
        for look, (looks, subsets) in HELD_AGAINST.items():
            words = f"{about}: {look.replace('_', ' with noisy ')}"
            cells.append(Cell("baselines", f"{name}_{look}", words, plan, subsets, ("clear", *looks), seeds=KEY_SEEDS))
    return [*cells, *specialists(), *added()]


def specialists() -> list[Cell]:
    """Return networks of few sensors, trained for these alone."""
    cells = []
    for name, sensors in (("lidar", ("lidar",)), ("camera", ("camera",)), ("radar_camera", ("camera", "radar"))):
        about = f"Specialist for {' and '.join(sensors)}"
        plan = TrainingPlan(base=(f"sensors=[{', '.join(sensors)}]", *NO_DROPOUT, *DETECTION_ALONE, *_pasted(*sensors)))
        cells.append(Cell("baselines", f"only_{name}", about, plan, ("+".join(sensors),), seeds=KEY_SEEDS))
    return cells


def added() -> list[Cell]:
    """Return the proposed network trained with the first sensors alone, one more in each cell."""
    cells = []
    for count in range(1, len(MODALITIES)):
        sensors = MODALITIES[:count]
        base = (f"sensors=[{', '.join(sensors)}]", *_pasted(*sensors))
        about = f"Trained and tested with {', '.join(sensors)}"
        plan = TrainingPlan(base=base)
        cells.append(Cell("baselines", f"added_{sensors[-1]}", about, plan, ("+".join(sensors),), seeds=KEY_SEEDS))
    return cells


def _pasted(*sensors: str) -> tuple[str, ...]:
    """Return that nothing is pasted where there is a camera: a pasted sample has none."""
    return ("pretrain.paste=0", "finetune.paste=0") if "camera" in sensors else ()
