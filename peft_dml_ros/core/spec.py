# SPDX-License-Identifier: Apache-2.0
"""Model facts: the grid, the inputs and the outputs of the network, as training and the vehicle both read them.

These settings travel inside a bundle's manifest, never in a robot's parameter file.
"""

from functools import cached_property
from typing import Annotated, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from peft_dml_ros.core.classes import CLASSES, DETECTING
from peft_dml_ros.core.typing import FloatArray

Positive = Annotated[int, Field(gt=0)]


class Frozen(BaseModel):
    """Base of all configuration: immutable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GridSpec(Frozen):
    """Square bird's-eye-view grid in `base_link`.

    A map is indexed [row, column] = [y, x]: cell (0, 0) has the smallest x and y; flat index = row * size + column.
    """

    half_range_m: float = Field(51.2, gt=0, description="The grid covers ± this in x and y")
    size: Positive = Field(128, description="Cells per side of the common grid")

    @cached_property
    def cell_m(self) -> float:
        """Side of a cell."""
        return 2 * self.half_range_m / self.size


class LidarSpec(Frozen):
    """Pillars over accumulated LiDAR sweeps.

    Point features: x, y, z (m, base_link), intensity (0-1), age (s), offsets from the pillar's mean x, y, z and from
    the pillar's centre x, y. Spare rows of a pillar repeat its first point: a maximum over them changes nothing.
    """

    sweeps: Positive = Field(3, description="Sweeps accumulated, the newest included")
    spacing_s: float = Field(
        0.1, ge=0.0, description="Time between these: a faster LiDAR's sweeps in between are left out; 0 takes each"
    )
    pillar_grid: Positive = Field(256, description="Pillars per side over the grid's range")
    pillars: Positive = Field(10000, description="Pillars kept; the surplus is dropped from the far end")
    points_per_pillar: Positive = Field(8, description="Points kept per pillar")
    features: int = 10
    z_min_m: float = -2.0
    z_max_m: float = 5.0
    min_range_m: float = Field(2.0, description="Returns nearer than this to the sensor are the vehicle itself")


class CameraSpec(Frozen):
    """Images, their feature map, and the voxel grid that gathers from it.

    Each image is scaled so that its width fits, then cropped from the top: the sky goes, the road stays.
    """

    cameras: tuple[str, ...] = (
        "CAM_FRONT",
        "CAM_FRONT_RIGHT",
        "CAM_BACK_RIGHT",
        "CAM_BACK",
        "CAM_BACK_LEFT",
        "CAM_FRONT_LEFT",
    )
    width_px: Positive = 352
    height_px: Positive = 128
    stride: Positive = Field(8, description="Image pixels per feature cell")
    depth_min_m: float = 2.0
    depth_max_m: float = 58.0
    depth_bins: Positive = 40
    voxel_heights_m: tuple[float, ...] = Field((0.3, 1.0, 2.2), description="Heights of the voxels in base_link")

    @property
    def feature_hw(self) -> tuple[int, int]:
        """Rows and columns of one camera's feature map."""
        return self.height_px // self.stride, self.width_px // self.stride

    @property
    def depth_edges_m(self) -> FloatArray:
        """(depth_bins + 1,) edges of the depth bins along the optical axis; bins widen linearly with depth."""
        steps = np.arange(self.depth_bins + 1, dtype=np.float64)
        growth = steps * (steps + 1) / (self.depth_bins * (self.depth_bins + 1))
        return self.depth_min_m + (self.depth_max_m - self.depth_min_m) * growth


class RadarSpec(Frozen):
    """Radar pillars on the common grid.

    Point features: x, y (m, base_link, moved by v·dt), RCS / 20, compensated velocity vx, vy (m/s / 10, base_link
    axes), age (s), offsets from the pillar's centre x, y. Spare rows repeat the pillar's first point.
    """

    sweeps: Positive = 6
    pillars: Positive = 1000
    points_per_pillar: Positive = 4
    features: int = 8


class ImuSpec(Frozen):
    """Inertial window in equal steps that end at the reference time: accel / 9.81 (3), gyro in rad/s (3), valid (1)."""

    steps: Positive = 32
    window_s: float = 0.5
    features: int = 7


class GnssSpec(Frozen):
    """Relative motion by satellite: each of the last fixes against the newest, in axes turned to the course.

    Features: age (s), along, across, up, sigma (each m / 10), valid. Absolute position never enters.
    """

    steps: Positive = 8
    window_s: float = 1.0
    features: int = 6


