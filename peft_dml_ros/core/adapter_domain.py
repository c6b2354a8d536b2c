# SPDX-License-Identifier: Apache-2.0
"""What an adapter is for: figures of the clouds and pictures it was made for, and sensors that it does without.

The figures are of the measurements themselves, so they are the same with every adapter. An adapter's folder holds them
in `domain.json`; `adapter_router` tells by them which adapter suits what the sensors see.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from peft_dml_ros.core.camera_view import thumbnail
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.errors import BundleError, DataError
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import Frozen

DOMAIN: Final = "domain.json"
CLOSE_M: Final = 2.0
NEAR_M: Final = 8.0
FAR_M: Final = 30.0
LEAST_SHARE: Final = 1e-4
CAMERAS: Final = 2  #: Pictures that are looked at: each costs the vehicle a few milliseconds
FREEDOM: Final = 4.0  #: Degrees of freedom of Student's t: one odd figure does not decide alone
#: Deviation that is always allowed; logarithms, shares and grey levels from 0 to 1 are all of this size
LEAST_SPREAD: Final = 0.01


class Spread(NamedTuple):
    """How a figure is distributed over the frames of a domain."""

    mean: float
    deviation: float

    @property
    def width(self) -> float:
        """Deviation, or the one that is always allowed."""
        return max(self.deviation, LEAST_SPREAD)


class AdapterDomain(Frozen):
    """What `domain.json` holds."""

    figures: dict[str, Spread] = Field(description="Mean and deviation by figure, see `scene_figures`")
    frames: int = Field(gt=0)
    absent: tuple[Modality, ...] = Field((), description="Sensors without which it was trained to be used")

    def fit(self, figures: Mapping[str, float]) -> float:
        """Return the mean log-likelihood of the figures that both sides have; NaN where none is shared."""
        both = self.figures.keys() & figures.keys()
        return float(np.mean([_log_density(figures[name], self.figures[name]) for name in both])) if both else math.nan

    def distance(self, figures: Mapping[str, float]) -> float:
        """Return how many deviations the figures that both sides have lie away, on average; 0 where none is shared."""
        both = self.figures.keys() & figures.keys()
        away = [abs(figures[name] - self.figures[name].mean) / self.figures[name].width for name in both]
        return float(np.mean(away)) if away else 0.0


def _log_density(value: float, spread: Spread) -> float:
    z = (value - spread.mean) / spread.width
    return -0.5 * (FREEDOM + 1) * math.log1p(z * z / FREEDOM) - math.log(spread.width)


def scene_figures(snapshot: Snapshot) -> dict[str, float]:
    """Return figures of a frame by name; those of absent sensors are left out.

    `lidar_points` and `radar_points` are decimal logarithms of counts in the newest sweeps, `lidar_near` that of the
    share of points from 2 to 8 m above the sensor's own height, where little but drops and flakes scatters; `lidar_far`
    is the share beyond 30 m, `lidar_intensity` the mean of 0 to 1; `camera_light` and `camera_contrast` are mean and
    deviation of the grey level of 0 to 1.
    """
    found = {}
    clouds = [sweeps[0].points for sweeps in snapshot.lidar.values() if sweeps]
    if points := sum(map(len, clouds)):
        cloud = np.concatenate(clouds)
        distance = np.hypot(cloud[:, 0], cloud[:, 1])
        near = (distance > CLOSE_M) & (distance < NEAR_M) & (cloud[:, 2] > 0.0)
        found = {
            "lidar_points": math.log10(points),
            "lidar_near": math.log10(near.mean() + LEAST_SHARE),
            "lidar_far": float((distance > FAR_M).mean()),
            "lidar_intensity": float(np.nan_to_num(cloud[:, 3]).mean()) / 255,
        }
    if radar := sum(len(sweeps[0].points) for sweeps in snapshot.radars.values() if sweeps):
        found["radar_points"] = math.log10(radar)
    return found | _picture_figures(snapshot)


def _picture_figures(snapshot: Snapshot) -> dict[str, float]:
    looks = []
    for name in sorted(snapshot.cameras)[:CAMERAS]:
        try:
            grey = thumbnail(snapshot.cameras[name])
        except DataError:
            continue
        if grey is not None:
            looks.append((float(grey.mean()) / 255, float(grey.std()) / 255))
    if not looks:
        return {}
    light, contrast = np.mean(looks, axis=0)
    return {"camera_light": float(light), "camera_contrast": float(contrast)}


def read_domain(folder: Path) -> AdapterDomain | None:
    """Return the domain of an adapter; None where its folder holds none. Raises BundleError: the file is damaged."""
    path = folder / DOMAIN
    if not path.is_file():
        return None
    try:
        found = AdapterDomain.model_validate_json(path.read_bytes())
    except ValidationError as error:
        msg = f"{path} is no description of a domain: {error}; fix: add the adapter again from its source"
        raise BundleError(msg) from error
    if not all(map(math.isfinite, (n for spread in found.figures.values() for n in spread))):
        raise BundleError(f"{path}: a figure is not finite; fix: add the adapter again from its source")
    return found
