# SPDX-License-Identifier: Apache-2.0
"""The fusions of other systems, behind the same face: zero-filled concatenation and averaging.

Liu et al., "BEVFusion", ICRA 2023: maps are concatenated, and a missing one is zeros. Wang et al., "UniBEV", IV 2024:
the mean over the maps that are there.
"""

from typing import Literal

import torch
from torch import nn

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_train.encoders.blocks import conv_bn
from peft_dml_train.fusion.attention import Fused

Kind = Literal["average", "concatenate"]


class PlainFusion(nn.Module):
    """Five latents to one map without attention and without a learned gate; takes and gives what `Fusion` does."""

    def __init__(self, dim: int, kind: Kind) -> None:
        super().__init__()
        self.kind, self.scale = kind, dim**0.5
        self.value = nn.ModuleDict({m: nn.Conv2d(dim, dim, 1) for m in DETECTING})
        self.token_value = nn.ModuleDict({m: nn.Linear(dim, dim) for m in MODALITIES if m not in DETECTING})
        self.join = nn.Conv2d(len(MODALITIES) * dim, dim, 1) if kind == "concatenate" else nn.Identity()
        self.mix = conv_bn(dim, dim, 1)
        self.context = conv_bn(dim, dim, 3)

    def forward(
        self,
        latents: dict[str, torch.Tensor],
        mask: torch.Tensor,
        age_s: torch.Tensor,
        completeness: torch.Tensor,
        evidence: dict[str, torch.Tensor],
    ) -> Fused:
        """Fuse; see `Fusion.forward`. The published weight is the same for all that is present."""
        # The exported graph takes all inputs, whatever the fusion makes of them.
        unused = age_s + completeness
        for seen in evidence.values():
            unused = unused + seen.mean(dim=(1, 2, 3))[:, None]
        mask = mask + 0.0 * unused
        rows, columns = latents[DETECTING[0]].shape[2:]
        values = []
        for i, m in enumerate(MODALITIES):
            scaled = latents[m] * self.scale
            value = (
                self.value[m](scaled)
                if m in DETECTING
                else self.token_value[m](scaled)[:, :, None, None].expand(-1, -1, rows, columns)
            )
            values.append(value * mask[:, i].view(-1, 1, 1, 1).to(value.dtype))
        share = mask / mask.sum(dim=1, keepdim=True).clamp(min=1)
        if self.kind == "concatenate":
            fused = self.join(torch.cat(values, dim=1))
        else:
            fused = sum(values) / mask.sum(dim=1).clamp(min=1).view(-1, 1, 1, 1).to(values[0].dtype)
        gates = share[:, :, None, None].expand(-1, -1, rows, columns)
        return Fused(fused + self.context(self.mix(fused)), gates)
