# SPDX-License-Identifier: Apache-2.0
"""Centre head: a heat map per class, and boxes at chosen cells (Yin et al., "CenterPoint", CVPR 2021)."""

from typing import Final, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from peft_dml_ros.core.classes import ATTRIBUTES
from peft_dml_ros.core.spec import REGRESSION
from peft_dml_train.encoders.blocks import conv_bn

PRIOR_BIAS = -3.5  #: Logit of the heat map before training: objects are rare

#: Speeds are some 8 m/s where all other columns are about 1: with equal steps of the weights they would learn last
VELOCITY_SCALE = 8.0

#: Classes of like shape share a regression (the six tasks of CenterPoint)
GROUPS: Final = (
    ("car",),
    ("truck", "construction_vehicle"),
    ("bus", "trailer"),
    ("barrier",),
    ("motorcycle", "bicycle"),
    ("pedestrian", "traffic_cone"),
)

#: Length, width, height that the regression says before training, on level ground
TYPICAL_SIZE_M: Final = {
    "car": (4.6, 1.95, 1.7),
    "truck": (6.9, 2.5, 2.8),
    "bus": (10.5, 2.9, 3.5),
    "trailer": (12.3, 2.9, 3.9),
    "construction_vehicle": (6.4, 2.9, 3.2),
    "pedestrian": (0.7, 0.7, 1.8),
    "motorcycle": (2.1, 0.8, 1.5),
    "bicycle": (1.7, 0.6, 1.3),
    "traffic_cone": (0.4, 0.4, 1.1),
    "barrier": (0.5, 2.5, 1.0),
}

WINDOW: Final = tuple((row, column) for row in range(3) for column in range(3))


class HeadOutput(NamedTuple):
    """Dense predictions."""

    heat: torch.Tensor  #: (B, classes, H, W) logits
    #: (B, C, H + 2, W + 2) features with a border of zeros, from which boxes are computed where wanted
    around: torch.Tensor
    fused: torch.Tensor  #: (B, d, H, W) input of the head


class BoxValues(NamedTuple):
    """Boxes at M cells."""

    regression: torch.Tensor  #: (M, 15) columns `REGRESSION`
    attributes: torch.Tensor  #: (M, 8) logits


class CenterHead(nn.Module):
    """Fused map to a heat map, and to boxes at the cells that are asked for.

    Boxes are computed at few cells only: at the targets in training, at the top-K peaks in the exported graph. A dense
    branch would compute 16,384 of them to use 400. Each sees the 3 × 3 cells around it, through a hidden layer, and its
    own cell's latent directly.
    """

    group: torch.Tensor
    typical: torch.Tensor
    scales: torch.Tensor

    def __init__(self, dim: int, width: int, box_width: int, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.columns = len(REGRESSION) + len(ATTRIBUTES)
        self.direct = nn.Conv2d(dim, len(classes), 1)
        self.shared = conv_bn(dim, width)
        self.heat = nn.Sequential(conv_bn(width, width // 2), nn.Conv2d(width // 2, len(classes), 1))
        self.hidden = nn.Linear(len(WINDOW) * width + dim, box_width)
        self.box = nn.Linear(box_width, len(GROUPS) * self.columns)
        self.direct_box = nn.Linear(dim, len(GROUPS) * self.columns, bias=False)
        group = torch.tensor([next((g for g, names in enumerate(GROUPS) if c in names), 0) for c in classes])
        self.register_buffer("group", functional.one_hot(group, len(GROUPS)).float(), persistent=False)
        self.register_buffer("typical", _typical(classes, self.columns), persistent=False)
        scales = [VELOCITY_SCALE if name in {"vx", "vy"} else 1.0 for name in REGRESSION] + [1.0] * len(ATTRIBUTES)
        self.register_buffer("scales", torch.tensor(scales), persistent=False)
        for parameter in (*self.heat[-1].parameters(), *self.box.parameters()):
            nn.init.zeros_(parameter)
        if self.direct.bias is not None:
            nn.init.constant_(self.direct.bias, PRIOR_BIAS)
        nn.init.normal_(self.direct_box.weight, std=0.01)

    def forward(self, fused: torch.Tensor) -> HeadOutput:
        """Return float32 predictions of (B, d, H, W)."""
        shared = self.shared(fused)
        heat = self.direct(fused).float() + self.heat(shared).float()
        return HeadOutput(heat, functional.pad(shared, (1, 1, 1, 1)).float(), fused.float())

    def boxes_at(self, output: HeadOutput, sample: torch.Tensor, cell: torch.Tensor, label: torch.Tensor) -> BoxValues:
        """Compute boxes at M cells.

        Args:
            output: Of this head.
            sample: (M,) row of the batch.
            cell: (M,) flat cell, row · W + column.
            label: (M,) class, which picks the group's regression.
        """
        columns, wide = output.heat.shape[3], output.around.shape[3]
        padded = wide * output.around.shape[2]
        row = torch.div(cell, columns, rounding_mode="trunc")
        corner = sample * padded + row * wide + (cell - row * columns)
        table = output.around.flatten(2).transpose(1, 2).flatten(0, 1)
        near = torch.cat([functional.embedding(corner + (r * wide + c), table) for r, c in WINDOW], dim=1)
        cells = output.fused.flatten(2).transpose(1, 2).flatten(0, 1)
        own = functional.embedding(sample * (columns * output.heat.shape[2]) + cell, cells)
        hidden = functional.relu(self.hidden(torch.cat([near, own], dim=1)))
        every = (self.box(hidden) + self.direct_box(own)).view(-1, len(GROUPS), self.columns)
        picked = (every * functional.embedding(label, self.group)[:, :, None]).sum(dim=1)
        values = (picked + functional.embedding(label, self.typical)) * self.scales
        return BoxValues(values[:, : len(REGRESSION)], values[:, len(REGRESSION) :])


def _typical(classes: tuple[str, ...], columns: int) -> torch.Tensor:
    """Return (classes, columns): what the regression says of each class before training."""
    table = torch.zeros(len(classes), columns)
    first = REGRESSION.index("log_length")
    for label, name in enumerate(classes):
        size = torch.tensor(TYPICAL_SIZE_M.get(name, (2.0, 1.0, 1.5)))
        table[label, REGRESSION.index("z")] = size[2] / 2
        table[label, first : first + 3] = size.log()
    return table
