# SPDX-License-Identifier: Apache-2.0
"""One name and one severity corrupt a whole frame, all sweeps of it."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, TypeAlias, TypeVar

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, RadarSweep
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import AnyArray, UInt8Array
from peft_dml_tools.sim.corruptions import camera, lidar, radar
from peft_dml_tools.sim.weather.images import edit

REPLACED: Final = (0.2, 0.4, 0.6)  #: Chance that a sensor's content is the previous frame's, or a camera is missing
HALF_FOV_DEG: Final = (90.0, 60.0, 45.0)  #: nuScenes-R's two cuts, and nuScenes-C's hardest
FAILED: Final = (0.25, 0.5, 0.75)  #: Chance that an object returns no LiDAR points; nuScenes-R's is the second


@dataclass(frozen=True, slots=True)
class CorruptionContext:
    """What a corruption may look at."""

    severity: int  #: 1 to 3
    rig: Rig  #: Mountings
    seed: int  #: Of all randomness
    previous: Snapshot | None  #: The frame before; for corruptions in time
    boxes: Boxes3D | None  #: Objects in `base_link` at the frame's stamp; for failing objects

    def rng(self, sensor: str, stamp_ns: int) -> np.random.Generator:
        """Return a generator whose numbers depend on seed, severity, sensor and stamp alone."""
        return np.random.default_rng([self.seed, self.severity, zlib.crc32(sensor.encode()), stamp_ns])


FrameChange: TypeAlias = Callable[[Snapshot, CorruptionContext], Snapshot]
PointChange: TypeAlias = Callable[[AnyArray, int, np.random.Generator], AnyArray]
PixelChange: TypeAlias = Callable[[UInt8Array, int, np.random.Generator], UInt8Array]
_Sensed = TypeVar("_Sensed", LidarSweep, RadarSweep, CameraImage)
_Swept = TypeVar("_Swept", LidarSweep, RadarSweep)


def corrupt(
    snapshot: Snapshot,
    name: str,
    severity: int,
    rig: Rig,
    *,
    seed: int = 0,
    previous: Snapshot | None = None,
    boxes: Boxes3D | None = None,
) -> Snapshot:
    """Return a frame with a corruption.

    Raises ConfigError: no such corruption or severity, or boxes are needed and missing; DataError: an image is none.

    Args:
        snapshot: The frame.
        name: One of `CORRUPTIONS`.
        severity: 1, 2 or 3.
        rig: Mountings.
        seed: Of all randomness; the same frame and seed give the same result.
        previous: The frame before; `temporalmisalignment` changes nothing without it.
        boxes: Objects in `base_link` at the frame's stamp, which `object_failure` needs.
    """
    if name not in CORRUPTIONS:
        raise ConfigError(f"no corruption '{name}'; {nearest(name, CORRUPTIONS)}")
    if severity not in {1, 2, 3}:
        raise ConfigError(f"severity {severity} of '{name}'; fix: give 1, 2 or 3")
    return CORRUPTIONS[name](snapshot, CorruptionContext(severity, rig, seed, previous, boxes))


def _each(
    sensors: dict[str, tuple[_Swept, ...]], change: Callable[[str, _Swept], AnyArray]
) -> dict[str, tuple[_Swept, ...]]:
    """Return all sweeps with the points that a function of sensor and sweep gives."""
    return {n: tuple(replace(s, points=change(n, s)) for s in sweeps) for n, sweeps in sensors.items()}


def _pointwise(change: PointChange, context: CorruptionContext) -> Callable[[str, _Swept], AnyArray]:
    return lambda name, sweep: change(sweep.points, context.severity, context.rng(name, sweep.stamp_ns))


def _on_lidar(change: PointChange) -> FrameChange:
    return lambda snapshot, context: replace(snapshot, lidar=_each(snapshot.lidar, _pointwise(change, context)))


def _on_radar(change: PointChange) -> FrameChange:
    return lambda snapshot, context: replace(snapshot, radars=_each(snapshot.radars, _pointwise(change, context)))


def _on_cameras(change: PixelChange) -> FrameChange:
    def apply(snapshot: Snapshot, context: CorruptionContext) -> Snapshot:
        def one(name: str, image: CameraImage) -> CameraImage:
            rng = context.rng(name, image.stamp_ns)
            return edit(image, lambda pixels: change(pixels, context.severity, rng))

        return replace(snapshot, cameras={name: one(name, image) for name, image in snapshot.cameras.items()})

    return apply


def _both(first: FrameChange, second: FrameChange) -> FrameChange:
    return lambda snapshot, context: second(first(snapshot, context), context)


def _spatial(snapshot: Snapshot, context: CorruptionContext) -> Snapshot:
    errors = {n: lidar.misalignment(context.severity, context.rng(n, snapshot.stamp_ns)) for n in snapshot.lidar}
    return replace(snapshot, lidar=_each(snapshot.lidar, lambda n, s: lidar.moved(s.points, errors[n])))


def _temporal(snapshot: Snapshot, context: CorruptionContext) -> Snapshot:
    """Return the previous frame's content under the stamps of this one, each sensor with its own chance."""
    past = context.previous
    if past is None:
        return snapshot
    late = {
        name
        for name in (*snapshot.lidar, *snapshot.cameras)
        if context.rng(name, snapshot.stamp_ns).random() < REPLACED[context.severity - 1]
    }
    sweeps = {n: _restamped(past.lidar[n], s) for n, s in snapshot.lidar.items() if n in late and n in past.lidar}
    images = {
        name: replace(past.cameras[name], stamp_ns=now.stamp_ns)
        for name, now in snapshot.cameras.items()
        if name in late and name in past.cameras
    }
    return replace(snapshot, lidar=snapshot.lidar | sweeps, cameras=snapshot.cameras | images)


