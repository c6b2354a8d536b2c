# SPDX-License-Identifier: Apache-2.0
"""Camera encoder: image backbone, depth distribution, and a view transform that is two look-ups and a product.

The look-up tables come from calibration and are inputs, so a new calibration needs no new export. Lift by depth
distribution: Philion and Fidler, "Lift, Splat, Shoot", ECCV 2020; voxel-to-pixel tables: Huang et al., "Fast-BEV".
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from transformers import ResNetBackbone, ResNetConfig

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_train.config import CameraConfig
from peft_dml_train.encoders.blocks import BevPyramid, conv_bn, gather_rows, upsample
from peft_dml_train.encoders.efficientnet import COARSE_CHANNELS, FINE_CHANNELS, LiteTrunk, TrunkFeatures

BACKBONE_STRIDE = 8
MEAN = 114.0
SCALE = 1 / 58.0


class CameraOutput(NamedTuple):
    """Camera features and the depth estimate behind them."""

    features: torch.Tensor  #: (B, out, size, size) bird's-eye-view map in `base_link`
    depth_logits: torch.Tensor  #: (B, cameras, rows · columns, depth_bins)


class LitePyramid(nn.Module):
    """EfficientNet-Lite0 trunk and a neck that brings strides 8 and 16 together at stride 8."""

    def __init__(self, neck: int) -> None:
        super().__init__()
        self.trunk = LiteTrunk()
        self.fine, self.coarse = nn.Conv2d(FINE_CHANNELS, neck, 1), conv_bn(COARSE_CHANNELS, neck, 1)
        self.context = conv_bn(neck, neck)

    def early(self, images: torch.Tensor) -> TrunkFeatures:
        """Compute what no stage trains: (N, H, W, 3) uint8 to features that may be cached."""
        return self.trunk.early(images)

    def forward(self, early: TrunkFeatures) -> torch.Tensor:
        """Return (N, neck, H/8, W/8)."""
        fine, coarse = self.trunk(early)
        out: torch.Tensor = upsample(self.context(self.coarse(coarse))) + self.fine(fine)
        return out


class ResNetPyramid(nn.Module):
    """ResNet and a feature pyramid at stride 8."""

    def __init__(self, config: CameraConfig) -> None:
        super().__init__()
        self.backbone = ResNetBackbone(
            ResNetConfig(
                embedding_size=config.stem,
                hidden_sizes=list(config.widths),
                depths=list(config.depths),
                layer_type=config.layer,
                out_features=["stage2", "stage3", "stage4"],  # type: ignore[call-arg]  # its base class takes it
            )
        )
        self.laterals = nn.ModuleList(nn.Conv2d(width, config.neck, 1) for width in config.widths[1:])

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return (N, neck, H/8, W/8) of (N, H, W, 3) uint8 pictures."""
        levels = self.backbone(images.permute(0, 3, 1, 2).float().sub(MEAN).mul(SCALE)).feature_maps
        top: torch.Tensor = self.laterals[2](levels[2])
        for lateral, level in zip((self.laterals[1], self.laterals[0]), (levels[1], levels[0]), strict=True):
            top = upsample(top) + lateral(level)
        return top


class CameraEncoder(nn.Module):
    """Images of all cameras to one bird's-eye-view map."""

    def __init__(self, spec: ModelSpec, config: CameraConfig) -> None:
        super().__init__()
        self.finer = BACKBONE_STRIDE // spec.camera.stride
        if self.finer * spec.camera.stride != BACKBONE_STRIDE or self.finer not in {1, 2}:
            msg = f"camera stride is {spec.camera.stride}; the features have {BACKBONE_STRIDE}, fix: set 8 or 4"
            raise ConfigError(msg)
        self.size, self.heights = spec.grid.size, len(spec.camera.voxel_heights_m)
        self.bins, self.context = spec.camera.depth_bins, config.context
        lite = config.backbone == "efficientnet_lite0"
        self.image: LitePyramid | ResNetPyramid = LitePyramid(config.neck) if lite else ResNetPyramid(config)
        self.merge = conv_bn(config.neck, config.neck)
        self.lift = nn.Conv2d(config.neck, self.bins + config.context, 1)
        self.flatten = conv_bn(self.heights * config.context, config.bev.widths[0], 1)
        self.pyramid = BevPyramid(
            config.bev.widths[0], config.bev.widths, config.bev.depths, config.bev.neck, config.bev.out
        )

    def early(self, images: torch.Tensor) -> TrunkFeatures | torch.Tensor:
        """Compute what no stage of training changes, of (N, H, W, 3) pictures: nothing for a ResNet."""
        return self.image.early(images) if isinstance(self.image, LitePyramid) else images

    def forward(
        self,
        images: torch.Tensor,
        present: torch.Tensor,
        voxel_pixel: torch.Tensor,
        voxel_depth: torch.Tensor,
        fine: torch.Tensor | None = None,
        cut: torch.Tensor | None = None,
    ) -> CameraOutput:
        """Encode and lift; return the map and depth logits.

        Args:
            images: (B, n, H, W, 3) uint8 RGB.
            present: (B, n) float, 0 for a missing camera: its features become zero.
            voxel_pixel: (B, heights · size²) feature pixel of each voxel, n · rows · columns where none.
            voxel_depth: (B, heights · size²) index into [pixel, depth bin], the count of these where none.
            fine: (B, n, ...) cached `TrunkFeatures.fine`; then the images are not read.
            cut: Likewise `TrunkFeatures.cut`.
        """
        batch, cameras = present.shape
        early: TrunkFeatures | torch.Tensor
        if fine is not None and cut is not None:
            early = TrunkFeatures(fine.flatten(0, 1), cut.flatten(0, 1))
        else:
            early = self.early(images.flatten(0, 1))
        lifted = self.lift(self.merge(self.image(early)))
        if self.finer > 1:
            # Look-ups at half the stride in a bilinear enlargement: a voxel between two pixels gets a share of both.
            lifted = functional.interpolate(lifted, scale_factor=2.0, mode="bilinear", align_corners=False)
        lifted = lifted.flatten(2).permute(0, 2, 1)
        depth_logits = lifted[..., : self.bins].float()
        context = lifted[..., self.bins :] * present.reshape(-1, 1, 1).to(lifted.dtype)
        depth = depth_logits.softmax(-1) * self.bins**0.5
        # Voxels of one place come out side by side, as the channels of its cell: no map has to be transposed.
        pixels, bins = (
            x.view(batch, self.heights, -1).transpose(1, 2).reshape(batch, -1) for x in (voxel_pixel, voxel_depth)
        )
        rows = gather_rows(context.reshape(batch, -1, self.context), pixels)
        weight = gather_rows(depth.reshape(batch, -1, 1), bins)
        voxels = (rows * weight.to(rows.dtype)).view(batch, self.size, self.size, self.heights * self.context)
        features = self.pyramid(self.flatten(voxels.permute(0, 3, 1, 2)))
        return CameraOutput(features, depth_logits.view(batch, cameras, -1, self.bins))
