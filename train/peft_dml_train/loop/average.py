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
        pairs = [(self.state[key], value) for key, value in network.state_dict().items()]
        real = [pair for pair in pairs if pair[0].is_floating_point()]
        # One launch on a GPU instead of a thousand.
        torch._foreach_lerp_([mine for mine, _ in real], [value for _, value in real], 1 - decay)
        for mine, value in pairs:
            if not mine.is_floating_point():
                mine.copy_(value)
