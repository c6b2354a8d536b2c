# SPDX-License-Identifier: Apache-2.0
"""Writes recordings as a nuScenes folder that the official devkit loads, draws and scores.

Beside the official files, `can_bus/<scene>_gnss.json` holds satellite fixes (`utime`, `latitude_deg`, `longitude_deg`,
`altitude_m`, `sigma_m`, `has_fix`), which nuScenes itself does not have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.typing import IntArray, UInt8Array
from peft_dml_ros.datasets.nuscenes_writer_annotations import SeenBoxes, annotate, count_lidar, count_radar
from peft_dml_ros.datasets.nuscenes_writer_files import file_of, write_file, write_json
from peft_dml_ros.datasets.nuscenes_writer_tables import Tables, channels, scene_file, token

_US = 1000
_KEYFRAME_SPREAD_NS: Final = 250_000_000
"""A measurement further away than this from a keyframe is none of it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a recording is from, as the tables tell it.

    Attributes:
        prefix: Log names and file names begin with it.
        vehicle: Name of the vehicle.
        date_captured: YYYY-MM-DD.
        description: Of the scene.
        annotated: The truth was annotated by somebody: objects far away and without a single point are kept, too.
    """

    prefix: str = "sim"
    vehicle: str = "sim"
    date_captured: str = "2025-01-01"
    description: str = "Simulated street"
    annotated: bool = False


SIMULATED: Final = Origin()


class Recording(Protocol):
    """What the writer needs to know of a drive; `sim.drive.Drive` is one."""

    rig: Rig

    @property
    def location(self) -> str:
        """Name of the map."""

    @property
    def keyframes_ns(self) -> tuple[int, ...]:
        """Stamps of LiDAR sweeps that become samples."""

    @property
    def map_mask(self) -> UInt8Array:
        """(H, W) uint8, 0.1 m a pixel, 255 where drivable."""

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """(sensor name, measurement) in stamp order."""

    def global_SE3_base(self, stamp_ns: int) -> SE3:
        """Pose of `base_link` in the map frame."""

    def truth_at(self, stamp_ns: int) -> Boxes3D:
        """All objects in `base_link`."""

    def category_of(self, object_id: str) -> str:
        """NuScenes category of an object."""


@dataclass(slots=True)
class _Scene:
    """A scene under way."""

    root: Path
    name: str
    recording: Recording
    stamps: dict[str, list[int]]
    tables: Tables
    origin: Origin
    can: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: {"ms_imu": [], "pose": [], "gnss": []})
    points: dict[int, dict[str, IntArray]] = field(default_factory=dict)

    @property
    def log_name(self) -> str:
        return f"{self.origin.prefix}-{self.name}"


def write_scene(
    root: Path,
    version: str,
    scene: str,
    recording: Recording,
    stamps: Mapping[str, list[int]],
    origin: Origin = SIMULATED,
) -> None:
    """Writes a scene's files, and its part of the tables last, so that a scene is either finished or done again.

    Args:
        root: The data set's folder.
        version: Name of the version folder.
        scene: Name of the scene, `scene-` and four digits as the devkit's CAN bus reader wants.
        recording: The drive.
        stamps: All stamps by sensor, in order, known before the first measurement is made.
        origin: Where the recording is from.

    Raises:
        DataError: a file cannot be written; the same call again completes the scene.
    """
    import cv2  # noqa: PLC0415 - keeps importing this module fast

    tables: Tables = {"sample_data": [], "ego_pose": []}
    work = _Scene(root, scene, recording, {k: list(v) for k, v in stamps.items()}, tables, origin)
    keys = _key_stamps(work)
    for channel in channels(recording.rig):
        for folder in ("samples", "sweeps"):
            (root / folder / channel).mkdir(parents=True, exist_ok=True)
    for name, measurement in recording.measurements():
        if isinstance(measurement, (LidarSweep, RadarSweep, CameraImage)):
            _write_file(work, name, measurement, keys[name])
        else:
            _note_motion(work, measurement)
    map_file = f"maps/{token('map', scene)}.png"
    (root / "maps").mkdir(exist_ok=True)
    write_file(root / map_file, cv2.imencode(".png", recording.map_mask)[1].tobytes())
    for message, rows in work.can.items():
        write_json(root / "can_bus" / f"{scene}_{message}.json", rows)
    write_json(root / "can_bus" / f"{scene}_vehicle_monitor.json", _vehicle_monitor(work))
    _scene_tables(work, map_file)
    write_json(scene_file(root, version, scene), work.tables)


def _key_stamps(work: _Scene) -> dict[str, dict[int, int]]:
    """By channel: stamp of the measurement nearest to each keyframe -> the keyframe."""
    out: dict[str, dict[int, int]] = {}
    for channel in channels(work.recording.rig):
        stamps = np.array(work.stamps.get(channel, []), dtype=np.int64)
        keyframes = work.recording.keyframes_ns if len(stamps) else ()
        nearest = {key: int(stamps[np.argmin(np.abs(stamps - key))]) for key in keyframes}
        out[channel] = {at: key for key, at in nearest.items() if abs(at - key) <= _KEYFRAME_SPREAD_NS}
    return out


def _sample_of(work: _Scene, stamp_ns: int) -> int:
    """Keyframe that a sweep belongs to: the next one, as in nuScenes."""
    keyframes = work.recording.keyframes_ns
    return next((key for key in keyframes if key >= stamp_ns), keyframes[-1])


def _write_file(work: _Scene, channel: str, measurement: Measurement, keys: Mapping[int, int]) -> None:
    """One file, its sample_data and its ego_pose."""
    stamp = measurement.stamp_ns
    payload, extension, fileformat = file_of(measurement)
    key = keys.get(stamp)
    folder = "sweeps" if key is None else "samples"
    filename = f"{folder}/{channel}/{work.log_name}__{channel}__{stamp // _US}{extension}"
    write_file(work.root / filename, payload)
    stamps = work.stamps[channel]
    at = stamps.index(stamp)
    own = token(work.name, channel, stamp)
    camera = work.recording.rig[channel].camera
    sample = _sample_of(work, stamp) if key is None else key
    work.tables["sample_data"].append(
        {
            "token": own,
            "sample_token": token(work.name, "sample", sample),
            "ego_pose_token": own,
            "calibrated_sensor_token": token(work.name, "calibrated", channel),
            "timestamp": stamp // _US,
            "fileformat": fileformat,
            "is_key_frame": key is not None,
            "height": camera.height_px if camera else 0,
            "width": camera.width_px if camera else 0,
            "filename": filename,
            "prev": token(work.name, channel, stamps[at - 1]) if at > 0 else "",
            "next": token(work.name, channel, stamps[at + 1]) if at + 1 < len(stamps) else "",
        }
    )
    pose = work.recording.global_SE3_base(stamp)
    work.tables["ego_pose"].append(
        {
            "token": own,
            "timestamp": stamp // _US,
            "rotation": pose.quaternion_wxyz.tolist(),
            "translation": pose.translation.tolist(),
        }
    )
    if key is not None:
        _count(work, channel, measurement, key)


def _count(work: _Scene, channel: str, measurement: Measurement, key: int) -> None:
    """Counts returns inside each box at a keyframe."""
    boxes = work.recording.truth_at(key)
    base_SE3_sensor = work.recording.rig[channel].base_SE3_sensor
    key_SE3_sensor = (
        work.recording.global_SE3_base(key).inverse()
        @ work.recording.global_SE3_base(measurement.stamp_ns)
        @ base_SE3_sensor
    )
    counts = work.points.setdefault(key, {})
    if isinstance(measurement, LidarSweep):
        counts["lidar"] = count_lidar(boxes, key_SE3_sensor.transform(measurement.points[:, :3].astype(np.float64)))
    elif isinstance(measurement, RadarSweep):
        xyz = np.stack([measurement.points[k] for k in ("x", "y", "z")], axis=1).astype(np.float64)
        counts["radar"] = counts.get("radar", np.zeros(len(boxes), np.int64)) + count_radar(
            boxes, key_SE3_sensor.transform(xyz)
        )


def _note_motion(work: _Scene, measurement: Measurement) -> None:
    """CAN bus rows of an inertial sample, a fix or a pose."""
    utime = measurement.stamp_ns // _US
    pose = work.recording.global_SE3_base(measurement.stamp_ns)
    if isinstance(measurement, ImuSample):
        work.can["ms_imu"].append(
            {
                "linear_accel": measurement.accel_mps2.tolist(),
                "q": pose.quaternion_wxyz.tolist(),
                "rotation_rate": measurement.gyro_radps.tolist(),
                "utime": utime,
            }
        )
    elif isinstance(measurement, GnssFix):
        work.can["gnss"].append(
            {
                "utime": utime,
                "latitude_deg": measurement.latitude_deg,
                "longitude_deg": measurement.longitude_deg,
                "altitude_m": measurement.altitude_m,
                "sigma_m": measurement.sigma_m,
                "has_fix": measurement.has_fix,
            }
        )
    else:
        inertial = work.can["ms_imu"][-1] if work.can["ms_imu"] else {}
        work.can["pose"].append(
            {
                "accel": inertial.get("linear_accel", [0.0, 0.0, 0.0]),
                "orientation": pose.quaternion_wxyz.tolist(),
                "pos": pose.translation.tolist(),
                "rotation_rate": inertial.get("rotation_rate", [0.0, 0.0, 0.0]),
                "utime": utime,
                "vel": [_speed_mps(work, measurement.stamp_ns), 0.0, 0.0],
            }
        )


def _speed_mps(work: _Scene, stamp_ns: int, step_ns: int = 50_000_000) -> float:
    """Forward speed by the pose a little later."""
    now, later = (work.recording.global_SE3_base(stamp_ns + d) for d in (0, step_ns))
    return float((now.inverse() @ later).translation[0] / (step_ns * 1e-9))


def _vehicle_monitor(work: _Scene) -> list[dict[str, Any]]:
    """Two rows a second: speed in km/h, yaw rate in degrees/s."""
    rows = []
    for key in work.recording.keyframes_ns:
        now, later = (work.recording.global_SE3_base(key + d) for d in (0, 50_000_000))
        turn = float(np.rad2deg((now.inverse() @ later).yaw_rad) / 0.05)
        rows.append({"utime": key // _US, "vehicle_speed": 3.6 * _speed_mps(work, key), "yaw_rate": turn})
    return rows


def _scene_tables(work: _Scene, map_file: str) -> None:
    """log, map, scene, sample, calibrated_sensor, and the annotations."""
    keyframes, rig = work.recording.keyframes_ns, work.recording.rig
    samples = [token(work.name, "sample", key) for key in keyframes]
    log, scene = token(work.name, "log"), token(work.name, "scene")
    work.tables |= {
        "log": [
            {
                "token": log,
                "logfile": work.log_name,
                "vehicle": work.origin.vehicle,
                "date_captured": work.origin.date_captured,
                "location": work.recording.location,
            }
        ],
        "map": [
            {"category": "semantic_prior", "token": token("map", work.name), "filename": map_file, "log_tokens": [log]}
        ],
        "scene": [
            {
                "token": scene,
                "log_token": log,
                "nbr_samples": len(samples),
                "first_sample_token": samples[0],
                "last_sample_token": samples[-1],
                "name": work.name,
                "description": work.origin.description,
            }
        ],
        "sample": [
            {
                "token": own,
                "timestamp": key // _US,
                "prev": samples[i - 1] if i > 0 else "",
                "next": samples[i + 1] if i + 1 < len(samples) else "",
                "scene_token": scene,
            }
            for i, (own, key) in enumerate(zip(samples, keyframes, strict=True))
        ],
        "calibrated_sensor": [
            {
                "token": token(work.name, "calibrated", name),
                "sensor_token": token("sensor", name),
                "translation": rig[name].base_SE3_sensor.translation.tolist(),
                "rotation": rig[name].base_SE3_sensor.quaternion_wxyz.tolist(),
                "camera_intrinsic": camera.intrinsics.tolist() if (camera := rig[name].camera) else [],
            }
            for name in channels(rig)
        ],
    }
    seen = _seen(work, samples)
    work.tables |= annotate(work.name, seen, work.recording.category_of, keep_all=work.origin.annotated)


def _seen(work: _Scene, samples: list[str]) -> list[SeenBoxes]:
    """All objects at each keyframe, with what was counted in them."""
    return [
        SeenBoxes(
            key,
            own,
            work.recording.truth_at(key),
            work.recording.global_SE3_base(key),
            work.points.get(key, {}).get("lidar"),
            work.points.get(key, {}).get("radar"),
        )
        for key, own in zip(work.recording.keyframes_ns, samples, strict=True)
    ]
