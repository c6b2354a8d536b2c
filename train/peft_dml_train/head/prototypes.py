# SPDX-License-Identifier: Apache-2.0
"""Class prototypes on the sphere of the shared latent space: one classifier for every sensor."""

import torch
from torch import nn
from torch.nn import functional

#: Of the cosine: a unit vector equal to its prototype is a sure object, one at right angles to it is empty ground
SCALE = 10.0

BIAS = -4.5


class PrototypeClassifier(nn.Module):
    """Cosine of a latent to each class's prototype, scaled, with one bias per class.

    The prototypes do not know the modality: what one sensor's latent means, every other's at the same place means.
    """

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(functional.normalize(torch.randn(classes, dim), dim=1))
        self.scale = nn.Parameter(torch.tensor(SCALE))
        self.bias = nn.Parameter(torch.full((classes,), BIAS))

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        """Return (B, classes, H, W) logits of a modality's (B, d, H, W) unit vectors."""
        # Prototypes are made unit vectors behind the product: a convolution's weight is then a plain parameter.
        factor = self.scale / (self.prototypes.square().sum(dim=1) + 1e-8).sqrt()
        cosine = functional.conv2d(latent, self.prototypes[:, :, None, None].to(latent.dtype))
        return cosine * factor.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
