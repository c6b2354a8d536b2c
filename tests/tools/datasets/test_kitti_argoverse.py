# SPDX-License-Identifier: Apache-2.0
"""KITTI and Argoverse 2: a car ahead is found where its points, its box and its picture say, in `base_link`."""

import cv2
import numpy as np
import pytest

from peft_dml_ros.core.box_wireframes import pixels_from_boxes
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, GnssFix, LidarSweep, OdometrySample
from peft_dml_ros.core.params import InputParams
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.source import open_source

RNG = np.random.default_rng(0)
CAR = np.array([12.0, -3.0, 0.8])
"""Centre of a car in `base_link`."""
SIZE = np.array([4.2, 1.8, 1.6])
YAW = 0.4
K = np.array([[721.5, 0, 609.6], [0, 721.5, 172.9], [0, 0, 1.0]])


def car_points():
    inside = RNG.uniform(-0.49, 0.49, (200, 3)) * SIZE
    return SE3.from_yaw(YAW, tuple(CAR)).transform(inside)


def jpeg_at(path, place_px, size=(1242, 375)):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    cv2.circle(image, tuple(np.round(place_px).astype(int)), 20, (255, 255, 255), -1)
    cv2.imwrite(str(path), image)


def check(source, stamp_ns):
    """Points lie in the box, and the box's centre is where the picture shows it."""
    rows = [(n, m) for n, m in source.measurements() if m.stamp_ns == stamp_ns]
    sweep, image = (next(m for _, m in rows if isinstance(m, kind)) for kind in (LidarSweep, CameraImage))
    boxes = source.truth[stamp_ns]
    np.testing.assert_allclose(boxes.centers_m[0], CAR, atol=0.02)
    np.testing.assert_allclose(boxes.sizes_m[0], SIZE, atol=0.01)
    assert boxes.yaws_rad[0] == pytest.approx(YAW, abs=0.01)
    points = source.rig["LIDAR_TOP"].base_SE3_sensor.transform(sweep.points[:, :3].astype(np.float64))
    assert boxes.contain(points)[0].mean() > 0.99
    pixels = cv2.imdecode(np.frombuffer(image.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    matrix = pixels_from_boxes(source.rig["CAM_FRONT"], SE3.identity(), pixels.shape[1])
    u, v, w = matrix @ np.append(CAR, 1)
    assert np.hypot(*(np.argwhere(pixels > 128).mean(axis=0)[::-1] - (u / w, v / w))) < 1.5


OPTICAL = np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0.0]])
"""Rotation from x forward, y left, z up to the axes of a camera."""


@pytest.fixture
def kitti(tmp_path):
    for folder in ("velodyne", "calib", "image_2", "label_2"):
        (tmp_path / folder).mkdir()
    base_SE3_lidar = SE3(np.eye(3), np.array([0.76, 0.0, 1.73]))
    points = base_SE3_lidar.inverse().transform(car_points())
    np.concatenate([points, np.full((200, 1), 0.3)], axis=1).astype(np.float32).tofile(tmp_path / "velodyne/000007.bin")
    camera_T_lidar = np.concatenate([OPTICAL, [[0.0], [-0.08], [-0.27]]], axis=1)
    p2 = np.concatenate([K, K @ [[0.06], [0.0], [0.002]]], axis=1)
    lines = {"P2": p2, "R0_rect": np.eye(3), "Tr_velo_to_cam": camera_T_lidar}
    text = "".join(f"{n}: {' '.join(f'{v:.12e}' for v in m.reshape(-1))}\n" for n, m in lines.items())
    (tmp_path / "calib/000007.txt").write_text(text)
    in_camera = camera_T_lidar @ np.append(base_SE3_lidar.inverse().transform(CAR[None])[0], 1)
    u, v, w = p2 @ np.append(in_camera, 1)
    jpeg_at(tmp_path / "image_2/000007.png", (u / w, v / w))
    x, y, z = np.add(in_camera, [0, SIZE[2] / 2, 0])
    length, width, height = SIZE
    row = f"Car 0 0 0 0 0 0 0 {height} {width} {length} {x:.4f} {y:.4f} {z:.4f} {-YAW - np.pi / 2:.4f}\n"
    (tmp_path / "label_2/000007.txt").write_text(row + "DontCare -1 -1 -10 0 0 0 0 -1 -1 -1 -1000 -1000 -1000 -10\n")
    return tmp_path


def test_kitti_object_benchmark(kitti):
    source = open_source(kitti)
    check(source, next(iter(source.truth)))
    sweep = next(m for _, m in source.measurements() if isinstance(m, LidarSweep))
    assert sweep.points[0, 3] == pytest.approx(0.3 * 255), "reflectance of 0 to 1"
    assert source.where("CAM_FRONT") == "image_2"
    scaled = open_source(kitti, options=BagOptions(inputs=InputParams(intensity_scale=["LIDAR_TOP=40.0"])))
    assert next(m for n, m in scaled.measurements() if n == "LIDAR_TOP").points[0, 3] == pytest.approx(12)
    (kitti / "calib/000007.txt").write_text("P2: 1 2 3\n")
    with pytest.raises(DataError, match="Tr_velo_to_cam"):
        open_source(kitti)


