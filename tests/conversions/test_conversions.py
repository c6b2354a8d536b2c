# SPDX-License-Identifier: Apache-2.0
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest

from peft_dml_ros import conversions as conv
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import (
    RADAR_DTYPE,
    CameraImage,
    GnssFix,
    ImuSample,
    LidarSweep,
    OdometrySample,
    RadarSweep,
)
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor
from peft_dml_tools.datasets import encode
from peft_dml_tools.datasets.bag_types import RosbagsFactory, typestore
from peft_dml_tools.datasets.boxes_from_msg import boxes_from_msg, with_velocities

STAMP_NS = 1_532_402_927_647_951_003
RNG = np.random.default_rng(7)
MAKE = RosbagsFactory()


def via_rosbags(message):
    """The message after a trip through CDR."""
    store = typestore()
    return store.deserialize_cdr(store.serialize_cdr(message, message.__msgtype__), message.__msgtype__)


def via_rclpy(message):
    """Return what ROS itself reads from the bytes."""
    pytest.importorskip("rclpy")
    from importlib import import_module

    from rclpy.serialization import deserialize_message

    package, _, name = message.__msgtype__.split("/")
    try:
        kind = getattr(import_module(f"{package}.msg"), name)
    except ImportError:
        pytest.skip(f"{package} is not built here")
    return deserialize_message(bytes(typestore().serialize_cdr(message, message.__msgtype__)), kind)


both = pytest.mark.parametrize("via", [via_rosbags, pytest.param(via_rclpy, marks=pytest.mark.ros)])


def lidar_points(n=300):
    points = RNG.uniform(-60, 60, (n, 5)).astype(np.float32)
    points[:, 3], points[:, 4] = RNG.integers(0, 256, n), np.arange(n) % 32
    return points


def radar_points(n=40):
    points = np.zeros(n, dtype=RADAR_DTYPE)
    for name in RADAR_DTYPE.names:
        kind = RADAR_DTYPE[name].kind
        points[name] = RNG.normal(0, 20, n) if kind == "f" else RNG.integers(-100, 100, n)
    return points


def cloud(points, **changes):
    message = conv.boxes.cloud_to_msg(points, STAMP_NS, "lidar_top", MAKE)
    for name, value in changes.items():
        setattr(message, name, value)
    return message


@both
def test_lidar_survives_bit_for_bit(via):
    sweep = LidarSweep(STAMP_NS, lidar_points())
    message = via(encode.lidar_to_msg(sweep, "lidar_top", MAKE))
    assert message.header.frame_id == "lidar_top"
    again = conv.lidar_from_msg(message)
    assert again.stamp_ns == STAMP_NS
    assert again.points.dtype == np.float32
    assert again.points.tobytes() == sweep.points.tobytes()


@both
def test_each_point_has_its_time_and_survives_bit_for_bit(via):
    turn = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    points = np.stack([-np.cos(turn), np.sin(turn), 0 * turn, turn, turn % 32], axis=1).astype(np.float32)
    points[:, :2] *= 20
    message = via(encode.lidar_to_msg(LidarSweep(STAMP_NS, points), "lidar_top", MAKE, turn_s=0.05))
    cloud = conv.pointcloud.cloud_view(message, ("ring", "time"))
    assert [f.name for f in message.fields] == ["x", "y", "z", "intensity", "ring", "time"]
    np.testing.assert_allclose(cloud["time"][0], np.linspace(-0.05, 0, 400, endpoint=False), atol=3e-4)
    assert cloud["time"].dtype == np.float32
    assert np.array_equal(cloud["ring"][0], points[:, 4].astype(np.uint16))
    back = conv.lidar_from_msg(message).points
    assert back[:, :4].tobytes() == points[:, :4].tobytes()


@both
def test_odometry_tells_how_it_moves(via):
    first, second = (
        OdometrySample(n * 20_000_000, SE3.from_yaw(0.3 + 0.01 * n, (0.2 * n, 0.1 * n, 0))) for n in (1, 2)
    )
    twist = via(encode.odometry_to_msg(second, MAKE, before=first)).twist.twist
    ahead = np.array([10.0, 5.0]) @ np.array([np.cos(0.32), np.sin(0.32)])
    assert twist.linear.x == pytest.approx(ahead)
    assert (twist.angular.x, twist.angular.y, twist.angular.z) == (0, 0, pytest.approx(0.5))
    for other in (None, second, OdometrySample(-2_000_000_000, SE3.identity())):
        assert encode.odometry_to_msg(second, MAKE, before=other).twist.twist.linear.x == 0


