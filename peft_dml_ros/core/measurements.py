# SPDX-License-Identifier: Apache-2.0
"""One container per kind of sensor measurement: a point and its attributes live, and are filtered, together."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.typing import AnyArray, BoolArray, Float32Array, FloatArray, UInt8Array

#: The 18 fields of a nuScenes (ARS408) radar point, 43 bytes packed: metres, m/s, dBsm, sensor frame
RADAR_DTYPE: Final = np.dtype(
    [
        *((name, "<f4") for name in ("x", "y", "z")),
        *(("dyn_prop", "i1"), ("id", "<i2")),
        *((name, "<f4") for name in ("rcs", "vx", "vy", "vx_comp", "vy_comp")),
        *((name, "i1") for name in ("is_quality_valid", "ambig_state", "x_rms", "y_rms", "invalid_state", "pdh0")),
        *(("vx_rms", "i1"), ("vy_rms", "i1")),
    ]
)

_LAST_KNOWN: Final = 6
_CLEAR: Final = 3


@dataclass(frozen=True, slots=True)
class LidarSweep:
    """One LiDAR turn."""

    stamp_ns: int  #: Time of the sweep (its end, as nuScenes stamps it)
    points: Float32Array  #: (N, 5) float32: x, y, z in m (sensor frame), intensity 0-255, ring index
    #: Field of the message that the intensity is from; empty when there was none and it is 0
    intensity_field: str = "intensity"


@dataclass(frozen=True, slots=True)
class RadarSweep:
    """One radar cycle."""

    stamp_ns: int  #: Time of the measurement
    #: (N,) structured `RADAR_DTYPE`, sensor frame; velocities compensated for ego motion in vx_comp, vy_comp
    points: AnyArray


@dataclass(frozen=True, slots=True)
class CameraImage:
    """One image, compressed or not; exactly one of the two payloads is set."""

    stamp_ns: int  #: Time of exposure
    jpeg: bytes | None = None  #: Compressed bytes (JPEG or PNG)
    pixels: UInt8Array | None = None  #: (H, W, 3) uint8, RGB
    #: Colours of the upper left 2 x 2 pixels ("rggb") of a grey JPEG that holds a Bayer mosaic; else empty
    mosaic: str = ""


@dataclass(frozen=True, slots=True)
class ImuSample:
    """One inertial sample in `base_link` axes."""

    stamp_ns: int  #: Time of the sample
    accel_mps2: FloatArray  #: (3,) float64 specific force; reads +9.81 on z at rest (REP-145)
    gyro_radps: FloatArray  #: (3,) float64 angular rate

    def turned(self, rotation: FloatArray) -> "ImuSample":
        """Return the sample in other axes, by the (3, 3) rotation from its own to those."""
        return ImuSample(self.stamp_ns, rotation @ self.accel_mps2, rotation @ self.gyro_radps)


@dataclass(frozen=True, slots=True)
class GnssFix:
    """One satellite fix, WGS-84."""

    stamp_ns: int  #: Time of the fix
    latitude_deg: float  #: Geodetic latitude
    longitude_deg: float  #: Longitude
    altitude_m: float  #: Height above the ellipsoid
    sigma_m: float  #: Horizontal standard deviation
    has_fix: bool = True  #: False while the receiver reports no position (NavSatStatus.STATUS_NO_FIX)


@dataclass(frozen=True, slots=True)
class OdometrySample:
    """Pose of the vehicle in a locally continuous frame."""

    stamp_ns: int  #: Time of the pose
    odom_SE3_base: SE3  #: Maps `base_link` to the odometry frame


def trusted_radar_points(points: AnyArray) -> BoolArray:
    """Return (N,) bool: points that nuscenes-devkit keeps by default: valid, dynamics known, unambiguous in Doppler."""
    dynamics = points["dyn_prop"]
    kept: BoolArray = (
        (points["invalid_state"] == 0) & (dynamics >= 0) & (dynamics <= _LAST_KNOWN) & (points["ambig_state"] == _CLEAR)
    )
    return kept


Measurement = LidarSweep | RadarSweep | CameraImage | ImuSample | GnssFix | OdometrySample
