# SPDX-License-Identifier: Apache-2.0
"""The LiDAR branch as the two graphs and the parameter file of Autoware's lidar_centerpoint.

Autoware fills pillars (x, y, z, intensity 0-255, age, offsets from the mean and from the centre; empty rows are zero),
runs `pts_voxel_encoder_centerpoint.onnx`, scatters the features, runs `pts_backbone_neck_head_centerpoint.onnx`
and decodes: score = sigmoid(heatmap), yaw = -atan2(rot[0], rot[1]) - pi/2, dim = log(width, length, height). The second
graph holds everything behind the pillars: backbone, adapter, projection, the fusion with the LiDAR alone, the head.
"""

import warnings
from pathlib import Path
from typing import Final, cast

import onnx
import onnxslim
import torch
import yaml
from torch import nn
from torch.nn import functional

from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.spec import REGRESSION, ModelSpec
from peft_dml_train.adapters.lora import load_adapter, merge
from peft_dml_train.config import TrainConfig
from peft_dml_train.encoders.lidar import LidarEncoder
from peft_dml_train.export.graphs import OPSET
from peft_dml_train.loop.stages import adapter_folder, load_base
from peft_dml_train.network import PeftDmlNetwork

ENCODER: Final = "pts_voxel_encoder_centerpoint.onnx"
BACKBONE: Final = "pts_backbone_neck_head_centerpoint.onnx"
PARAMETERS: Final = "centerpoint_ml_package.param.yaml"
CHANNELS: Final = 32  #: Channels of a pillar, fixed in Autoware
POINTS: Final = 32  #: Points of a pillar, fixed in Autoware
FEATURES: Final = 11  #: Features of a point; the last, the offset from the pillar's centre in z, is not used here
OUTPUTS: Final = ("heatmap", "reg", "height", "dim", "rot", "vel")
#: Autoware's names of classes that it has not; all others are the same in capitals
NAMES: Final = {"construction_vehicle": "TRUCK", "traffic_cone": "HAZARD", "barrier": "HAZARD"}
_COLUMN = {name: i for i, name in enumerate(REGRESSION)}
_LEAST = -1e4


class VoxelEncoder(nn.Module):
    """Points of pillars to one feature each: (V, 32, 11) to (V, 32)."""

    def __init__(self, network: PeftDmlNetwork) -> None:
        super().__init__()
        self.pillars = _lidar(network).pillars
        unit = torch.ones(FEATURES - 1)
        unit[3] = 1 / 255
        self.scales = nn.Parameter(unit * self.pillars.scales, requires_grad=False)
        self.floor = self.pillars.floor
        self.spare = CHANNELS - self.pillars.linear.out_features

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """Take the maximum over the rows that hold a point."""
        # Offsets from the centre are not all zero in a row with a point: no point lies there in every coordinate.
        taken = (input_features.abs().sum(2, keepdim=True) > 0).float()
        x = input_features[..., : FEATURES - 1] * self.scales
        if self.pillars.first is not None:
            each = _points(self.pillars.first, x)
            whole = (each * taken + _LEAST * (1 - taken)).amax(dim=1, keepdim=True).expand_as(each)
            x = torch.cat([each, whole], dim=2)
        x = _points(nn.Sequential(self.pillars.linear, self.pillars.norm), x)
        x = (x * taken + _LEAST * (1 - taken)).amax(dim=1)
        x = functional.relu(x) if self.floor is None else torch.maximum(x, self.floor)
        # A width that is read from the tensor would be traced, and padded in front by the exported graph.
        return functional.pad(x, (0, self.spare))