def radar_scan(returns):
    rows = [
        MAKE("radar_msgs/msg/RadarReturn", range=r, azimuth=a, elevation=e, doppler_velocity=v, amplitude=d)
        for r, a, e, v, d in returns
    ]
    return MAKE("radar_msgs/msg/RadarScan", header=conv.header(STAMP_NS, "radar_front", MAKE), returns=rows)


@both
def test_a_radar_scan_becomes_points_and_what_is_no_return_is_counted(via):
    good, wrong = (20.0, 0.5, 0.0, -3.0, 8.0), [(np.nan, 0, 0, 0, 0), (-1.0, 0, 0, 0, 0), (9, 0, 0, 1e9, 0)]
    message = via(radar_scan([good, *wrong]))
    sweep = conv.radar_from_msg(message)
    assert (sweep.stamp_ns, conv.points_dropped(message, sweep)) == (STAMP_NS, 3)
    assert sweep.points["x"] == pytest.approx([20 * np.cos(0.5)])
    assert len(conv.radar_from_msg(via(radar_scan([]))).points) == 0
    with pytest.raises(DataError, match="at most 5000"):
        conv.radar_from_msg(radar_scan([good] * 5001))


@both
def test_radar_survives_bit_for_bit(via):
    sweep = RadarSweep(STAMP_NS, radar_points())
    again = conv.radar_from_msg(via(encode.radar_to_msg(sweep, "radar_front", MAKE)))
    assert again.stamp_ns == STAMP_NS
    assert again.points.dtype == RADAR_DTYPE
    assert again.points.tobytes() == sweep.points.tobytes()


@both
def test_images_survive(via):
    pixels = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    assert conv.image_from_msg(via(conv.image_to_msg(CameraImage(STAMP_NS, jpeg=jpeg), "cam", MAKE))).jpeg == jpeg
    again = conv.image_from_msg(via(conv.image_to_msg(CameraImage(STAMP_NS, pixels=pixels), "cam", MAKE)))
    assert np.array_equal(again.pixels, pixels)


@both
def test_motion_sensors_survive(via):
    imu = ImuSample(STAMP_NS, np.array([0.1, -0.2, 9.81]), np.array([1e-3, 0.2, -0.3]))
    again = conv.imu_from_msg(via(encode.imu_to_msg(imu, "imu", MAKE)))
    assert again.stamp_ns == STAMP_NS
    assert np.array_equal(again.accel_mps2, imu.accel_mps2)
    assert np.array_equal(again.gyro_radps, imu.gyro_radps)
    for fix in (GnssFix(STAMP_NS, 1.28821, 103.7847, 14.2, 1.7), GnssFix(STAMP_NS, 0.0, 0.0, 0.0, 50.0, has_fix=False)):
        message = via(encode.gnss_to_msg(fix, "gnss", MAKE))
        assert message.position_covariance_type == 1
        assert conv.gnss_from_msg(message) == fix
    pose = OdometrySample(STAMP_NS, SE3.from_quaternion_wxyz((0.7, 0.1, -0.2, 0.6), (411.3, 1180.9, 0.1)))
    message = via(encode.odometry_to_msg(pose, MAKE))
    assert (message.header.frame_id, message.child_frame_id) == ("odom", "base_link")
    again = conv.odometry_from_msg(message)
    assert np.array_equal(again.odom_SE3_base.translation, pose.odom_SE3_base.translation)
    assert np.allclose(again.odom_SE3_base.rotation, pose.odom_SE3_base.rotation, atol=1e-12, rtol=0)


