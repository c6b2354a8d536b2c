# SPDX-License-Identifier: Apache-2.0
"""One container per kind of sensor measurement: a point and its attributes live, and are filtered, together."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.typing import AnyArray, BoolArray, Float32Array, FloatArray, UInt8Array

RADAR_DTYPE: Final = np.dtype(
    [
        *((name, "<f4") for name in ("x", "y", "z")),
        *(("dyn_prop", "i1"), ("id", "<i2")),
        *((name, "<f4") for name in ("rcs", "vx", "vy", "vx_comp", "vy_comp")),
        *((name, "i1") for name in ("is_quality_valid", "ambig_state", "x_rms", "y_rms", "invalid_state", "pdh0")),
        *(("vx_rms", "i1"), ("vy_rms", "i1")),
    ]
)
"""The 18 fields of a nuScenes (ARS408) radar point, 43 bytes packed: metres, m/s, dBsm, sensor frame."""

_LAST_KNOWN: Final = 6
_CLEAR: Final = 3


@dataclass(frozen=True, slots=True)
class LidarSweep:
    """One LiDAR turn.

    Attributes:
        stamp_ns: Time of the sweep (its end, as nuScenes stamps it).
        points: (N, 5) float32: x, y, z in m (sensor frame), intensity 0-255, ring index.
        intensity_field: Field of the message that the intensity is from; empty when there was none and it is 0.
    """

    stamp_ns: int
    points: Float32Array
    intensity_field: str = "intensity"


@dataclass(frozen=True, slots=True)
class RadarSweep:
    """One radar cycle.

    Attributes:
        stamp_ns: Time of the measurement.
        points: (N,) structured `RADAR_DTYPE`, sensor frame; velocities compensated for ego motion in vx_comp, vy_comp.
    """

    stamp_ns: int
    points: AnyArray


@dataclass(frozen=True, slots=True)
class CameraImage:
    """One image, compressed or not; exactly one of the two payloads is set.

    Attributes:
        stamp_ns: Time of exposure.
        jpeg: Compressed bytes (JPEG or PNG).
        pixels: (H, W, 3) uint8, RGB.
        mosaic: Colours of the upper left 2 x 2 pixels ("rggb") of a grey JPEG that holds a Bayer mosaic; else empty.
    """

    stamp_ns: int
    jpeg: bytes | None = None
    pixels: UInt8Array | None = None
    mosaic: str = ""


@dataclass(frozen=True, slots=True)
class ImuSample:
    """One inertial sample in `base_link` axes.

    Attributes:
        stamp_ns: Time of the sample.
        accel_mps2: (3,) float64 specific force; reads +9.81 on z at rest (REP-145).
        gyro_radps: (3,) float64 angular rate.
    """

    stamp_ns: int
    accel_mps2: FloatArray
    gyro_radps: FloatArray


@dataclass(frozen=True, slots=True)
class GnssFix:
    """One satellite fix, WGS-84.

    Attributes:
        stamp_ns: Time of the fix.
        latitude_deg: Geodetic latitude.
        longitude_deg: Longitude.
        altitude_m: Height above the ellipsoid.
        sigma_m: Horizontal standard deviation.
        has_fix: False while the receiver reports no position (NavSatStatus.STATUS_NO_FIX).
    """

    stamp_ns: int
    latitude_deg: float
    longitude_deg: float
    altitude_m: float
    sigma_m: float
    has_fix: bool = True


@dataclass(frozen=True, slots=True)
class OdometrySample:
    """Pose of the vehicle in a locally continuous frame.

    Attributes:
        stamp_ns: Time of the pose.
        odom_SE3_base: Maps `base_link` to the odometry frame.
    """

    stamp_ns: int
    odom_SE3_base: SE3


def trusted_radar_points(points: AnyArray) -> BoolArray:
    """Return (N,) bool: points that nuscenes-devkit keeps by default: valid, dynamics known, unambiguous in Doppler."""
    dynamics = points["dyn_prop"]
    kept: BoolArray = (
        (points["invalid_state"] == 0) & (dynamics >= 0) & (dynamics <= _LAST_KNOWN) & (points["ambig_state"] == _CLEAR)
    )
    return kept


Measurement = LidarSweep | RadarSweep | CameraImage | ImuSample | GnssFix | OdometrySample
