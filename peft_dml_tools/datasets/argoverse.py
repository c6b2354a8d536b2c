# SPDX-License-Identifier: Apache-2.0
"""Sensor logs of Argoverse 2 as sources; needs pyarrow (extra `datasets`).

Argoverse's vehicle frame lies in the middle of the rear axle, at its height; `base_link` here is on the ground below.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from peft_dml_ros.conversions.decoders import intensity_of
from peft_dml_ros.conversions.lidar import IntensityField, sweep_of_columns
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep, OdometrySample
from peft_dml_ros.core.rig import CameraModel, Sensor
from peft_dml_ros.core.typing import AnyArray
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.file_source import Entry, FileSource, camera_slots, image_entry, in_rig_order, pose_entries

BASE_SE3_EGO: Final = SE3(np.eye(3), np.array([0.0, 0.0, 0.33]))  #: From Argoverse's vehicle frame: the wheels' radius
#: Class by Argoverse's category; signs, strollers, riders and animals have none
CLASS_OF_CATEGORY: Final = {
    "REGULAR_VEHICLE": "car",
    **dict.fromkeys(("LARGE_VEHICLE", "BOX_TRUCK", "TRUCK", "TRUCK_CAB"), "truck"),
    **dict.fromkeys(("BUS", "SCHOOL_BUS", "ARTICULATED_BUS"), "bus"),
    "VEHICULAR_TRAILER": "trailer",
    **dict.fromkeys(("PEDESTRIAN", "OFFICIAL_SIGNALER"), "pedestrian"),
    "MOTORCYCLE": "motorcycle",
    "BICYCLE": "bicycle",
    **dict.fromkeys(("CONSTRUCTION_CONE",), "traffic_cone"),
    **dict.fromkeys(("CONSTRUCTION_BARREL",), "barrier"),
}
_CALIBRATION: Final = "calibration/egovehicle_SE3_sensor.feather"


def is_argoverse(path: Path) -> bool:
    """Return whether a folder is a sensor log of Argoverse 2."""
    return (path / _CALIBRATION).is_file()


def open_argoverse(path: Path, options: BagOptions) -> FileSource:
    """Open a sensor log; it has its own calibration. Raises DataError: a table is missing or damaged."""
    cameras = {sensor.name: sensor for sensor in _cameras(path)}
    slots = camera_slots(cameras.values())
    lidar = Sensor("LIDAR_TOP", "lidar", BASE_SE3_EGO)
    placed = [Sensor(slots[n], "camera", s.base_SE3_sensor, s.camera) for n, s in cameras.items() if n in slots]
    read = partial(_sweep, intensity=intensity_of("LIDAR_TOP", options.inputs))
    files = (path / "sensors/lidar").glob("*.feather")
    entries = [Entry(int(file.stem), "LIDAR_TOP", partial(read, file)) for file in files]
    for name, slot in slots.items():
        images = (path / "sensors/cameras" / name).glob("*.jpg")
        entries += [image_entry(file, int(file.stem), slot) for file in images]
    poses = _table(path / "city_SE3_egovehicle.feather", ("timestamp_ns", *_POSE))
    city_SE3_base = [
        OdometrySample(int(row["timestamp_ns"]), _se3(row) @ BASE_SE3_EGO.inverse()) for row in _rows(poses)
    ]
    entries += pose_entries(city_SE3_base)
    rig = in_rig_order([lidar, *placed, Sensor("ODOM", None, SE3.identity())])
    places = {slot: f"sensors/cameras/{name}" for name, slot in slots.items()}
    places |= {"LIDAR_TOP": "sensors/lidar", "ODOM": "city_SE3_egovehicle.feather"}
    left_out = {f"CAM_{n.upper()}": "the network has no free slot in its direction" for n in cameras if n not in slots}
    return FileSource(path.name, rig, entries, _truth(path), places, left_out)


_POSE: Final = ("qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m")


def _cameras(path: Path) -> list[Sensor]:
    """Return the cameras by Argoverse's names.

    Its images are undistorted already: k1, k2 and k3 of its table describe the lens before that (av2-api, issue 219).
    """
    mounted = _table(path / _CALIBRATION, ("sensor_name", *_POSE))
    ego_SE3_sensor = {str(row["sensor_name"]): _se3(row) for row in _rows(mounted)}
    wanted = ("sensor_name", "fx_px", "fy_px", "cx_px", "cy_px", "height_px", "width_px")
    cameras = []
    for row in _rows(_table(path / "calibration/intrinsics.feather", wanted)):
        name = str(row["sensor_name"])
        k = np.array([[row["fx_px"], 0, row["cx_px"]], [0, row["fy_px"], row["cy_px"]], [0, 0, 1]], dtype=np.float64)
        camera = CameraModel(k, int(row["width_px"]), int(row["height_px"]))
        if name in ego_SE3_sensor and (path / "sensors/cameras" / name).is_dir():
            cameras.append(Sensor(name, "camera", BASE_SE3_EGO @ ego_SE3_sensor[name], camera))
    return cameras


def _sweep(file: Path, intensity: IntensityField) -> LidarSweep:
    """Read a sweep; its points lie in the vehicle's frame."""
    columns = _table(file, ("x", "y", "z", "intensity", "laser_number"))
    names = ("x", "y", "z", "intensity", "ring")
    kinds = [(name, values.dtype) for name, values in zip(names, columns.values(), strict=True)]
    points = np.rec.fromarrays(list(columns.values()), dtype=kinds)
    return sweep_of_columns(points, int(file.stem), intensity, str(file))