@both
def test_rig_survives(via):
    camera = CameraModel(np.array([[809.2, 0, 829.2], [0, 809.2, 481.8], [0, 0, 1]]), 1600, 900)
    rig = Rig(
        {
            "CAM_FRONT": Sensor("CAM_FRONT", "camera", SE3.from_yaw(0.4, (1.0, 0.0, 1.5)), camera),
            "ODOM": Sensor("ODOM", None, SE3.identity()),
        }
    )
    again = conv.camera_model_from_msg(via(encode.camera_info_to_msg(camera, STAMP_NS, "cam_front", MAKE)))
    assert np.array_equal(again.intrinsics, camera.intrinsics)
    assert (again.width_px, again.height_px) == (1600, 900)
    ((parent, child, pose),) = conv.transforms_from_msg(via(encode.tf_static_to_msg(rig, MAKE)))
    assert (parent, child) == ("base_link", "cam_front")
    assert np.allclose(pose.rotation, rig["CAM_FRONT"].base_SE3_sensor.rotation, atol=1e-12)


@both
def test_boxes_survive_with_velocities(via):
    boxes = Boxes3D.make(
        RNG.normal(0, 20, (4, 3)),
        RNG.uniform(0.5, 5, (4, 3)),
        np.array([0.0, 3.1, -3.1, 1.0]),
        np.array([0, 5, 8, 9]),
        velocities_mps=np.array([[1.5, -2.0], [np.nan, np.nan], [0, 0], [3, 4]]),
        scores=np.array([1.0, 0.5, 0.25, 0.1]),
        attributes=np.array([5, 0, -1, -1]),
        ids=("a", "b", "c", "d"),
    )
    boxes = replace(boxes, sigmas=np.abs(RNG.normal(0.5, 0.1, (4, 4))))
    message = via(encode.boxes_to_msg(boxes, STAMP_NS, "base_link", CLASSES, MAKE))
    assert conv.stamp_ns_from_msg(message) == STAMP_NS
    assert all(len(d.results) == 1 and d.header == message.header for d in message.detections)
    again = boxes_from_msg(message)
    assert np.isnan(again.velocities_mps).all()
    again = with_velocities(again, via(conv.velocities_to_msg(boxes, STAMP_NS, "base_link", MAKE)))
    for name in ("centers_m", "sizes_m", "labels", "scores", "attributes"):
        assert np.array_equal(getattr(again, name), getattr(boxes, name)), name
    assert np.allclose(again.velocities_mps, boxes.velocities_mps, equal_nan=True)
    assert np.allclose(again.yaws_rad, boxes.yaws_rad, atol=1e-12)
    assert np.allclose(again.sigmas, boxes.sigmas)
    assert again.ids == boxes.ids


@both
def test_no_boxes_make_an_empty_array(via):
    message = via(encode.boxes_to_msg(Boxes3D.empty(), STAMP_NS, "base_link", CLASSES, MAKE))
    assert len(message.detections) == 0
    assert len(boxes_from_msg(message)) == 0
    assert not len(with_velocities(Boxes3D.empty(), via(conv.velocities_to_msg(Boxes3D.empty(), 1, "b", MAKE))))


# ---------------------------------------------------------------- clouds of other drivers
def test_cloud_of_another_driver_is_read():
    """Big-endian, padded rows, float64 coordinates, uint8 intensity, `channel` for ring, an extra field."""
    layout = np.dtype(
        {
            "names": ["t", "z", "intensity", "y", "channel", "x"],
            "formats": [">u4", ">f8", "u1", ">f8", ">u2", ">f8"],
            "offsets": [0, 8, 17, 20, 28, 32],
            "itemsize": 44,
        }
    )
    expected = lidar_points(6)
    points = np.zeros(6, dtype=layout)
    for index, name in enumerate(("x", "y", "z", "intensity", "channel")):
        points[name] = expected[:, index]
    rows = np.zeros((2, 3 * 44 + 10), dtype=np.uint8)
    rows[:, : 3 * 44] = points.reshape(2, 3).view(np.uint8).reshape(2, -1)
    message = cloud(np.zeros(1, dtype=[(n, layout[n].newbyteorder("<")) for n in layout.names]))
    for field in message.fields:
        field.offset = layout.fields[field.name][1]
    message.is_bigendian, message.point_step, message.row_step = True, 44, rows.shape[1]
    message.height, message.width, message.data = 2, 3, rows.reshape(-1)
    assert np.array_equal(conv.lidar_from_msg(message).points, expected)


