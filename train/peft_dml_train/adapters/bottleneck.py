# SPDX-License-Identifier: Apache-2.0
"""Bottleneck adapter on a feature map or a token.

Houlsby et al., "Parameter-Efficient Transfer Learning for NLP", ICML 2019. It starts as the identity, so that putting
it into a pretrained network changes nothing.
"""

import torch
from torch import nn
from torch.nn import functional


class Bottleneck(nn.Module):
    """x + up(relu(down(x))) over the channel axis, axis 1."""

    def __init__(self, channels: int, width: int, *, spatial: bool) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, width, 1) if spatial else nn.Linear(channels, width)
        self.up = nn.Conv2d(width, channels, 1) if spatial else nn.Linear(width, channels)
        for parameter in self.up.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same shape as the input."""
        change: torch.Tensor = self.up(functional.relu(self.down(x)))
        return x + change
