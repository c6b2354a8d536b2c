# SPDX-License-Identifier: Apache-2.0
"""Cells of the network with one part left out, and of the weights of its losses."""

from typing import Final

from peft_dml_evidence.cells import KEY_SEEDS, MAIN_SUBSETS, NO_METRIC, TARGET_LOOKS, Cell, Mode, TrainingPlan
from peft_dml_train.config import LossConfig

NO_DROPOUT: Final = tuple(f"dropout.{m}=0" for m in ("lidar", "camera", "radar", "imu", "gnss"))
#: Losses by what is swept
SWEPT: Final = {
    "metric": ("alignment", "instance"),
    "consistency": ("consistency",),
    "gate": ("gate",),
    "single": ("single",),
}
FACTORS: Final = {"third": 1 / 3, "thrice": 3.0}


def ablate() -> list[Cell]:
    """Return cells of the proposed network with one part left out."""
    parts: tuple[tuple[str, str, Mode, tuple[str, ...]], ...] = (
        ("complete", "Everything", "peft", ()),
        ("no_lora", "Without low-rank adapters", "no_lora", ()),
        ("no_adapters", "Without bottleneck adapters", "no_adapters", ()),
        ("no_cross_attention", "Without cross-attention: the gate alone weighs", "peft", ("network.fusion=gate",)),
        ("no_neighbourhood", "Attention within the cell alone", "peft", ("network.neighbourhood=false",)),
        ("no_concatenation", "Without weights of each sensor's own", "peft", ("network.gated_concatenation=false",)),
        ("no_gate", "Without gate: attention alone", "peft", ("network.fusion=attention", "losses.gate=0")),
        ("no_disagreement", "The gate does not compare sensors", "peft", ("network.disagreement=false",)),
        ("no_metric_loss", "Without metric loss", "peft", NO_METRIC),
        ("no_shared_classifier", "No shared classifier reads single sensors", "peft", ("losses.single=0",)),
        ("no_consistency", "Without consistency", "peft", ("losses.consistency=0",)),
        ("no_modality_dropout", "Without modality dropout", "peft", NO_DROPOUT),
        ("no_gate_supervision", "Without gate supervision", "peft", ("losses.gate=0",)),
    )
    return [_cell("ablate", name, about, TrainingPlan(mode, base)) for name, about, mode, base in parts]


def weights() -> list[Cell]:
    """Return cells with a loss that weighs a third, and three times as much, as in the recipe's defaults."""
    defaults, cells = LossConfig(), []
    for name, losses in SWEPT.items():
        for words, factor in FACTORS.items():
            base = tuple(f"losses.{loss}={getattr(defaults, loss) * factor:.4g}" for loss in losses)
            cells.append(_cell("weights", f"{name}_{words}", f"{', '.join(base)}", TrainingPlan(base=base)))
    return cells


def _cell(command: str, name: str, about: str, plan: TrainingPlan) -> Cell:
    return Cell(command, name, about, plan, MAIN_SUBSETS, TARGET_LOOKS, seeds=KEY_SEEDS)
