# SPDX-License-Identifier: Apache-2.0
"""Satellite fixes made from the poses of a nuScenes scene, which has none of its own; marked as what they are."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import GnssFix, Measurement, OdometrySample
from peft_dml_ros.core.motion import EARTH_RADIUS_M
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_tools.map_origins import MAP_ORIGINS_DEG
from peft_dml_tools.measurement_source import Source, WrappedSource

#: The localisation is good to a decimetre; the flat map does not lie quite on the ellipsoid 2 km from its corner
SIGMA_M: Final = 1.0

FRAME: Final = "gnss_derived"  #: `header.frame_id` of such fixes: whoever plays the bag sees that no receiver made them
_PERIOD_NS: Final = 100_000_000


class WithDerivedGnss(WrappedSource):
    """A source with fixes at 10 Hz made from its odometry, whose frame must be the map's."""

    def __init__(self, source: Source, location: str) -> None:
        """Add fixes to a source. Raises ConfigError: the source has GNSS already, or the map's place is not known."""
        if "GNSS" in source.rig.sensors:
            raise ConfigError(f"'{source.name}' has satellite fixes of its own; fix: leave --derive-gnss out")
        if location not in MAP_ORIGINS_DEG:
            msg = f"where the map '{location}' lies is not known"
            raise ConfigError(f"{msg}; fix: use one of {', '.join(MAP_ORIGINS_DEG)}")
        super().__init__(source)
        self._origin_deg = MAP_ORIGINS_DEG[location]

    @property
    def rig(self) -> Rig:
        """The source's, and GNSS at the vehicle's origin."""
        return Rig(self._source.rig.sensors | {"GNSS": Sensor("GNSS", "gnss", SE3.identity())})

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield the source's measurements, with a fix after the first pose of every tenth of a second."""
        next_ns: int | None = None
        for name, measurement in self._source.measurements():
            yield name, measurement
            if isinstance(measurement, OdometrySample) and (next_ns is None or measurement.stamp_ns >= next_ns):
                next_ns = measurement.stamp_ns + _PERIOD_NS
                yield "GNSS", self._fix(measurement)

    def _fix(self, sample: OdometrySample) -> GnssFix:
        east_m, north_m, up_m = (float(value) for value in sample.odom_SE3_base.translation)
        latitude_deg, longitude_deg = self._origin_deg
        shrunk_m = EARTH_RADIUS_M * float(np.cos(np.deg2rad(latitude_deg)))
        return GnssFix(
            sample.stamp_ns,
            latitude_deg + float(np.rad2deg(north_m / EARTH_RADIUS_M)),
            longitude_deg + float(np.rad2deg(east_m / shrunk_m)),
            up_m,
            SIGMA_M,
        )
