# SPDX-License-Identifier: Apache-2.0
"""Fusion per cell: cross-attention over the modalities' tokens of a cell and its neighbours, and a gate.

Scaled dot products of queries and keys (Vaswani et al., 2017), per head, in two steps: within each modality over the
3 × 3 neighbourhood, because cameras and radars place an object a cell or two off; then over the five modalities. Keys
and values are the same functions of every modality's latent: they can be, because all latents lie in one space.
Weights are computed at half the resolution of the values that they weigh, which takes a quarter of the time.
"""

from typing import Final, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_train.encoders.blocks import conv_bn, upsample
from peft_dml_train.fusion.gate import Gate

NEIGHBOURS: Final = tuple((row, column) for row in range(3) for column in range(3))
ASTRAY: Final = ("camera", "radar")  #: Sensors whose neighbourhood is searched: a LiDAR's place is right
COARSE: Final = 2  #: Cells per side that share one set of weights: neighbours reach 2.4 m in the demo


class Fused(NamedTuple):
    """Result of the fusion."""

    features: torch.Tensor  #: (B, d, H, W)
    gates: torch.Tensor  #: (B, 5, H, W) weights, in `MODALITIES` order, that sum to 1 over the present ones


class Fusion(nn.Module):
    """Any subset of modalities to one map. An absent modality's input can never change the output.

    Args:
        dim: Channels d of the shared latent space.
        heads: Attention heads.
        attend: With cross-attention; without it the gate alone weighs the tokens.
        trust: With the gate; without it attention alone does.
        neighbourhood: Camera and radar are looked up in the cells around, too.
        disagreement: The gate compares each sensor with the others.
        concatenate: What the gate lets through of each sensor also passes weights of that sensor's own.
    """

    to_head: torch.Tensor

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        attend: bool = True,
        trust: bool = True,
        neighbourhood: bool = True,
        disagreement: bool = True,
        concatenate: bool = False,
    ) -> None:
        super().__init__()
        self.attend, self.searched = attend, ASTRAY if neighbourhood else ()
        self.dim, self.heads, self.scale = dim, heads, dim**0.5
        self.value = nn.Conv2d(dim, dim, 1)
        self.register_buffer("to_head", _head_sums(dim, heads), persistent=False)
        if attend:
            self.query, self.key = nn.Conv2d(dim, dim, 1), nn.Conv2d(dim, dim, 1)
            self.kind = nn.Parameter(torch.zeros(len(MODALITIES), dim))
            if neighbourhood:
                self.near = NeighbourAttention(dim, dim // 2, heads)
        self.gate = Gate(dim, learned=trust, compares=disagreement)
        self.concatenated = nn.Conv2d(len(DETECTING) * dim, dim, 1) if concatenate else None
        # Silent at first: a network trained without it can go on with it.
        for weights in self.concatenated.parameters() if self.concatenated is not None else ():
            nn.init.zeros_(weights)
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
        """Return the fused map and gate weights.

        Args:
            latents: (B, d, H, W) for LiDAR, camera, radar; (B, d) for IMU and GNSS; any finite value where absent.
            mask: (B, 5), 1 where present.
            age_s: (B, 5) seconds.
            completeness: (B, 5) in [0, 1].
            evidence: (B, 1, H, W) highest logit of the shared classifier on LiDAR, camera, radar alone.
        """
        # Unit vectors have components of about 1/sqrt(d); layers train best on inputs of unit variance.
        width = self.to_head if not torch.is_autocast_enabled(mask.device.type) else self.to_head.to(torch.bfloat16)
        scaled = {
            m: latents[m].to(width.dtype) * _spread(mask[:, i] * self.scale, latents[m].dim()).to(width.dtype)
            for i, m in enumerate(MODALITIES)
        }
        maps = [scaled[m] for m in DETECTING]
        coarse = {m: functional.avg_pool2d(x, COARSE) if m in DETECTING else x for m, x in scaled.items()}
        tokens = torch.stack([scaled[m] for m in MODALITIES[len(DETECTING) :]], dim=2)[..., None]
        values = [self.value(x) for x in maps]
        logits = self.gate(coarse, mask, age_s, completeness, evidence)[:, :, None]
        if self.attend:
            # What all present sensors together see asks each of them.
            count = mask[:, : len(DETECTING)].sum(dim=1).clamp(min=1)
            mean = sum(coarse[m] for m in DETECTING) * _spread(1 / count, 4).to(width.dtype)
            values = [
                value + upsample(self.near(mean, coarse[m]), COARSE) if m in self.searched else value
                for m, value in zip(DETECTING, values, strict=True)
            ]
            # The gate's logits enter each head's attention: what is not trusted is not attended to either.
            logits = logits + self._match(self.query(mean), [coarse[m] for m in DETECTING], tokens)
        weights = logits.softmax(1)
        fused = self._weighted(weights.to(width.dtype), values, self.value(tokens))
        # What is published and supervised is the weight that really entered the result, not one part of its logits.
        # The sum bypasses its refinement: what the encoders know must not have to pass through it.
        return Fused(fused + self.context(self.mix(fused)), upsample(weights.mean(2), COARSE))

    def _match(self, query: torch.Tensor, maps: list[torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
        """Return (B, 5, heads, h, w): per head, the scaled dot product of the query with every modality's key.

        Args:
            query: (B, d, h, w).
            maps: (B, d, h, w) of LiDAR, camera, radar.
            tokens: (B, d, 2, 1) of IMU and GNSS.
        """
        each = [*maps, tokens[:, :, :1], tokens[:, :, 1:]]
        keys = [self.key(x) + self.kind[i].view(1, -1, 1, 1).to(x.dtype) for i, x in enumerate(each)]
        sums = torch.stack([functional.conv2d(query * key, self.to_head.to(query.dtype)) for key in keys], dim=1)
        scale: float = (self.dim // self.heads) ** -0.5
        return sums.float() * scale

    def _weighted(self, weights: torch.Tensor, values: list[torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
        """Sum values (B, d, H, W), and (B, d, 2, 1) of tokens, by their weights (B, 5, heads or 1, h, w)."""
        count = len(values)
        per_channel = self.to_head.transpose(0, 1).to(weights.dtype)
        if weights.shape[2] == 1:
            per_channel = per_channel.sum(dim=1, keepdim=True)
        spread = [functional.conv2d(weights[:, i], per_channel) for i in range(weights.shape[1])]
        motion = spread[count] * tokens[:, :, :1] + spread[count + 1] * tokens[:, :, 1:]
        seen = [upsample(weight, COARSE) * value for weight, value in zip(spread, values, strict=False)]
        fused: torch.Tensor = sum(seen) + upsample(motion, COARSE)
        # A sum of one projection's values cannot tell which sensor saw what. What the gate takes away stays away.
        return fused if self.concatenated is None else fused + self.concatenated(torch.cat(seen, dim=1))


class NeighbourAttention(nn.Module):
    """Attention of each cell to the 3 × 3 cells around it in one modality's map.

    Args:
        dim: Channels of the maps and of the result.
        width: Channels of queries, keys and values.
        heads: Attention heads.
    """

    to_head: torch.Tensor

    def __init__(self, dim: int, width: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(dim, width, 1) for _ in range(3))
        self.out = nn.Conv2d(width, dim, 1)
        nn.init.normal_(self.out.weight, std=0.02)
        self.place = nn.Parameter(torch.zeros(len(NEIGHBOURS), heads))
        self.register_buffer("to_head", _head_sums(width, heads), persistent=False)
        self.scale: float = (width // heads) ** -0.5

    def forward(self, asking: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """Return what the neighbourhood of each cell of (B, d, h, w) `asked` holds of what `asking` looks for."""
        keys, values = (functional.pad(layer(asked), (1, 1, 1, 1)) for layer in (self.key, self.value))
        weights = self.weights(self.query(asking), keys)
        spread = self.to_head.transpose(0, 1).to(values.dtype)
        gathered = sum(
            functional.conv2d(weights[n].to(values.dtype), spread) * _shifted(values, *at)
            for n, at in enumerate(NEIGHBOURS)
        )
        out: torch.Tensor = self.out(gathered)
        return out

    def weights(self, query: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        """Return (9, B, heads, h, w) that sum to 1, of queries (B, width, h, w) and padded keys."""
        to_head = self.to_head.to(query.dtype)
        scores = [functional.conv2d(query * _shifted(keys, *at), to_head) for at in NEIGHBOURS]
        logits = torch.stack(scores).float() * self.scale + self.place[:, None, :, None, None]
        return logits.softmax(0)


def _head_sums(width: int, heads: int) -> torch.Tensor:
    """Build the (heads, width, 1, 1) kernel that sums each head's channels; transposed, it spreads a head's weight."""
    return torch.eye(heads).repeat_interleave(width // heads, dim=1)[:, :, None, None]


def _shifted(padded: torch.Tensor, row: int, column: int) -> torch.Tensor:
    """View a padded map from one of the nine neighbours."""
    return padded[:, :, row : row + padded.shape[2] - 2, column : column + padded.shape[3] - 2]


def _spread(x: torch.Tensor, dims: int) -> torch.Tensor:
    """Reshape (B,) for a product with a tensor of so many axes."""
    return x.view(-1, *[1] * (dims - 1))


def pooled_gate(gates: torch.Tensor, heat: torch.Tensor) -> torch.Tensor:
    """Pool gate weights to (B, 5) that sum to 1: their mean over cells, weighted by how likely an object is there.

    Args:
        gates: (B, 5, H, W).
        heat: (B, classes, H, W) probabilities.
    """
    weight = heat.amax(dim=1, keepdim=True) + 1e-3
    return (gates * weight).sum(dim=(2, 3)) / weight.sum(dim=(2, 3))


def unit_latent(x: torch.Tensor) -> torch.Tensor:
    """Scale to unit length over axis 1: the shared latent space is a sphere."""
    wide = x.float()
    return wide * (wide.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt()