def test_kitti_raw_drive(kitti, tmp_path_factory):
    day = tmp_path_factory.mktemp("2011_09_26")
    drive = day / "2011_09_26_drive_0001_sync"
    for folder, name in (("velodyne_points", "000007.bin"), ("image_02", "000007.png"), ("oxts", "")):
        (drive / folder / "data").mkdir(parents=True)
        for i in range(2):
            target = drive / folder / f"data/{i:010}{name[-4:] or '.txt'}"
            old = kitti / ("velodyne" if name.endswith("bin") else "image_2") / name
            row = f"49.0 {8.4 + i * 1e-5} 112.0 0 0 0.5 {' '.join(['0'] * 17)} 0.05 0 4 4\n"
            target.write_bytes(old.read_bytes() if name else row.encode())
        (drive / folder / "timestamps.txt").write_text("2011-09-26 13:02:25.594360375\n2011-09-26 13:02:25.697\n")
    rows = [line.split(": ")[1] for line in (kitti / "calib/000007.txt").read_text().splitlines()]
    matrix = np.array(rows[2].split(), float).reshape(3, 4)
    number = " ".join
    (day / "calib_velo_to_cam.txt").write_text(
        f"calib_time: 15-Mar\nR: {number(map(str, matrix[:, :3].reshape(-1)))}\nT: {number(map(str, matrix[:, 3]))}\n"
    )
    (day / "calib_cam_to_cam.txt").write_text(f"R_rect_00: {rows[1]}\nP_rect_02: {rows[0]}\n")
    source = open_source(drive)
    found = list(source.measurements())
    first_ns = found[0][1].stamp_ns
    assert first_ns == 1_317_042_145_594_360_375
    assert [n for n, m in found if m.stamp_ns == first_ns] == ["ODOM", "CAM_FRONT", "GNSS", "LIDAR_TOP"]
    poses = [m.odom_SE3_base for _, m in found if isinstance(m, OdometrySample)]
    assert poses[1].translation[0] == pytest.approx(1e-5 * np.pi / 180 * 6378137 * np.cos(np.deg2rad(49)), rel=1e-3)
    assert poses[0].yaw_rad == pytest.approx(0.5)
    assert next(m for _, m in found if isinstance(m, GnssFix)).sigma_m == 0.05
    kitti_camera, camera = open_source(kitti).rig["CAM_FRONT"], source.rig["CAM_FRONT"]
    np.testing.assert_allclose(camera.base_SE3_sensor.translation, kitti_camera.base_SE3_sensor.translation, atol=1e-6)


def test_argoverse_log(tmp_path):
    pa, feather = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.feather")
    stamp_ns = 315_966_265_660_000_000
    ego_SE3_base = SE3(np.eye(3), np.array([0, 0, -0.33]))

    def write(path, **columns):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        feather.write_feather(pa.table(columns), str(tmp_path / path))

    def pose(transform):
        w, x, y, z = transform.quaternion_wxyz
        return {k: [v] for k, v in zip(("qw", "qx", "qy", "qz"), (w, x, y, z), strict=True)} | {
            f"t{axis}_m": [v] for axis, v in zip("xyz", transform.translation, strict=True)
        }

    points = ego_SE3_base.transform(car_points()).astype(np.float16)
    write(
        f"sensors/lidar/{stamp_ns}.feather",
        **{axis: points[:, i] for i, axis in enumerate("xyz")},
        intensity=np.full(200, 40, np.uint8), laser_number=np.full(200, 9, np.uint8), offset_ns=np.zeros(200, np.int32),
    )  # fmt: skip
    ego_SE3_camera = SE3(OPTICAL.T, np.array([1.6, 0.0, 1.4]))
    write("calibration/egovehicle_SE3_sensor.feather", sensor_name=["ring_front_center"], **pose(ego_SE3_camera))
    write(
        "calibration/intrinsics.feather", sensor_name=["ring_front_center"], fx_px=[K[0, 0]], fy_px=[K[1, 1]],
        cx_px=[K[0, 2]], cy_px=[K[1, 2]], k1=[-0.24], k2=[-0.21], k3=[0.32], height_px=[375], width_px=[1242],
    )  # fmt: skip
    car = SE3.from_yaw(YAW, tuple(ego_SE3_base.transform(CAR[None])[0]))
    write(
        "annotations.feather", timestamp_ns=[stamp_ns] * 2, track_uuid=["a", "b"],
        category=["REGULAR_VEHICLE", "STOP_SIGN"], length_m=[4.2, 1], width_m=[1.8, 1], height_m=[1.6, 1],
        num_interior_pts=[200, 5], **{k: v * 2 for k, v in pose(car).items()},
    )  # fmt: skip
    write("city_SE3_egovehicle.feather", timestamp_ns=[stamp_ns], **pose(SE3.from_yaw(0.2, (5.0, 6.0, 7.33))))
    (tmp_path / "sensors/cameras/ring_front_center").mkdir(parents=True)
    in_camera = ego_SE3_camera.inverse().transform(ego_SE3_base.transform(CAR[None]))[0]
    u, v, w = K @ in_camera
    jpeg_at(tmp_path / f"sensors/cameras/ring_front_center/{stamp_ns}.jpg", (u / w, v / w))
    source = open_source(tmp_path)
    check(source, stamp_ns)
    assert source.rig["CAM_FRONT"].camera.lens is None, "the images are undistorted, k1 to k3 are of the raw ones"
    scaled = open_source(tmp_path, options=BagOptions(inputs=InputParams(intensity_scale=["LIDAR_TOP=0.5"])))
    sweep = next(m for _, m in scaled.measurements() if isinstance(m, LidarSweep))
    assert sweep.points[0, 3:].tolist() == [20, 9]
    assert len(source.truth[stamp_ns]) == 1, "signs are no class"
    odometry = next(m for _, m in source.measurements() if isinstance(m, OdometrySample))
    np.testing.assert_allclose(odometry.odom_SE3_base.translation, [5, 6, 7.0], atol=1e-9)
    (tmp_path / "calibration/intrinsics.feather").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cannot read sensor_name.*intrinsics\.feather"):
        open_source(tmp_path)
