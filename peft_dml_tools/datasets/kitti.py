# SPDX-License-Identifier: Apache-2.0
"""KITTI folders as sources: the object benchmark (velodyne/, calib/, image_2/, label_2/) and raw drives.

`base_link` is put under the middle of the rear axle as KITTI's drawing of the vehicle has it; LiDAR points are in the
LiDAR's own frame. Frames of the object benchmark are single moments, ten seconds apart here.
"""

import re
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from peft_dml_ros.conversions.decoders import intensity_of
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.jpeg import picture_header
from peft_dml_ros.core.measurements import GnssFix, LidarSweep, OdometrySample
from peft_dml_ros.core.motion import EARTH_RADIUS_M
from peft_dml_ros.core.rig import CameraModel, Sensor
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.file_source import Entry, FileSource, image_entry, in_rig_order, pose_entries
from peft_dml_tools.datasets.nuscenes_images import read_image
from peft_dml_tools.datasets.point_files import read_sweep

BASE_SE3_LIDAR: Final = SE3(np.eye(3), np.array([0.76, 0.0, 1.73]))
#: Class by KITTI's type; trams, misc and DontCare have none
CLASS_OF_TYPE: Final = {
    "Car": "car",
    "Van": "car",
    "Truck": "truck",
    "Pedestrian": "pedestrian",
    "Person_sitting": "pedestrian",
    "Cyclist": "bicycle",
}
_NUMBERS: Final = re.compile(r"[\d\seE.+-]+")
_MOMENTS_NS: Final = 10_000_000_000


def is_kitti(path: Path) -> bool:
    """Return whether a folder is one of KITTI's object benchmark or a raw drive."""
    return (path / "velodyne_points").is_dir() or ((path / "velodyne").is_dir() and (path / "calib").is_dir())


def open_kitti(path: Path, options: BagOptions) -> FileSource:
    """Open a folder of KITTI; of the options, only those on intensity count: it has its own calibration.

    Raises DataError: calibration or sweeps are missing or damaged.
    """
    read = partial(read_sweep, columns=4, intensity=intensity_of("LIDAR_TOP", options.inputs))
    return _raw_drive(path, read) if (path / "velodyne_points").is_dir() else _object_benchmark(path, read)


def _object_benchmark(path: Path, read: Callable[[Path, int], LidarSweep]) -> FileSource:
    files = sorted((path / "velodyne").glob("*.bin"))
    if not files:
        raise DataError(f"{path / 'velodyne'} holds no .bin file; fix: name the folder above velodyne/")
    entries, truth, sensors = list[Entry](), dict[int, Boxes3D](), dict[str, Sensor]()
    for number, file in enumerate(files):
        stamp_ns = (number + 1) * _MOMENTS_NS
        values = _calibration(path / "calib" / f"{file.stem}.txt")
        lidar_SE3_camera = _lidar_SE3_camera(values, path / "calib")
        entries.append(Entry(stamp_ns, "LIDAR_TOP", partial(read, file, stamp_ns)))
        image = next((p for p in (path / "image_2" / f"{file.stem}{e}" for e in (".png", ".jpg")) if p.is_file()), None)
        if image is not None:
            entries.append(image_entry(image, stamp_ns, "CAM_FRONT"))
            # Calibrations differ a little from day to day; the first counts for all.
            sensors.setdefault("CAM_FRONT", _camera(values["P2"], lidar_SE3_camera, image))
        if (label := path / "label_2" / f"{file.stem}.txt").is_file():
            truth[stamp_ns] = _labels(label, BASE_SE3_LIDAR @ lidar_SE3_camera)
    places = {"LIDAR_TOP": "velodyne", "CAM_FRONT": "image_2"}
    lidar = Sensor("LIDAR_TOP", "lidar", BASE_SE3_LIDAR)
    return FileSource(path.name, in_rig_order([lidar, *sensors.values()]), entries, truth, places)


def _raw_drive(path: Path, read: Callable[[Path, int], LidarSweep]) -> FileSource:
    places = {
        "LIDAR_TOP": "velodyne_points/data",
        "CAM_FRONT": "image_02/data",
        "GNSS": "oxts/data",
        "ODOM": "oxts/data",
    }
    entries = [
        Entry(stamp_ns, "LIDAR_TOP", partial(read, file, stamp_ns))
        for file, stamp_ns in _timed(path / "velodyne_points", "*.bin")
    ]
    sensors = [Sensor("LIDAR_TOP", "lidar", BASE_SE3_LIDAR)]
    days = [folder for folder in (path.parent, path) if (folder / "calib_velo_to_cam.txt").is_file()]
    images = _timed(path / "image_02", "*.*")
    left_out = {}
    if images and days:
        outer, inner = (_calibration(days[0] / f"calib_{name}.txt") for name in ("velo_to_cam", "cam_to_cam"))
        values = {"Tr_velo_to_cam": np.concatenate([outer["R"].reshape(3, 3), outer["T"].reshape(3, 1)], axis=1)}
        values["R0_rect"], values["P2"] = inner["R_rect_00"], inner["P_rect_02"]
        sensors.append(_camera(values["P2"], _lidar_SE3_camera(values, days[0]), images[0][0]))
        entries += [image_entry(file, stamp_ns, "CAM_FRONT") for file, stamp_ns in images]
    elif images:
        left_out["CAM_FRONT"] = f"no calib_velo_to_cam.txt and calib_cam_to_cam.txt in {path.parent}"
    if oxts := _timed(path / "oxts", "*.txt"):
        fixes, poses = _motion(oxts)
        entries += pose_entries(poses)
        entries += [Entry(fix.stamp_ns, "GNSS", lambda fix=fix: fix) for fix in fixes]  # type: ignore[misc]
        sensors += [Sensor("ODOM", None, SE3.identity()), Sensor("GNSS", "gnss", SE3.identity())]
    return FileSource(path.name, in_rig_order(sensors), entries, places=places, left_out=left_out)