def _points(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    flat: torch.Tensor = layer(x.reshape(-1, x.shape[2]))
    return flat.view(x.shape[0], x.shape[1], -1)


class BackboneNeckHead(nn.Module):
    """Map of pillar features (1, 32, H, W), rows along y, to the dense outputs of Autoware's CenterPoint."""

    def __init__(self, network: PeftDmlNetwork) -> None:
        super().__init__()
        self.network, self.encoder = network, _lidar(network)
        self.channels = self.encoder.pillars.linear.out_features

    def forward(self, spatial_features: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return `OUTPUTS`."""
        encoder, spec = self.encoder, self.network.spec
        x = spatial_features[:, : self.channels]
        if encoder.turned:
            features = encoder.pyramid(x.transpose(2, 3).flip(3)).flip(3).transpose(2, 3)
        else:
            features = encoder.pyramid(encoder.reduce(x))
        latent = self.network.project("lidar", features)
        size, dim = spec.grid.size, spec.latent_dim
        latents: dict[str, torch.Tensor] = {
            m: torch.zeros(1, dim, size, size) if m in DETECTING else torch.zeros(1, dim) for m in MODALITIES
        }
        latents["lidar"] = latent
        mask = torch.tensor([[float(m == "lidar") for m in MODALITIES]])
        head = self.network.detect(latents, mask, torch.zeros(1, 5), mask).head

        # Autoware picks the best class of each cell: the box is that of this class's group.
        label = head.heat[0].flatten(1).argmax(dim=0).to(torch.int32)
        cells = torch.arange(size * size, dtype=torch.int32)
        boxes = self.network.head.boxes_at(head, torch.zeros_like(cells), cells, label).regression
        dense = boxes.transpose(0, 1).reshape(1, -1, size, size)

        def columns(*names: str) -> torch.Tensor:
            return torch.cat([dense[:, _COLUMN[n], None] for n in names], dim=1)

        sin_yaw, cos_yaw = _heading(columns("sin_2yaw"), columns("cos_2yaw"), columns("heading_x", "heading_y"))
        # Autoware turns (rot[0], rot[1]) = (sin, cos) of its own angle, -yaw - pi/2.
        rot = torch.cat([-cos_yaw, -sin_yaw], dim=1)
        dims = columns("log_width", "log_length", "log_height")
        return head.heat, columns("dx", "dy") + 0.5, columns("z"), dims, rot, columns("vx", "vy")


def _heading(sin_2yaw: torch.Tensor, cos_2yaw: torch.Tensor, ahead: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sine and cosine of the yaw from its axis and the direction vector, all (1, 1 or 2, H, W).

    Half-angle formulas instead of atan2, which Autoware's runtime would need a plug-in for.
    """
    cosine = cos_2yaw / torch.sqrt(sin_2yaw**2 + cos_2yaw**2 + 1e-12)
    sin = torch.sqrt(torch.clamp((1 - cosine) / 2, min=0.0)) * (1 - 2 * (sin_2yaw < 0).float())
    cos = torch.sqrt(torch.clamp((1 + cosine) / 2, min=0.0))
    behind = (ahead[:, :1] * cos + ahead[:, 1:] * sin < 0).float()
    return sin * (1 - 2 * behind), cos * (1 - 2 * behind)


def _lidar(network: PeftDmlNetwork) -> LidarEncoder:
    return cast("LidarEncoder", network.encoders["lidar"])


def parameters(spec: ModelSpec) -> dict[str, object]:
    """Return what Autoware's parameter file says of the model."""
    half, lidar = spec.grid.half_range_m, spec.lidar
    cell = 2 * half / lidar.pillar_grid
    return {
        "class_names": [NAMES.get(name, name.upper()) for name in spec.classes],
        "point_feature_size": 5,
        "max_voxel_size": lidar.pillars,
        "point_cloud_range": [-half, -half, lidar.z_min_m, half, half, lidar.z_max_m],
        "voxel_size": [cell, cell, lidar.z_max_m - lidar.z_min_m],
        "downsample_factor": lidar.pillar_grid // spec.grid.size,
        "encoder_in_feature_size": FEATURES,
        "has_variance": False,
        "has_twist": True,
    }


def export_run(config: TrainConfig, run: Path, folder: Path, adapter: str) -> Path:
    """Write the LiDAR branch of a run with one of its adapters merged; see `export_autoware`."""
    adapted = load_adapter(load_base(config, run).eval(), adapter_folder(run, adapter))
    return export_autoware(merge(adapted.eval()), folder)


def export_autoware(network: PeftDmlNetwork, folder: Path) -> Path:
    """Write both graphs and the parameter file; the network's adapters must be merged.

    Raises ConfigError: the network's pillars have more channels than Autoware takes.
    """
    channels = _lidar(network).pillars.linear.out_features
    if channels > CHANNELS:
        raise ConfigError(
            f"network.lidar.pillar is {channels}; Autoware's lidar_centerpoint takes {CHANNELS} channels at most;"
            f" fix: train with network.lidar.pillar={CHANNELS}"
        )
    network.eval()
    folder.mkdir(parents=True, exist_ok=True)
    grid = network.spec.lidar.pillar_grid
    points, spatial = torch.zeros(4, POINTS, FEATURES), torch.zeros(1, CHANNELS, grid, grid)
    _write(VoxelEncoder(network), points, folder / ENCODER, ("input_features", "pillar_features"), free=True)
    _write(BackboneNeckHead(network), spatial, folder / BACKBONE, ("spatial_features", *OUTPUTS))
    text = yaml.safe_dump({"/**": {"ros__parameters": {"model_params": parameters(network.spec)}}}, sort_keys=False)
    (folder / PARAMETERS).write_text(f"# Written by `peft-dml-train export --format autoware-centerpoint`.\n{text}")
    return folder


def _write(module: nn.Module, example: torch.Tensor, path: Path, names: tuple[str, ...], *, free: bool = False) -> None:
    """Export a module; `free` leaves the number of pillars open."""
    axes = {names[0]: {0: "num_voxels"}, names[1]: {0: "num_voxels"}} if free else None
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (example,),
            str(path),
            input_names=[names[0]],
            output_names=list(names[1:]),
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.save(onnxslim.slim(onnx.load(path)), path)
