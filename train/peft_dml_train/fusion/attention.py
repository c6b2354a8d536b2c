# SPDX-License-Identifier: Apache-2.0
"""Fusion per cell: cross-attention over the five modality tokens, and a gate over those that are present."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_train.encoders.blocks import conv_bn

ABSENT = -1e4
"""Added to the logit of an absent modality: its softmax weight is exactly 0 in float32 and float16."""

AGEING = 2.95
"""Before training a modality's logit falls by 3 for each second of its age."""


class Fused(NamedTuple):
    """Result of the fusion.

    Attributes:
        features: (B, d, H, W).
        gates: (B, 5, H, W) weights, in `MODALITIES` order, that sum to 1 over the present ones.
    """

    features: torch.Tensor
    gates: torch.Tensor


class Fusion(nn.Module):
    """Any subset of modalities to one map. An absent modality's input can never change the output.

    Args:
        dim: Channels d of the shared latent space.
        heads: Attention heads.
        attend: With cross-attention; without it the gate alone weighs the tokens.
        trust: With the gate; without it attention alone does.
    """

    def __init__(self, dim: int, heads: int, *, attend: bool = True, trust: bool = True) -> None:
        super().__init__()
        self.attend, self.trust = attend, trust
        self.dim, self.heads, self.scale = dim, heads, dim**0.5
        self.value = nn.ModuleDict({m: nn.Conv2d(dim, dim, 1) for m in DETECTING})
        self.token_value = nn.ModuleDict({m: nn.Linear(dim, dim) for m in MODALITIES if m not in DETECTING})
        self.score = nn.ModuleDict({m: nn.Conv2d(dim, heads + 1, 1) for m in DETECTING})
        self.token_score = nn.ModuleDict({m: nn.Linear(dim, heads + 1) for m in MODALITIES if m not in DETECTING})
        if attend:
            self.query = nn.Conv2d(dim, heads * len(MODALITIES), 1)
        if trust:
            self.state = nn.Sequential(nn.Linear(2, 16), nn.ReLU(inplace=True), nn.Linear(16, 1))
            # A dark camera or a radar full of echoes that are none shows in the whole map, not in one cell.
            self.overview = nn.ModuleDict({m: _overview(dim) for m in DETECTING})
            # Softplus of it, per second: an older measurement never counts for more.
            self.ageing = nn.Parameter(torch.full((len(MODALITIES),), AGEING))
            self.reliability = nn.Parameter(torch.tensor([1.0, 0.5, 0.5, -1.5, -1.5]))
        self.mix = conv_bn(dim, dim, 1)
        self.context = conv_bn(dim, dim, 3)

    def forward(
        self, latents: dict[str, torch.Tensor], mask: torch.Tensor, age_s: torch.Tensor, completeness: torch.Tensor
    ) -> Fused:
        """Fuse.

        Args:
            latents: (B, d, H, W) for LiDAR, camera, radar; (B, d) for IMU and GNSS; any finite value where absent.
            mask: (B, 5), 1 where present.
            age_s: (B, 5) seconds.
            completeness: (B, 5) in [0, 1].

        Returns:
            Fused map and gate weights.
        """
        present = {m: mask[:, i] for i, m in enumerate(MODALITIES)}
        # Unit vectors have components of about 1/sqrt(d); layers train best on inputs of unit variance.
        maps = {m: latents[m] * (present[m] * self.scale).view(-1, 1, 1, 1).to(latents[m].dtype) for m in DETECTING}
        tokens = {m: latents[m] * (present[m] * self.scale).view(-1, 1).to(latents[m].dtype) for m in self.token_value}
        values, scores = self._tokens(maps, tokens)
        batch, _, rows, columns = maps[DETECTING[0]].shape
        trust = self._trust(maps, scores, mask, age_s, completeness).expand(-1, -1, rows, columns)
        # The gate's logits enter each head's attention: what is not trusted is not attended to either.
        attention = (self._logits(maps, scores) + trust[:, None]).softmax(2)
        fused = 0.0
        for i, value in enumerate(values):
            weight = attention[:, :, i, None].to(value.dtype)
            per_head = value.view(batch, self.heads, -1, *value.shape[2:])
            fused = fused + (weight * per_head).reshape(batch, self.dim, rows, columns)
        # What is published and supervised is the weight that really entered the result, not one part of its logits.
        # The sum goes on beside its refinement: what the encoders know must not have to pass through it.
        return Fused(fused + self.context(self.mix(fused)), attention.mean(1))

    def _logits(self, maps: dict[str, torch.Tensor], scores: list[torch.Tensor]) -> torch.Tensor:
        """(B, heads, 5, H, W) of the attention alone."""
        batch, _, rows, columns = maps[DETECTING[0]].shape
        if not self.attend:
            return maps[DETECTING[0]].new_zeros(batch, self.heads, len(MODALITIES), rows, columns).float()
        # The query is the sum of what is present; its product with the modalities' keys is folded into one projection.
        query = self.query(sum(maps.values()))
        keys = torch.stack([s[:, : self.heads].expand(-1, -1, rows, columns) for s in scores], dim=2)
        return (query.view(batch, self.heads, len(MODALITIES), rows, columns) + keys).float()

    def _trust(
        self,
        maps: dict[str, torch.Tensor],
        scores: list[torch.Tensor],
        mask: torch.Tensor,
        age_s: torch.Tensor,
        completeness: torch.Tensor,
    ) -> torch.Tensor:
        """(B, 5, H, W) or (B, 5, 1, 1) of the gate alone; very low where a modality is absent."""
        absent = ((1 - mask) * ABSENT)[:, :, None, None]
        if not self.trust:
            # The exported graph takes both, whatever the fusion makes of them.
            return absent + 0.0 * (age_s + completeness)[:, :, None, None]
        rows, columns = scores[0].shape[2:]
        quality = torch.cat([s[:, self.heads :].expand(-1, -1, rows, columns) for s in scores], dim=1)
        state = self.state(torch.stack([mask, completeness], dim=-1))[..., 0] + self.reliability
        state = state - functional.softplus(self.ageing) * age_s
        overview = torch.cat([self.overview[m](maps[m].mean(dim=(2, 3))) for m in DETECTING], dim=1).float()
        state = state + functional.pad(overview, (0, len(MODALITIES) - len(DETECTING)))
        return quality.float() + state[:, :, None, None] + absent

    def _tokens(
        self, maps: dict[str, torch.Tensor], tokens: dict[str, torch.Tensor]
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        values, scores = [], []
        for m in MODALITIES:
            if m in maps:
                values.append(self.value[m](maps[m]))
                scores.append(self.score[m](maps[m]))
            else:
                values.append(self.token_value[m](tokens[m])[:, :, None, None])
                scores.append(self.token_score[m](tokens[m])[:, :, None, None])
        return values, scores


def _overview(dim: int) -> nn.Sequential:
    """Mean latent of a modality to what is added to its logit; nothing before training."""
    layers = nn.Sequential(nn.Linear(dim, 16), nn.ReLU(inplace=True), nn.Linear(16, 1))
    nn.init.zeros_(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return layers


def pooled_gate(gates: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Gate weights of a frame: their mean over cells, weighted by how likely an object is there.

    Args:
        gates: (B, 5, H, W).
        heat: (B, classes, H, W) probabilities.

    Returns:
        (B, 5), summing to 1 over the present modalities.
    """
    weight = heat.amax(dim=1, keepdim=True) + 1e-3
    return (gates * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))


def unit_latent(x: torch.Tensor) -> torch.Tensor:
    """Scale to unit length over axis 1: the shared latent space is a sphere."""
    return functional.normalize(x.float(), dim=1, eps=1e-4)