def _truth(path: Path) -> dict[int, Boxes3D]:
    """Return boxes with at least one LiDAR point by stamp; empty for logs without annotations."""
    if not (path / "annotations.feather").is_file():
        return {}
    wanted = ("timestamp_ns", "track_uuid", "category", "length_m", "width_m", "height_m", *_POSE, "num_interior_pts")
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in _rows(_table(path / "annotations.feather", wanted)):
        known = rows[int(row["timestamp_ns"])]
        if str(row["category"]) in CLASS_OF_CATEGORY and row["num_interior_pts"] > 0:
            known.append(row)
    return {stamp_ns: _boxes(found) for stamp_ns, found in rows.items()}


def _boxes(rows: list[dict[str, Any]]) -> Boxes3D:
    poses = [BASE_SE3_EGO @ _se3(row) for row in rows]
    return Boxes3D.make(
        np.array([pose.translation for pose in poses]).reshape(-1, 3),
        np.array([[row["length_m"], row["width_m"], row["height_m"]] for row in rows]).reshape(-1, 3),
        np.array([pose.yaw_rad for pose in poses]),
        np.array([CLASSES.index(CLASS_OF_CATEGORY[str(row["category"])]) for row in rows], dtype=np.int64),
        velocities_mps=np.full((len(rows), 2), np.nan),
        ids=tuple(str(row["track_uuid"]) for row in rows),
    )


def _table(path: Path, wanted: tuple[str, ...]) -> dict[str, AnyArray]:
    """Read columns of a feather file. Raises DataError: the file is missing, damaged, or lacks a column."""
    from pyarrow import ipc  # noqa: PLC0415  an extra
    from pyarrow.lib import ArrowException  # noqa: PLC0415

    try:
        with ipc.open_file(path) as file:  # Feather of version 2 is the file format of Arrow
            table = file.read_all()
        return {name: table[name].to_numpy() for name in wanted}
    except (OSError, KeyError, ValueError, ArrowException) as error:
        msg = f"cannot read {', '.join(wanted)} from {path}: {str(error).splitlines()[0]}; fix: copy it again"
        raise DataError(msg) from error


def _rows(columns: dict[str, AnyArray]) -> list[dict[str, Any]]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _se3(row: dict[str, Any]) -> SE3:
    quaternion = tuple(float(row[name]) for name in _POSE[:4])
    return SE3.from_quaternion_wxyz(quaternion, tuple(float(row[name]) for name in _POSE[4:]))
