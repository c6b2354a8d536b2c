# SPDX-License-Identifier: Apache-2.0
"""Writes recordings as a nuScenes folder that the official devkit loads, draws and scores.

Next to the official files, `can_bus/<scene>_gnss.json` holds satellite fixes (`utime`, `latitude_deg`, `longitude_deg`,
`altitude_m`, `sigma_m`, `has_fix`), which nuScenes itself does not have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.rig import Sensor
from peft_dml_tools.datasets.nuscenes_tables import NS_PER_US
from peft_dml_tools.datasets.nuscenes_writer_annotations import SeenBoxes, annotate, count_lidar, count_radar
from peft_dml_tools.datasets.nuscenes_writer_files import depth_file, file_of, write_file, write_table
from peft_dml_tools.datasets.nuscenes_writer_recording import (
    SIMULATED,
    DepthRecording,
    Origin,
    SceneWork,
    WritableDrive,
)
from peft_dml_tools.datasets.nuscenes_writer_tables import Tables, channels, scene_file, token

__all__ = ["SIMULATED", "Origin", "WritableDrive", "write_scene"]

_KEYFRAME_SPREAD_NS: Final = 250_000_000  #: A measurement further away than this from a keyframe is none of it


def write_scene(
    root: Path,
    version: str,
    scene: str,
    recording: WritableDrive,
    stamps: Mapping[str, list[int]],
    origin: Origin = SIMULATED,
) -> None:
    """Write a scene's files, and its part of the tables last, so that a scene is either finished or done again.

    Raises DataError: a file cannot be written; the same call again completes the scene.

    Args:
        root: The data set's folder.
        version: Name of the version folder.
        scene: Name of the scene, `scene-` and four digits as the devkit's CAN bus reader wants.
        recording: The drive.
        stamps: All stamps by sensor, in order, known before the first measurement is made.
        origin: Where the recording is from.
    """
    import cv2  # noqa: PLC0415 - keeps importing this module fast

    tables: Tables = {"sample_data": [], "ego_pose": []}
    work = SceneWork(root, scene, recording, {k: list(v) for k, v in stamps.items()}, tables, origin)
    keys = _key_stamps(work)
    for channel in channels(recording.rig):
        for folder in ("samples", "sweeps"):  # also those that stay empty
            (root / folder / channel).mkdir(parents=True, exist_ok=True)
    for name, measurement in recording.measurements():
        if isinstance(measurement, (LidarSweep, RadarSweep, CameraImage)):
            _write_file(work, name, measurement, keys[name])
        else:
            note_motion(work, measurement)
    map_file = f"maps/{token('map', scene)}.png"
    write_file(root / map_file, cv2.imencode(".png", recording.map_mask)[1].tobytes())
    for message, rows in work.can.items():
        write_table(root / "can_bus" / f"{scene}_{message}.json", rows)
    write_table(root / "can_bus" / f"{scene}_vehicle_monitor.json", vehicle_monitor(work))
    _scene_tables(work, map_file)
    write_table(scene_file(root, version, scene), work.tables)


def _key_stamps(work: SceneWork) -> dict[str, dict[int, int]]:
    """Return by channel the keyframe of each measurement that is nearest to one, by stamp."""
    out: dict[str, dict[int, int]] = {}
    for channel in channels(work.recording.rig):
        stamps = np.array(work.stamps.get(channel, []), dtype=np.int64)
        keyframes = work.recording.keyframes_ns if len(stamps) else ()
        nearest = {key: int(stamps[np.argmin(np.abs(stamps - key))]) for key in keyframes}
        out[channel] = {at: key for key, at in nearest.items() if abs(at - key) <= _KEYFRAME_SPREAD_NS}
    return out


def _write_file(work: SceneWork, channel: str, measurement: Measurement, keys: Mapping[int, int]) -> None:
    """Write one file, and record its sample_data and its ego_pose."""
    stamp = measurement.stamp_ns
    payload, extension, fileformat = file_of(measurement)
    key = keys.get(stamp)
    folder = "sweeps" if key is None else "samples"
    filename = f"{folder}/{channel}/{work.log_name}__{channel}__{stamp // NS_PER_US}{extension}"
    write_file(work.root / filename, payload)
    depth = work.recording.depth_png(channel, stamp) if isinstance(work.recording, DepthRecording) else None
    if key is not None and depth is not None:
        write_file(work.root / depth_file(filename), depth)
    stamps = work.stamps[channel]
    at = stamps.index(stamp)
    own = token(work.name, channel, stamp)
    camera = work.recording.rig[channel].camera
    # A sweep belongs to the next keyframe, as in nuScenes.
    keyframes = work.recording.keyframes_ns
    sample = next((k for k in keyframes if k >= stamp), keyframes[-1]) if key is None else key
    work.tables["sample_data"].append(
        {
            "token": own,
            "sample_token": token(work.name, "sample", sample),
            "ego_pose_token": own,
            "calibrated_sensor_token": token(work.name, "calibrated", channel),
            "timestamp": stamp // NS_PER_US,
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
            "timestamp": stamp // NS_PER_US,
            "rotation": pose.quaternion_wxyz.tolist(),
            "translation": pose.translation.tolist(),
        }
    )
    if key is not None:
        _count(work, channel, measurement, key)


def _count(work: SceneWork, channel: str, measurement: Measurement, key: int) -> None:
    """Count returns inside each box at a keyframe, in the map frame: there the boxes are upright."""
    boxes = work.recording.truth_at(key).transform(work.recording.global_SE3_base(key))
    map_SE3_sensor = work.recording.global_SE3_base(measurement.stamp_ns) @ work.recording.rig[channel].base_SE3_sensor
    counts = work.points.setdefault(key, {})
    if isinstance(measurement, LidarSweep):
        counts["lidar"] = count_lidar(boxes, map_SE3_sensor.transform(measurement.points[:, :3].astype(np.float64)))
    elif isinstance(measurement, RadarSweep):
        xyz = np.stack([measurement.points[k] for k in ("x", "y", "z")], axis=1).astype(np.float64)
        counts["radar"] = counts.get("radar", np.zeros(len(boxes), np.int64)) + count_radar(
            boxes, map_SE3_sensor.transform(xyz)
        )


def _scene_tables(work: SceneWork, map_file: str) -> None:
    """Fill log, map, scene, sample, calibrated_sensor, and the annotations."""
    keyframes = work.recording.keyframes_ns
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
                "timestamp": key // NS_PER_US,
                "prev": samples[i - 1] if i > 0 else "",
                "next": samples[i + 1] if i + 1 < len(samples) else "",
                "scene_token": scene,
            }
            for i, (own, key) in enumerate(zip(samples, keyframes, strict=True))
        ],
        "calibrated_sensor": [_calibrated(work.name, work.recording.rig[n]) for n in channels(work.recording.rig)],
    }
    seen = _seen(work, samples)
    work.tables |= annotate(work.name, seen, work.recording.category_of, keep_all=work.origin.annotated)


def _calibrated(scene: str, sensor: Sensor) -> dict[str, Any]:
    camera = sensor.camera
    lens = None if camera is None else camera.lens
    return {
        "token": token(scene, "calibrated", sensor.name),
        "sensor_token": token("sensor", sensor.name),
        "translation": sensor.base_SE3_sensor.translation.tolist(),
        "rotation": sensor.base_SE3_sensor.quaternion_wxyz.tolist(),
        "camera_intrinsic": [] if camera is None else (camera if lens is None else lens).intrinsics.tolist(),
    } | ({} if lens is None else {"camera_distortion": lens.coefficients.tolist(), "distortion_model": lens.model})


def _seen(work: SceneWork, samples: list[str]) -> list[SeenBoxes]:
    """Return all objects at each keyframe, with what was counted in them."""
    drive, counts = work.recording, {key: work.points.get(key, {}) for key in work.recording.keyframes_ns}
    return [
        SeenBoxes(key, own, drive.truth_at(key), drive.global_SE3_base(key), found.get("lidar"), found.get("radar"))
        for own, (key, found) in zip(samples, counts.items(), strict=True)
    ]


def note_motion(work: SceneWork, measurement: Measurement) -> None:
    """Record the CAN bus rows of an inertial sample, a fix or a pose."""
    utime = measurement.stamp_ns // NS_PER_US
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


def _speed_mps(work: SceneWork, stamp_ns: int, step_ns: int = 50_000_000) -> float:
    """Return the forward speed by the pose a little later."""
    now, later = (work.recording.global_SE3_base(stamp_ns + d) for d in (0, step_ns))
    return float((now.inverse() @ later).translation[0] / (step_ns * 1e-9))


def vehicle_monitor(work: SceneWork) -> list[dict[str, Any]]:
    """Return two rows a second: speed in km/h, yaw rate in degrees/s."""
    rows = []
    for key in work.recording.keyframes_ns:
        now, later = (work.recording.global_SE3_base(key + d) for d in (0, 50_000_000))
        turn = float(np.rad2deg((now.inverse() @ later).yaw_rad) / 0.05)
        rows.append({"utime": key // NS_PER_US, "vehicle_speed": 3.6 * _speed_mps(work, key), "yaw_rate": turn})
    return rows
