# SPDX-License-Identifier: Apache-2.0
"""Measurements to messages, built through a `MessageFactory`: of rosbags for files, of rclpy for topics."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from peft_dml_ros.conversions.boxes import cloud_to_msg
from peft_dml_ros.conversions.factory import POINT, VECTOR, MessageFactory, header, triple, upright_pose
from peft_dml_ros.conversions.topics import BASE_FRAME, ODOM_FRAME, frame_of
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import GnssFix, ImuSample, LidarSweep, OdometrySample, RadarSweep
from peft_dml_ros.core.rig import CameraModel, Rig
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.datasets.lidar_timing import spin_offsets_s

#: Points of LiDAR clouds; four-byte aligned, as drivers send them
LIDAR_DTYPE: Final = np.dtype(
    {
        "names": ["x", "y", "z", "intensity", "ring"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u2"],
        "offsets": [0, 4, 8, 12, 16],
        "itemsize": 20,
    }
)

#: The same with the time of each point in s, relative to the header's stamp
TIMED_LIDAR_DTYPE: Final = np.dtype(
    {
        "names": [*(LIDAR_DTYPE.names or ()), "time"],
        "formats": ["<f4", "<f4", "<f4", "<f4", "<u2", "<f4"],
        "offsets": [0, 4, 8, 12, 16, 20],
        "itemsize": 24,
    }
)

VARIANCES: Final = (0, 7, 14, 35)  #: Places of the variances of x, y, z and yaw in a 6 x 6 pose covariance
TURN_S: Final = 0.05  #: Duration of a turn of nuScenes' LiDAR
_LONGEST_STEP_NS: Final = 1_000_000_000  #: Between poses this far apart the motion is unknown
_STATUS_FIX, _STATUS_NO_FIX, _SERVICE_GPS, _COVARIANCE_APPROXIMATED = 0, -1, 1, 1


def boxes_to_msg(boxes: Boxes3D, stamp_ns: int, frame_id: str, classes: Sequence[str], make: MessageFactory) -> Any:
    """Return a vision_msgs/Detection3DArray; each detection has one result, covariance from the boxes' sigmas."""
    head = header(stamp_ns, frame_id, make)
    detections = []
    for i in range(len(boxes)):
        pose = upright_pose(boxes.centers_m[i], float(boxes.yaws_rad[i]), make)
        covariance = np.zeros(36)
        covariance[list(VARIANCES)] = boxes.sigmas[i] ** 2
        result = make(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=make(
                "vision_msgs/msg/ObjectHypothesis", class_id=classes[int(boxes.labels[i])], score=float(boxes.scores[i])
            ),
            pose=make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=make.floats(covariance)),
        )
        size = triple(VECTOR, boxes.sizes_m[i], make)
        detections.append(
            make(
                "vision_msgs/msg/Detection3D",
                header=head,
                results=[result],
                bbox=make("vision_msgs/msg/BoundingBox3D", center=pose, size=size),
                id=boxes.ids[i] if boxes.ids else "",
            )
        )
    return make("vision_msgs/msg/Detection3DArray", header=head, detections=detections)


def lidar_to_msg(sweep: LidarSweep, frame_id: str, make: MessageFactory, *, turn_s: float | None = None) -> Any:
    """Return a sensor_msgs/PointCloud2 with x, y, z, intensity (float32) and ring (uint16).

    Args:
        sweep: The turn.
        frame_id: Of the header.
        make: Builds messages.
        turn_s: Duration of the turn that ends at the stamp; with it each point has its `time` (float32, s relative to
            the stamp), computed from its azimuth as `datasets.lidar_timing` says.
    """
    points = np.zeros(len(sweep.points), dtype=LIDAR_DTYPE if turn_s is None else TIMED_LIDAR_DTYPE)
    for index, name in enumerate(LIDAR_DTYPE.names or ()):
        points[name] = sweep.points[:, index]
    if turn_s is not None:
        points["time"] = spin_offsets_s(sweep.points, turn_s)
    return cloud_to_msg(points, sweep.stamp_ns, frame_id, make)


def radar_to_msg(sweep: RadarSweep, frame_id: str, make: MessageFactory) -> Any:
    """Return a sensor_msgs/PointCloud2 with the 18 ARS408 fields."""
    return cloud_to_msg(np.ascontiguousarray(sweep.points), sweep.stamp_ns, frame_id, make)


def camera_info_to_msg(camera: CameraModel, stamp_ns: int, frame_id: str, make: MessageFactory) -> Any:
    """Return a sensor_msgs/CameraInfo: K and distortion of the raw image, P of the rectified one."""
    lens = camera.lens
    projection = np.zeros((3, 4))
    projection[:, :3] = camera.intrinsics
    region = make("sensor_msgs/msg/RegionOfInterest", x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=header(stamp_ns, frame_id, make),
        height=int(camera.height_px),
        width=int(camera.width_px),
        distortion_model="plumb_bob" if lens is None else lens.model,
        d=make.floats(np.zeros(5) if lens is None else lens.coefficients),
        k=make.floats((camera.intrinsics if lens is None else lens.intrinsics).reshape(9)),
        r=make.floats(np.eye(3).reshape(9)),
        p=make.floats(projection.reshape(12)),
        binning_x=0,
        binning_y=0,
        roi=region,
    )


