# SPDX-License-Identifier: Apache-2.0
"""The whole network: five encoders, one shared latent space, fusion, head."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.adapters.bottleneck import Bottleneck
from peft_dml_train.config import AdapterConfig, NetworkConfig
from peft_dml_train.encoders.camera import CameraEncoder, CameraOutput
from peft_dml_train.encoders.lidar import LidarEncoder
from peft_dml_train.encoders.motion import GnssEncoder, ImuEncoder
from peft_dml_train.encoders.radar import RadarEncoder
from peft_dml_train.fusion.attention import Fused, Fusion, unit_latent
from peft_dml_train.fusion.plain import PlainFusion
from peft_dml_train.head.center import CenterHead, HeadOutput


class Latents(NamedTuple):
    """What the encoders give.

    Attributes:
        by_modality: Unit vectors: (B, d, H, W) for LiDAR, camera, radar; (B, d) for IMU and GNSS.
        depth_logits: (B, cameras, rows · columns, depth_bins) of the camera encoder, for its loss.
    """

    by_modality: dict[str, torch.Tensor]
    depth_logits: torch.Tensor | None


class Detection(NamedTuple):
    """Fusion and head for one availability mask."""

    fused: Fused
    head: HeadOutput


def make_fusion(dim: int, config: NetworkConfig) -> nn.Module:
    """The fusion that a recipe names: ours, ours without one of its parts, or another system's."""
    kind = config.fusion
    if kind in {"average", "concatenate"}:
        return PlainFusion(dim, kind)
    return Fusion(dim, config.attention_heads, attend=kind != "gate", trust=kind != "attention")


class PeftDmlNetwork(nn.Module):
    """PEFT-DML.

    Attributes:
        encoders: By modality; frozen and given low-rank adapters in the fine-tuning.
        adapters: Bottleneck adapter behind each encoder; the identity until fine-tuned.
        projections: Linear map of each modality to the shared latent space.
        fusion: Attention and gate.
        head: Dense predictions.
        single: Heat map from one modality's latent alone: a training aid that is not exported.
    """

    def __init__(self, spec: ModelSpec, config: NetworkConfig, adapters: AdapterConfig) -> None:
        super().__init__()
        self.spec = spec
        width = config.motion_width
        self.encoders = nn.ModuleDict(
            {
                "lidar": LidarEncoder(spec, config.lidar),
                "camera": CameraEncoder(spec, config.camera),
                "radar": RadarEncoder(spec, config.radar),
                "imu": ImuEncoder(spec, width),
                "gnss": GnssEncoder(spec, width),
            }
        )
        outs = {
            "lidar": config.lidar.out,
            "camera": config.camera.bev.out,
            "radar": config.radar.out,
            "imu": width,
            "gnss": width,
        }
        self.adapters = nn.ModuleDict(
            {m: Bottleneck(outs[m], adapters.bottleneck, spatial=m in DETECTING) for m in MODALITIES}
        )
        self.projections = nn.ModuleDict(
            {
                m: nn.Conv2d(outs[m], spec.latent_dim, 1) if m in DETECTING else nn.Linear(outs[m], spec.latent_dim)
                for m in MODALITIES
            }
        )
        self.fusion = make_fusion(spec.latent_dim, config)
        self.head = CenterHead(spec.latent_dim, config.head_width, len(spec.classes))
        self.single = nn.ModuleDict({m: nn.Conv2d(spec.latent_dim, len(spec.classes), 1) for m in DETECTING})
        # Logits of unit vectors: without a scale they could not leave the range of the weights.
        self.single_scale = 8.0
        for aid in self.single.values():
            nn.init.constant_(aid.bias, -3.5)

    def encode(self, modality: str, feeds: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Latent of one modality from its encoder's inputs, and the camera's depth logits."""
        encoded = self.encoders[modality](**feeds)
        depth = encoded.depth_logits if isinstance(encoded, CameraOutput) else None
        features = encoded.features if isinstance(encoded, CameraOutput) else encoded
        return unit_latent(self.projections[modality](self.adapters[modality](features))), depth

    def encode_all(self, feeds: dict[str, dict[str, torch.Tensor]]) -> Latents:
        """Latents of all modalities; each has an entry in the feeds (zeros where a sample lacks it)."""
        latents, depth = {}, None
        for m in MODALITIES:
            latents[m], logits = self.encode(m, feeds[m])
            depth = logits if logits is not None else depth
        return Latents(latents, depth)

    def detect(
        self, latents: dict[str, torch.Tensor], mask: torch.Tensor, age_s: torch.Tensor, completeness: torch.Tensor
    ) -> Detection:
        """Fusion and head; see `Fusion.forward`."""
        fused = self.fusion(latents, mask, age_s, completeness)
        return Detection(fused, self.head(fused.features))

    def forward(
        self,
        feeds: dict[str, dict[str, torch.Tensor]],
        masks: tuple[torch.Tensor, ...],
        age_s: torch.Tensor,
        completeness: torch.Tensor,
    ) -> tuple[Latents, list[Detection]]:
        """One detection per availability mask from one pass of the encoders."""
        latents = self.encode_all(feeds)
        return latents, [self.detect(latents.by_modality, mask, age_s * mask, completeness * mask) for mask in masks]
