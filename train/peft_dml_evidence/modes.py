# SPDX-License-Identifier: Apache-2.0
"""What the second stage of a plan may change."""

from copy import deepcopy
from functools import partial

import peft

from peft_dml_evidence.cells import TrainingPlan
from peft_dml_ros.core.classes import DETECTING
from peft_dml_train.adapters.lora import TRAINED_WHOLE, adapt, freeze, parameter_counts, train_mode
from peft_dml_train.config import TrainConfig
from peft_dml_train.network import PeftDmlNetwork

SMALL_PARTS = tuple(f"{part}." for part in ("projections", "fusion", "head"))
BOTTLENECKS = "adapters."


def prepare(
    network: PeftDmlNetwork, config: TrainConfig, plan: TrainingPlan
) -> tuple[peft.PeftModel | None, partial[None]]:
    """Let the second stage of a plan change what its mode says.

    Returns:
        The adapted network to merge afterwards, none where nothing was added; and what sets the training mode.
    """
    if plan.mode in {"peft", "no_adapters"}:
        whole = tuple(n for n in TRAINED_WHOLE if plan.mode == "peft" or not n.startswith(BOTTLENECKS))
        return adapt(network, config.adapters, whole), partial(train_mode)
    if plan.mode in {"full", "scratch"}:
        freeze(network, (BOTTLENECKS,))
        # Statistics of a few batches of two would replace the base's: encoders' norms keep them, as PEFT's do.
        return None, partial(train_mode) if plan.mode == "full" else partial(train_mode, frozen=())
    kept = (*SMALL_PARTS, BOTTLENECKS) if plan.mode == "no_lora" else SMALL_PARTS
    if plan.mode == "partial":
        kept = (*SMALL_PARTS, *last_weights(network, config))
    network.requires_grad_(requires_grad=False)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith(kept))
    return None, partial(train_mode)


def last_weights(network: PeftDmlNetwork, config: TrainConfig) -> list[str]:
    """Return names of the encoders' weights nearest to their outputs, with the small parts as many as PEFT trains.

    LiDAR, camera and radar take turns; a weight that is too large for the rest of the budget is passed over.
    """
    left = parameter_counts(adapt(deepcopy(network), config.adapters).get_base_model())["trained"]
    left -= sum(p.numel() for name, p in network.named_parameters() if name.startswith(SMALL_PARTS))
    queues = [[*reversed(list(network.encoders[m].named_parameters(f"encoders.{m}")))] for m in DETECTING]
    chosen: list[str] = []
    for turn in range(max(map(len, queues))):
        for name, parameter in (queue[turn] for queue in queues if turn < len(queue)):
            if parameter.numel() <= left:
                left -= parameter.numel()
                chosen.append(name)
    return chosen
