# SPDX-License-Identifier: Apache-2.0
"""One name and one severity corrupt a whole frame, all sweeps of it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Final, TypeAlias, TypeVar

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, RadarSweep
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import AnyArray, Float32Array, UInt8Array
from peft_dml_tools.sim.corruptions import camera, lidar, radar
from peft_dml_tools.sim.weather.images import edit

REPLACED: Final = (0.2, 0.4, 0.6)
"""Chance that a sensor's content is the previous frame's, or a camera is missing."""

HALF_FOV_DEG: Final = (90.0, 60.0, 45.0)
"""nuScenes-R's two cuts, and nuScenes-C's hardest."""

FAILED: Final = (0.25, 0.5, 0.75)
"""Chance that an object returns no LiDAR points; nuScenes-R's is the second."""


@dataclass(frozen=True, slots=True)
class Context:
    """What a corruption may look at.

    Attributes:
        severity: 1 to 3.
        rig: Mountings.
        seed: Of all randomness.
        previous: The frame before; for corruptions in time.
        boxes: Objects in `base_link` at the frame's stamp; for failing objects.
    """

    severity: int
    rig: Rig
    seed: int
    previous: Snapshot | None
    boxes: Boxes3D | None

    def rng(self, sensor: str, stamp_ns: int) -> np.random.Generator:
        """Random numbers by seed, severity, sensor and stamp alone."""
        return np.random.default_rng([self.seed, self.severity, zlib.crc32(sensor.encode()), stamp_ns])


FrameChange: TypeAlias = Callable[[Snapshot, Context], Snapshot]
PointChange: TypeAlias = Callable[[Float32Array, int, np.random.Generator], Float32Array]
RadarChange: TypeAlias = Callable[[AnyArray, int, np.random.Generator], AnyArray]
PixelChange: TypeAlias = Callable[[UInt8Array, int, np.random.Generator], UInt8Array]
_Sensed = TypeVar("_Sensed", LidarSweep, RadarSweep, CameraImage)


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
    """A corrupted frame.

    Args:
        snapshot: The frame.
        name: One of `CORRUPTIONS`.
        severity: 1, 2 or 3.
        rig: Mountings.
        seed: Of all randomness; the same frame and seed give the same result.
        previous: The frame before; `temporalmisalignment` changes nothing without it.
        boxes: Objects in `base_link` at the frame's stamp, which `object_failure` needs.

    Raises:
        ConfigError: no such corruption or severity, or boxes are needed and missing.
        DataError: an image is none.
    """
    if name not in CORRUPTIONS:
        msg = f"no corruption '{name}'; {nearest(name, CORRUPTIONS)}"
        raise ConfigError(msg)
    if severity not in {1, 2, 3}:
        msg = f"severity of '{name}' must be 1, 2 or 3, got {severity}"
        raise ConfigError(msg)
    return CORRUPTIONS[name](snapshot, Context(severity, rig, seed, previous, boxes))


def _on_lidar(change: PointChange) -> FrameChange:
    def apply(snapshot: Snapshot, context: Context) -> Snapshot:
        def one(name: str, sweep: LidarSweep) -> LidarSweep:
            rng = context.rng(name, sweep.stamp_ns)
            return replace(sweep, points=change(sweep.points, context.severity, rng))

        return replace(snapshot, lidar={n: tuple(one(n, s) for s in sweeps) for n, sweeps in snapshot.lidar.items()})

    return apply


def _on_radar(change: RadarChange) -> FrameChange:
    def apply(snapshot: Snapshot, context: Context) -> Snapshot:
        def one(name: str, sweep: RadarSweep) -> RadarSweep:
            rng = context.rng(name, sweep.stamp_ns)
            return replace(sweep, points=change(sweep.points, context.severity, rng))

        return replace(snapshot, radars={n: tuple(one(n, s) for s in sweeps) for n, sweeps in snapshot.radars.items()})

    return apply


def _on_cameras(change: PixelChange) -> FrameChange:
    def apply(snapshot: Snapshot, context: Context) -> Snapshot:
        def one(name: str, image: CameraImage) -> CameraImage:
            rng = context.rng(name, image.stamp_ns)
            return edit(image, lambda pixels: change(pixels, context.severity, rng))

        return replace(snapshot, cameras={name: one(name, image) for name, image in snapshot.cameras.items()})

    return apply


