# SPDX-License-Identifier: Apache-2.0
"""The whole network: five encoders, one shared latent space, fusion, head."""

from typing import NamedTuple, cast

import torch
from torch import nn

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.adapters.bottleneck import Bottleneck
from peft_dml_train.config import AdapterConfig, NetworkConfig
from peft_dml_train.encoders.blocks import EPS, MOMENTUM
from peft_dml_train.encoders.camera import CameraEncoder, CameraOutput
from peft_dml_train.encoders.lidar import LidarEncoder
from peft_dml_train.encoders.motion import GnssEncoder, ImuEncoder
from peft_dml_train.encoders.radar import RadarEncoder
from peft_dml_train.fusion.attention import Fused, Fusion, unit_latent
from peft_dml_train.fusion.plain import PlainFusion
from peft_dml_train.head.center import CenterHead, HeadOutput
from peft_dml_train.head.prototypes import PrototypeClassifier


class Latents(NamedTuple):
    """What the encoders give."""

    #: Unit vectors: (B, d, H, W) for LiDAR, camera, radar; (B, d) for IMU and GNSS
    by_modality: dict[str, torch.Tensor]
    depth_logits: torch.Tensor | None  #: (B, cameras, rows · columns, depth_bins) of the camera encoder, for its loss


class Detection(NamedTuple):
    """Fusion and head for one availability mask."""

    fused: Fused
    head: HeadOutput


def make_fusion(dim: int, config: NetworkConfig) -> nn.Module:
    """Build the fusion that a recipe names: gated attention, one of its halves, or another system's."""
    kind = config.fusion
    if kind in {"average", "concatenate"}:
        return PlainFusion(dim, kind)
    return Fusion(
        dim,
        config.attention_heads,
        attend=kind != "gate",
        trust=kind != "attention",
        neighbourhood=config.neighbourhood,
        disagreement=config.disagreement,
        concatenate=config.gated_concatenation,
    )


class PeftDmlNetwork(nn.Module):
    """PEFT-DML.

    Attributes:
        encoders: By modality; frozen and given low-rank adapters in the adaptation.
        adapters: Bottleneck adapter behind each encoder; the identity until adapted.
        projections: Linear map of each modality to the shared latent space, normalised per sensor.
        classifier: Class prototypes that read every modality's latent: the shared space is a condition of detection.
        fusion: Attention and gate.
        head: Heat map and boxes.
    """

    def __init__(self, spec: ModelSpec, config: NetworkConfig, adapters: AdapterConfig) -> None:
        super().__init__()
        self.spec = spec
        self.level_features = config.level_features
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
        self.projections = nn.ModuleDict({m: _projection(outs[m], spec.latent_dim, m) for m in MODALITIES})
        self.classifier = PrototypeClassifier(spec.latent_dim, len(spec.classes))
        self.fusion = make_fusion(spec.latent_dim, config)
        self.head = CenterHead(spec.latent_dim, config.head_width, config.box_width, spec.classes)

    @property
    def camera(self) -> CameraEncoder:
        """The camera encoder."""
        return cast("CameraEncoder", self.encoders["camera"])

    def encode(self, modality: str, feeds: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return one modality's latent of its encoder's inputs, and the camera's depth logits."""
        encoded = self.encoders[modality](**feeds)
        depth = encoded.depth_logits if isinstance(encoded, CameraOutput) else None
        features = encoded.features if isinstance(encoded, CameraOutput) else encoded
        return self.project(modality, features), depth

    def project(self, modality: str, features: torch.Tensor) -> torch.Tensor:
        """Return the latent of an encoder's features: its adapter, the linear map to the shared space, unit length."""
        features = self.adapters[modality](features)
        if self.level_features and modality in DETECTING:
            # A hundredth of the cells is a hundred times as large as the rest. Their mean is nobody's centre: about it
            # all other latents point one way, whatever they hold.
            features = unit_latent(features) * features.shape[1] ** 0.5
        return unit_latent(self.projections[modality](features))

    def encode_all(self, feeds: dict[str, dict[str, torch.Tensor]], mask: torch.Tensor | None = None) -> Latents:
        """Return all latents; a sample without a modality is left out of its encoder and its statistics."""
        latents: dict[str, torch.Tensor] = {}
        depth: torch.Tensor | None = None
        for i, m in enumerate(MODALITIES):
            held = None if mask is None or bool(mask[:, i].all()) else mask[:, i].nonzero()[:, 0]
            if held is None:
                latents[m], logits = self.encode(m, feeds[m])
            else:
                latents[m], logits = self._encode_some(m, feeds[m], held)
            depth = logits if logits is not None else depth
        return Latents(latents, depth)

    def _encode_some(
        self, modality: str, feeds: dict[str, torch.Tensor], held: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Encode some rows of a batch; the others are zero. Without any, one row of weight 0 keeps every gradient."""
        batch = len(next(iter(feeds.values())))
        rows = held if len(held) else torch.zeros(1, dtype=torch.int64, device=held.device)
        found, logits = self.encode(modality, {name: value[rows] for name, value in feeds.items()})
        weight = float(len(held) > 0)

        def spread(x: torch.Tensor) -> torch.Tensor:
            return x.new_zeros(batch, *x.shape[1:]).index_copy(0, rows, x * weight)

        return spread(found), None if logits is None else spread(logits)

    def detect(
        self, latents: dict[str, torch.Tensor], mask: torch.Tensor, age_s: torch.Tensor, completeness: torch.Tensor
    ) -> Detection:
        """Fuse and detect; see `Fusion.forward`."""
        with torch.no_grad():
            evidence = {m: self.classifier(latents[m]).amax(dim=1, keepdim=True) for m in DETECTING}
        fused = self.fusion(latents, mask, age_s, completeness, evidence)
        return Detection(fused, self.head(fused.features))

    def forward(
        self,
        feeds: dict[str, dict[str, torch.Tensor]],
        masks: tuple[torch.Tensor, ...],
        age_s: torch.Tensor,
        completeness: torch.Tensor,
        held: torch.Tensor | None = None,
    ) -> tuple[Latents, list[Detection]]:
        """Return one detection per availability mask from one pass of the encoders; `held` as in `encode_all`."""
        latents = self.encode_all(feeds, held)
        return latents, [self.detect(latents.by_modality, mask, age_s * mask, completeness * mask) for mask in masks]


def _projection(width: int, dim: int, modality: str) -> nn.Module:
    """Build a linear map; batch statistics without weights centre each sensor's cloud, and fold away in the export."""
    if modality in DETECTING:
        return nn.Sequential(nn.Conv2d(width, dim, 1), nn.BatchNorm2d(dim, EPS, MOMENTUM, affine=False))
    return nn.Linear(width, dim)