def imu_to_msg(sample: ImuSample, frame_id: str, make: MessageFactory) -> Any:
    """Return a sensor_msgs/Imu without orientation; the sample must be in the axes of `frame_id`."""
    absent = np.zeros(9)
    absent[0] = -1.0
    return make(
        "sensor_msgs/msg/Imu",
        header=header(sample.stamp_ns, frame_id, make),
        orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
        orientation_covariance=make.floats(absent),
        angular_velocity=triple(VECTOR, sample.gyro_radps, make),
        angular_velocity_covariance=make.floats(np.zeros(9)),
        linear_acceleration=triple(VECTOR, sample.accel_mps2, make),
        linear_acceleration_covariance=make.floats(np.zeros(9)),
    )


def gnss_to_msg(fix: GnssFix, frame_id: str, make: MessageFactory) -> Any:
    """Return a sensor_msgs/NavSatFix; the vertical standard deviation is taken as twice the horizontal."""
    variance = fix.sigma_m * fix.sigma_m
    status = _STATUS_FIX if fix.has_fix else _STATUS_NO_FIX
    return make(
        "sensor_msgs/msg/NavSatFix",
        header=header(fix.stamp_ns, frame_id, make),
        status=make("sensor_msgs/msg/NavSatStatus", status=status, service=_SERVICE_GPS),
        latitude=float(fix.latitude_deg),
        longitude=float(fix.longitude_deg),
        altitude=float(fix.altitude_m),
        position_covariance=make.floats(np.diag([variance, variance, 4 * variance]).reshape(9)),
        position_covariance_type=_COVARIANCE_APPROXIMATED,
    )


def odometry_to_msg(sample: OdometrySample, make: MessageFactory, *, before: OdometrySample | None = None) -> Any:
    """Return a nav_msgs/Odometry; the twist is the mean since the pose `before`, and zero without such."""
    position = triple(POINT, sample.odom_SE3_base.translation, make)
    pose = make("geometry_msgs/msg/Pose", position=position, orientation=_quaternion(sample.odom_SE3_base, make))
    linear, angular = _twist(sample, before)
    twist = make("geometry_msgs/msg/Twist", linear=triple(VECTOR, linear, make), angular=triple(VECTOR, angular, make))
    unknown = make.floats(np.zeros(36))
    return make(
        "nav_msgs/msg/Odometry",
        header=header(sample.stamp_ns, ODOM_FRAME, make),
        child_frame_id=BASE_FRAME,
        pose=make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=unknown),
        twist=make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=unknown),
    )


def _twist(sample: OdometrySample, before: OdometrySample | None) -> tuple[FloatArray, FloatArray]:
    """Return the mean velocity in m/s and rate in rad/s since another pose, both in `base_link`."""
    step_ns = sample.stamp_ns - before.stamp_ns if before is not None else 0
    if before is None or not 0 < step_ns <= _LONGEST_STEP_NS:
        return np.zeros(3), np.zeros(3)
    before_SE3_now = before.odom_SE3_base.inverse() @ sample.odom_SE3_base
    turn = before_SE3_now.rotation
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / 2
    sine = float(np.linalg.norm(axis))
    angle = axis if sine < 1e-9 else axis * np.arctan2(sine, (np.trace(turn) - 1) / 2) / sine
    return turn.T @ before_SE3_now.translation / (step_ns * 1e-9), angle / (step_ns * 1e-9)


def tf_static_to_msg(rig: Rig, make: MessageFactory, stamp_ns: int = 0) -> Any:
    """Return a tf2_msgs/TFMessage from `base_link` to the frame of each sensor of a rig."""
    transforms = [
        _transform(header(stamp_ns, BASE_FRAME, make), frame_of(sensor.name), sensor.base_SE3_sensor, make)
        for sensor in rig.sensors.values()
        if sensor.modality is not None
    ]
    return make("tf2_msgs/msg/TFMessage", transforms=transforms)


def tf_to_msg(sample: OdometrySample, make: MessageFactory) -> Any:
    """Return a tf2_msgs/TFMessage from `odom` to `base_link` at the time of a pose."""
    moved = _transform(header(sample.stamp_ns, ODOM_FRAME, make), BASE_FRAME, sample.odom_SE3_base, make)
    return make("tf2_msgs/msg/TFMessage", transforms=[moved])


def _transform(head: Any, child_frame_id: str, parent_SE3_child: SE3, make: MessageFactory) -> Any:
    return make(
        "geometry_msgs/msg/TransformStamped",
        header=head,
        child_frame_id=child_frame_id,
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=triple(VECTOR, parent_SE3_child.translation, make),
            rotation=_quaternion(parent_SE3_child, make),
        ),
    )


def _quaternion(transform: SE3, make: MessageFactory) -> Any:
    x, y, z, w = (float(v) for v in transform.quaternion_xyzw)
    return make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