def test_missing_intensity_and_ring_are_zero():
    points = np.ones(4, dtype=[("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    assert conv.lidar_from_msg(cloud(points)).points.tolist() == [[1, 1, 1, 0, 0]] * 4


def test_points_that_are_not_finite_are_dropped_and_counted():
    points = lidar_points(10)
    points[2, 0], points[4, 2], points[5, 3] = np.nan, np.inf, np.nan
    message = encode.lidar_to_msg(LidarSweep(1, points), "lidar_top", MAKE)
    sweep = conv.lidar_from_msg(message)
    assert conv.points_dropped(message, sweep) == 2
    assert sweep.points[:, :3].tolist() == np.delete(points, [2, 4], axis=0)[:, :3].tolist()
    assert np.isfinite(sweep.points).all()
    radar = radar_points(10)
    radar["vx_comp"][3] = np.nan
    message = encode.radar_to_msg(RadarSweep(1, radar), "radar", MAKE)
    assert conv.points_dropped(message, conv.radar_from_msg(message)) == 1


def test_double_coordinates_too_large_for_float_are_dropped():
    points = np.zeros(3, dtype=[("x", "<f8"), ("y", "<f8"), ("z", "<f8")])
    points["x"][1] = 1e300
    assert len(conv.lidar_from_msg(cloud(points)).points) == 2


def test_radar_of_another_driver_gets_neutral_fields():
    points = np.ones(3, dtype=[("x", "<f4"), ("y", "<f4"), ("vx_comp", "<f4"), ("vy_comp", "<f4"), ("rcs", "<f4")])
    sweep = conv.radar_from_msg(cloud(points))
    assert sweep.points["vx"].tolist() == [1, 1, 1]
    assert sweep.points["z"].tolist() == [0, 0, 0]
    assert sweep.points["ambig_state"].tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    "changes",
    [
        {"data": np.zeros(100, np.uint8)},
        {"point_step": 21},
        {"point_step": 4},
        {"point_step": 0},
        {"width": 11},
        {"height": 2},
        {"height": 2**31, "width": 2**31},
        {"fields": []},
    ],
)
def test_contradicting_sizes_are_refused(changes):
    message = encode.lidar_to_msg(LidarSweep(1, lidar_points(10)), "lidar_top", MAKE)
    for name, value in changes.items():
        setattr(message, name, value)
    with pytest.raises(DataError, match="lidar_top"):
        conv.lidar_from_msg(message)


def test_empty_cloud_is_an_empty_sweep():
    assert conv.lidar_from_msg(encode.lidar_to_msg(LidarSweep(1, lidar_points(0)), "l", MAKE)).points.shape == (0, 5)
    assert len(conv.radar_from_msg(encode.radar_to_msg(RadarSweep(1, radar_points(0)), "r", MAKE)).points) == 0
    assert conv.lidar_from_msg(cloud(np.zeros(0, "<f4").view([("x", "<f4")]), fields=[])).points.shape == (0, 5)


@pytest.mark.alone
def test_decoding_a_full_sweep_is_fast():
    message = via_rosbags(encode.lidar_to_msg(LidarSweep(1, lidar_points(34_720)), "lidar_top", MAKE))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        conv.lidar_from_msg(message)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5e-3  # a loop over points would take 50 ms


# ---------------------------------------------------------------- other malformed messages
def test_images_that_contradict_themselves_are_refused():
    pixels = RNG.integers(0, 255, (6, 8, 3), dtype=np.uint8)
    message = conv.image_to_msg(CameraImage(1, pixels=pixels), "cam_front", MAKE)
    for name, value in {
        "height": 7,
        "width": 9,
        "encoding": "32FC1",
        "data": message.data[:-1],
    }.items():
        with pytest.raises(DataError, match="cam_front"):
            conv.image_from_msg(replace(message, **{name: value}))
    with pytest.raises(DataError, match="neither JPEG nor PNG"):
        conv.image_from_msg(conv.image_to_msg(CameraImage(1, jpeg=b"\x00garbage"), "cam_front", MAKE))


@pytest.mark.parametrize(("encoding", "channels"), [("bgr8", 3), ("rgba8", 4), ("bgra8", 4), ("mono8", 1)])
def test_encodings_become_rgb(encoding, channels):
    rgb = np.full((4, 5, 3), (10, 20, 30), np.uint8) if channels > 1 else np.full((4, 5, 3), 9, np.uint8)
    data = {"bgr8": rgb[..., ::-1], "rgba8": np.dstack([rgb, rgb[..., :1]]), "mono8": rgb[..., 0]}
    data["bgra8"] = np.dstack([rgb[..., ::-1], rgb[..., :1]])
    raw = np.zeros((4, 5 * channels + 3), np.uint8)
    raw[:, : 5 * channels] = data[encoding].reshape(4, -1)
    message = conv.image_to_msg(CameraImage(1, pixels=rgb), "cam", MAKE)
    message = replace(message, encoding=encoding, step=raw.shape[1], data=raw.reshape(-1))
    assert np.array_equal(conv.image_from_msg(message).pixels, rgb)


def test_calibration_is_checked_and_scaled():
    camera = CameraModel(np.array([[800.0, 0, 820.0], [0, 800.0, 480.0], [0, 0, 1]]), 1600, 900)
    message = encode.camera_info_to_msg(camera, 1, "cam_front", MAKE)
    binned = conv.camera_model_from_msg(replace(message, binning_x=2, binning_y=2))
    assert (binned.width_px, binned.height_px) == (800, 450)
    assert binned.intrinsics.tolist() == [[400, 0, 410], [0, 400, 240], [0, 0, 1]]
    rectified = message.p.copy()
    rectified[0] = 700.0
    distorted = replace(message, d=np.array([0.1, 0, 0, 0, 0]), p=rectified)
    assert conv.camera_model_from_msg(distorted).intrinsics[0, 0] == 700.0
    with pytest.raises(DataError, match="not calibrated"):
        conv.camera_model_from_msg(replace(message, k=np.zeros(9)))


def test_motion_messages_are_checked():
    imu = encode.imu_to_msg(ImuSample(1, np.zeros(3), np.zeros(3)), "imu", MAKE)
    absent = np.zeros(9)
    absent[0] = -1
    with pytest.raises(DataError, match="no linear_acceleration"):
        conv.imu_from_msg(replace(imu, linear_acceleration_covariance=absent))
    with pytest.raises(DataError, match="nan"):
        conv.imu_from_msg(encode.imu_to_msg(ImuSample(1, np.full(3, np.nan), np.zeros(3)), "imu", MAKE))
    # Finite, but the network would overflow.
    with pytest.raises(DataError, match="1e\\+200"):
        conv.imu_from_msg(encode.imu_to_msg(ImuSample(1, np.zeros(3), np.array([0, 1e200, 0])), "imu", MAKE))
    far = OdometrySample(1, SE3.from_yaw(0.0, (1e300, 0.0, 0.0)))
    with pytest.raises(DataError, match="1e\\+300"):
        conv.odometry_from_msg(encode.odometry_to_msg(far, MAKE))
    with pytest.raises(DataError, match="claims a fix"):
        conv.gnss_from_msg(encode.gnss_to_msg(GnssFix(1, 95.0, 0.0, 0.0, 1.0), "gnss", MAKE))
    unknown = replace(
        encode.gnss_to_msg(GnssFix(1, 1.0, 2.0, float("nan"), 1.0), "g", MAKE), position_covariance_type=0
    )
    assert conv.gnss_from_msg(unknown) == GnssFix(1, 1.0, 2.0, 0.0, conv.decode.UNKNOWN_SIGMA_M)
    odometry = encode.odometry_to_msg(OdometrySample(1, SE3.identity()), MAKE)
    odometry.pose.pose.orientation.w = 0.0
    with pytest.raises(DataError, match="quaternion"):
        conv.odometry_from_msg(odometry)


def test_unknown_class_and_missing_result_are_named():
    box = Boxes3D.make(np.zeros((1, 3)), np.ones((1, 3)), np.zeros(1), np.zeros(1, dtype=np.int64))
    message = encode.boxes_to_msg(box, 1, "base_link", ["cart"], MAKE)
    with pytest.raises(DataError, match=r"unknown class 'cart'.*did you mean 'car'"):
        boxes_from_msg(message)
    message.detections[0].results = []
    with pytest.raises(DataError, match="has no result"):
        boxes_from_msg(message)
    with pytest.raises(DataError, match="do not belong"):
        with_velocities(box, conv.velocities_to_msg(Boxes3D.empty(), 1, "base_link", MAKE))