REGRESSION = (
    "dx",
    "dy",
    "z",
    "log_length",
    "log_width",
    "log_height",
    "sin_2yaw",
    "cos_2yaw",
    "heading_x",
    "heading_y",
    "vx",
    "vy",
    "log_var_xy",
    "log_var_z",
    "log_var_yaw",
)
"""Columns of the head's `regression` output.

dx, dy: box centre minus the centre of its cell, in cells (-0.5 to 0.5); z: geometric centre in base_link, m;
natural logarithms of the sizes in m; sine and cosine of twice the yaw, which give the box's axis; a vector whose dot
product with the axis is the logit of "the front is ahead" against "the front is behind"; velocity over ground in m/s
along base_link's axes; natural logarithms of the variances of x and y (m²), z (m²) and yaw (rad²).
"""

#: Columns of bundles made before the axis and the direction were separate: sine and cosine of the yaw itself
REGRESSION_WITHOUT_AXIS = tuple(
    {"sin_2yaw": "sin_yaw", "cos_2yaw": "cos_yaw"}.get(name, name)
    for name in REGRESSION
    if name not in {"heading_x", "heading_y"}
)


class ModelSpec(Frozen):
    """Everything about a network that the vehicle has to know."""

    classes: tuple[str, ...] = CLASSES
    latent_dim: Positive = 32
    candidates: Annotated[int, Field(gt=0, le=500)] = Field(200, description="Top-K candidates that leave the graph")
    grid: GridSpec = GridSpec()
    lidar: LidarSpec = LidarSpec()
    camera: CameraSpec = CameraSpec()
    radar: RadarSpec = RadarSpec()
    imu: ImuSpec = ImuSpec()
    gnss: GnssSpec = GnssSpec()
    regression: tuple[str, ...] = Field(REGRESSION, description="Columns of the fusion graph's `regression` output")


#: Inputs that depend on calibration alone: `InputAssembler` makes them once and never writes to them again
CONSTANT_INPUTS = frozenset({"voxel_pixel", "voxel_depth"})

TensorTable: TypeAlias = dict[str, tuple[tuple[int, ...], str]]  #: Shape and numpy dtype name by tensor name


def graph_inputs(spec: ModelSpec) -> dict[str, TensorTable]:
    """Return input names, shapes and dtypes of every exported graph: the contract of export, engines and detector."""
    cells, d = spec.grid.size, spec.latent_dim
    voxels = len(spec.camera.voxel_heights_m) * cells * cells
    n = len(spec.camera.cameras)
    lidar, radar = spec.lidar, spec.radar
    return {
        "lidar": {
            "pillars": ((lidar.pillars, lidar.points_per_pillar, lidar.features), "float32"),
            "index_map": ((lidar.pillar_grid**2,), "int32"),
        },
        "camera": {
            "images": ((n, spec.camera.height_px, spec.camera.width_px, 3), "uint8"),
            "present": ((n,), "float32"),
            "voxel_pixel": ((voxels,), "int32"),
            "voxel_depth": ((voxels,), "int32"),
        },
        "radar": {
            "pillars": ((radar.pillars, radar.points_per_pillar, radar.features), "float32"),
            "index_map": ((cells**2,), "int32"),
        },
        "imu": {"window": ((spec.imu.steps, spec.imu.features), "float32")},
        "gnss": {"window": ((spec.gnss.steps, spec.gnss.features), "float32")},
        "fusion": {
            **dict.fromkeys(DETECTING, ((1, d, cells, cells), "float32")),
            **dict.fromkeys(("imu", "gnss"), ((1, d), "float32")),
            **dict.fromkeys(("mask", "age_s", "completeness"), ((5,), "float32")),
        },
    }


def graph_outputs(spec: ModelSpec) -> dict[str, TensorTable]:
    """Output names, shapes and dtypes of every exported graph."""
    cells, d, k = spec.grid.size, spec.latent_dim, spec.candidates
    latent: TensorTable = {"latent": ((1, d, cells, cells), "float32")}
    token: TensorTable = {"latent": ((1, d), "float32")}
    return {
        **dict.fromkeys(DETECTING, latent),
        **dict.fromkeys(("imu", "gnss"), token),
        "fusion": {
            "scores": ((k,), "float32"),
            "labels": ((k,), "int32"),
            "cells": ((k,), "int32"),
            "regression": ((k, len(spec.regression)), "float32"),
            "attributes": ((k, 8), "float32"),
            "gate": ((5,), "float32"),
        },
    }