def _timed(folder: Path, pattern: str) -> list[tuple[Path, int]]:
    """Return the files of a sensor with their times."""
    if not (folder / "timestamps.txt").is_file():
        return []
    lines = (folder / "timestamps.txt").read_text(encoding="ascii").split("\n")
    files = {int(p.stem): p for p in (folder / "data").glob(pattern) if p.stem.isdecimal()}
    timed = []
    for number, line in enumerate(line.strip() for line in lines):
        if line and number in files:
            whole, _, fraction = line.partition(".")
            at = datetime.strptime(whole, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)
            timed.append((files[number], int(at.timestamp()) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])))
    return timed


def _motion(oxts: list[tuple[Path, int]]) -> tuple[list[GnssFix], list[OdometrySample]]:
    """Return fixes, and poses in a plane that touches the Earth at the first one."""
    rows = [np.array(file.read_text(encoding="ascii").split(), dtype=np.float64) for file, _ in oxts]
    origin, fixes, poses = rows[0], [], []
    for row, (_, stamp_ns) in zip(rows, oxts, strict=True):
        east_rad, north_rad = np.deg2rad(row[1] - origin[1]), np.deg2rad(row[0] - origin[0])
        place = np.array([east_rad * np.cos(np.deg2rad(origin[0])) * EARTH_RADIUS_M, north_rad * EARTH_RADIUS_M, 0.0])
        place[2] = row[2] - origin[2]
        poses.append(OdometrySample(stamp_ns, SE3.from_yaw(float(row[5]), tuple(place))))
        fixes.append(GnssFix(stamp_ns, float(row[0]), float(row[1]), float(row[2]), float(row[23])))
    return fixes, poses


def _calibration(path: Path) -> dict[str, FloatArray]:
    """Return the lines `name: numbers` of a calibration file. Raises DataError: it cannot be read."""
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {path}: {error}; fix: put the calibration of KITTI next to its sweeps") from error
    named = (line.partition(":") for line in lines)
    # Other lines hold dates.
    return {name: np.array(text.split(), dtype=np.float64) for name, _, text in named if _NUMBERS.fullmatch(text)}


def _lidar_SE3_camera(values: dict[str, FloatArray], where: Path) -> SE3:
    """Return the pose of the rectified camera 0 in the LiDAR's frame."""
    try:
        camera_T_lidar = values["Tr_velo_to_cam"].reshape(3, 4)
        rectifying = values["R0_rect"].reshape(3, 3)
    except (KeyError, ValueError) as error:
        msg = f"{where}: no Tr_velo_to_cam of 12 and R0_rect of 9 numbers ({error}); fix: copy it again"
        raise DataError(msg) from error
    # The files have seven digits: the nearest rotation is meant.
    u, _, v = np.linalg.svd(rectifying @ camera_T_lidar[:, :3])
    return SE3(u @ v, rectifying @ camera_T_lidar[:, 3]).inverse()


def _camera(projection: FloatArray, lidar_SE3_camera: SE3, image: Path) -> Sensor:
    """Return the left colour camera: its offset from the rectified camera 0 is the last column of P."""
    matrix = projection.reshape(3, 4)
    intrinsics = matrix[:, :3].copy()
    shift = SE3(np.eye(3), -np.linalg.solve(intrinsics, matrix[:, 3]))
    width, height, _ = picture_header(read_image(image))
    pose = BASE_SE3_LIDAR @ lidar_SE3_camera @ shift
    return Sensor("CAM_FRONT", "camera", pose, CameraModel(intrinsics, width, height))


def _labels(path: Path, base_SE3_camera: SE3) -> Boxes3D:
    """Return the boxes of a label file; KITTI gives the middle of the bottom, and the turn about the camera's y."""
    rows = [line.split() for line in path.read_text(encoding="ascii").splitlines()]
    rows = [row for row in rows if row and row[0] in CLASS_OF_TYPE]
    if not rows:
        return Boxes3D.empty()
    try:
        numbers = np.array([row[8:15] for row in rows], dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{path}: a line has no 15 values ({error}); fix: copy it again") from error
    height, width, length = numbers[:, :3].T
    centres = numbers[:, 3:6] - np.stack([0 * height, height / 2, 0 * height], axis=1)
    turn = numbers[:, 6]
    ahead = base_SE3_camera.rotate(np.stack([np.cos(turn), 0 * turn, -np.sin(turn)], axis=1))
    return Boxes3D.make(
        base_SE3_camera.transform(centres),
        np.stack([length, width, height], axis=1),
        np.arctan2(ahead[:, 1], ahead[:, 0]),
        np.array([CLASSES.index(CLASS_OF_TYPE[row[0]]) for row in rows], dtype=np.int64),
        velocities_mps=np.full((len(rows), 2), np.nan),
    )