def _both(first: FrameChange, second: FrameChange) -> FrameChange:
    return lambda snapshot, context: second(first(snapshot, context), context)


def _spatial(snapshot: Snapshot, context: Context) -> Snapshot:
    errors = {n: lidar.misalignment(context.severity, context.rng(n, snapshot.stamp_ns)) for n in snapshot.lidar}
    moved = {
        name: tuple(replace(s, points=lidar.moved(s.points, errors[name])) for s in sweeps)
        for name, sweeps in snapshot.lidar.items()
    }
    return replace(snapshot, lidar=moved)


def _temporal(snapshot: Snapshot, context: Context) -> Snapshot:
    """Content of the previous frame under the stamps of this one, each sensor with its own chance."""
    past = context.previous
    if past is None:
        return snapshot

    def late(name: str) -> bool:
        return bool(context.rng(name, snapshot.stamp_ns).random() < REPLACED[context.severity - 1])

    sweeps = {
        name: _restamped(past.lidar[name], now) if name in past.lidar and late(name) else now
        for name, now in snapshot.lidar.items()
    }
    images = {
        name: replace(past.cameras[name], stamp_ns=now.stamp_ns) if name in past.cameras and late(name) else now
        for name, now in snapshot.cameras.items()
    }
    return replace(snapshot, lidar=sweeps, cameras=images)


def _restamped(old: tuple[_Sensed, ...], now: tuple[_Sensed, ...]) -> tuple[_Sensed, ...]:
    """Old contents, new stamps; what the old frame lacks stays as it is."""
    return tuple(replace(o, stamp_ns=n.stamp_ns) for o, n in zip(old, now, strict=False)) + now[len(old) :]


def _missing(snapshot: Snapshot, context: Context) -> Snapshot:
    lost = REPLACED[context.severity - 1]
    cameras = {
        name: edit(image, camera.black) if context.rng(name, image.stamp_ns).random() < lost else image
        for name, image in snapshot.cameras.items()
    }
    return replace(snapshot, cameras=cameras)


def _mounting(context: Context, name: str) -> SE3:
    return context.rig[name].base_SE3_sensor


def _field_of_view(snapshot: Snapshot, context: Context) -> Snapshot:
    half_deg = HALF_FOV_DEG[context.severity - 1]
    cut = {
        name: tuple(
            replace(s, points=lidar.field_of_view(s.points, _mounting(context, name), half_deg)) for s in sweeps
        )
        for name, sweeps in snapshot.lidar.items()
    }
    return replace(snapshot, lidar=cut)


def _object_failure(snapshot: Snapshot, context: Context) -> Snapshot:
    """Sweeps before the newest keep objects that have moved out of their present box."""
    boxes = context.boxes
    if boxes is None:
        msg = "object_failure needs the boxes of the objects; pass boxes=, in base_link at the frame's stamp"
        raise ConfigError(msg)
    lost = context.rng("objects", snapshot.stamp_ns).random(len(boxes)) < FAILED[context.severity - 1]
    left = {
        name: tuple(
            replace(s, points=lidar.object_failure(s.points, _mounting(context, name), boxes, lost)) for s in sweeps
        )
        for name, sweeps in snapshot.lidar.items()
    }
    return replace(snapshot, lidar=left)


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
"""MultiCorrupt's ten types, by its names."""

RADAR_NOISE: Final[dict[str, FrameChange]] = {
    "radar_keypoint_missing": _on_radar(radar.keypoint_missing),
    "radar_spurious_points": _on_radar(radar.spurious_points),
    "radar_point_shifting": _on_radar(radar.point_shifting),
    "radar_non_positional": _on_radar(radar.non_positional),
}
"""RobuRCDet's four kinds."""

CORRUPTIONS: Final[dict[str, FrameChange]] = {
    **MULTICORRUPT,
    **RADAR_NOISE,
    # Not among the kinds: all of them at once.
    "radar_noise": reduce(_both, RADAR_NOISE.values()),
    "field_of_view": _field_of_view,
    "object_failure": _object_failure,
}
"""All that act on one frame; stuck frames act on sequences, see `stuck`."""
