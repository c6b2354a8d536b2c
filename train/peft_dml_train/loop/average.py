# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of weights: what is evaluated and exported."""

import torch
from torch import nn


class WeightAverage:
    """Average of trainable weights and running statistics; the rate rises from fast to slow over the first steps."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, value in network.state_dict().items():
            mine = self.state[key]
            if mine.is_floating_point():
                mine.lerp_(value, 1 - decay)
            else:
                mine.copy_(value)