def _restamped(old: tuple[_Sensed, ...], now: tuple[_Sensed, ...]) -> tuple[_Sensed, ...]:
    """Return old contents under new stamps; what the old frame lacks stays as it is."""
    return tuple(replace(o, stamp_ns=n.stamp_ns) for o, n in zip(old, now, strict=False)) + now[len(old) :]


def _missing(snapshot: Snapshot, context: CorruptionContext) -> Snapshot:
    lost = REPLACED[context.severity - 1]
    cameras = {
        name: edit(image, camera.black) if context.rng(name, image.stamp_ns).random() < lost else image
        for name, image in snapshot.cameras.items()
    }
    return replace(snapshot, cameras=cameras)


def _field_of_view(snapshot: Snapshot, context: CorruptionContext) -> Snapshot:
    half_deg, rig = HALF_FOV_DEG[context.severity - 1], context.rig
    cut = _each(snapshot.lidar, lambda n, s: lidar.field_of_view(s.points, rig[n].base_SE3_sensor, half_deg))
    return replace(snapshot, lidar=cut)


def _object_failure(snapshot: Snapshot, context: CorruptionContext) -> Snapshot:
    """Return a frame without the points of some objects; older sweeps keep those that have left their present box."""
    boxes, rig = context.boxes, context.rig
    if boxes is None:
        msg = "object_failure needs the boxes of the objects; fix: pass boxes=, in base_link at the frame's stamp"
        raise ConfigError(msg)
    lost = context.rng("objects", snapshot.stamp_ns).random(len(boxes)) < FAILED[context.severity - 1]
    failing = boxes[lost]
    left = _each(snapshot.lidar, lambda n, s: lidar.object_failure(s.points, rig[n].base_SE3_sensor, failing))
    return replace(snapshot, lidar=left)


#: MultiCorrupt's ten types, by its names
MULTICORRUPT: Final[dict[str, FrameChange]] = {
    "beamsreducing": _on_lidar(lambda points, severity, _: lidar.beams_reducing(points, severity)),
    "pointsreducing": _on_lidar(lidar.points_reducing),
    "fog": _both(_on_lidar(lidar.fog), _on_cameras(camera.fog)),
    "snow": _both(_on_lidar(lidar.snow), _on_cameras(camera.snow)),
    "motionblur": _both(_on_lidar(lidar.motion_blur), _on_cameras(camera.motion_blur)),
    "spatialmisalignment": _spatial,
    "temporalmisalignment": _temporal,
    "missingcamera": _missing,
    "brightness": _on_cameras(lambda pixels, severity, _: camera.brightness(pixels, severity)),
    "dark": _on_cameras(camera.dark),
}

#: RobuRCDet's four kinds
RADAR_NOISE: Final[dict[str, FrameChange]] = {
    "radar_keypoint_missing": _on_radar(radar.keypoint_missing),
    "radar_spurious_points": _on_radar(radar.spurious_points),
    "radar_point_shifting": _on_radar(radar.point_shifting),
    "radar_non_positional": _on_radar(radar.non_positional),
}

#: All of them
CORRUPTIONS: Final[dict[str, FrameChange]] = {
    **MULTICORRUPT,
    **RADAR_NOISE,
    # Not among the kinds: all of them at once.
    "radar_noise": reduce(_both, RADAR_NOISE.values()),
    "field_of_view": _field_of_view,
    "object_failure": _object_failure,
}
