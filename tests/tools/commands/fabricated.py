# SPDX-License-Identifier: Apache-2.0
"""A short made-up session with known boxes: one car ahead, one pedestrian, LiDAR gone in the middle."""

from collections import Counter

import cv2
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import RADAR_DTYPE, CameraImage, LidarSweep, OdometrySample, RadarSweep
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor
from peft_dml_tools.evaluation.recording import FaultWindow, RecordedFrame, Recording, SensorReading

START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 100_000_000
OPTICAL = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
CAMERAS = {
    "CAM_FRONT": 0.0,
    "CAM_FRONT_RIGHT": -1.0,
    "CAM_BACK_RIGHT": -2.0,
    "CAM_BACK": np.pi,
    "CAM_BACK_LEFT": 2.0,
    "CAM_FRONT_LEFT": 1.0,
}


def rig() -> Rig:
    camera = CameraModel(np.array([[250.0, 0, 200], [0, 250, 112], [0, 0, 1]]), 400, 225)
    sensors = {"LIDAR_TOP": Sensor("LIDAR_TOP", "lidar", SE3.from_yaw(0.0, (1.0, 0, 1.8)))}
    for name, yaw in CAMERAS.items():
        pose = SE3(SE3.from_yaw(yaw).rotation @ OPTICAL, np.array([1.5, 0, 1.6]))
        sensors[name] = Sensor(name, "camera", pose, camera)
    sensors["RADAR_FRONT"] = Sensor("RADAR_FRONT", "radar", SE3.from_yaw(0.0, (3.4, 0, 0.5)))
    sensors["IMU"] = Sensor("IMU", "imu", SE3.identity())
    sensors["GNSS"] = Sensor("GNSS", "gnss", SE3.identity())
    return Rig(sensors)


def truth(t_s: float) -> Boxes3D:
    return Boxes3D.make(
        np.array([[12.0 + 3 * t_s, 0.5, 0.9], [8.0, -6.0 + t_s, 0.9], [-15.0, 4.0, 1.6]]),
        np.array([[4.5, 1.9, 1.6], [0.7, 0.7, 1.75], [9.0, 2.6, 3.2]]),
        np.array([0.0, np.pi / 2, np.pi]),
        np.array([0, 5, 1]),
        velocities_mps=np.array([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
        ids=("a", "b", "c"),
    )


def session(frames: int = 20, lidar_out: range = range(8, 13)) -> Recording:
    noise = np.random.default_rng(7)
    made, measurements = [], {name: [] for name in [*rig().sensors, "ODOM"]}
    for i in range(frames):
        stamp_ns, t_s = START_NS + i * PERIOD_NS, i * 0.1
        silent = i in lidar_out
        measure(measurements, stamp_ns, t_s, silent, noise)
        true = truth(t_s)
        found = true[: 2 if silent else 3]
        jittered = Boxes3D.make(
            found.centers_m + noise.normal(0, 0.05, found.centers_m.shape),
            found.sizes_m,
            found.yaws_rad,
            found.labels,
            velocities_mps=found.velocities_mps,
            scores=np.linspace(0.9, 0.6, len(found)),
        )
        readings = {name: SensorReading("OK", "", i + 1, 0) for name in rig().sensors}
        if silent:
            readings["LIDAR_TOP"] = SensorReading("STALE", "stale", lidar_out.start, i - lidar_out.start + 1)
        gate = np.array([0.0, 0.6, 0.2, 0.1, 0.1] if silent else [0.5, 0.25, 0.15, 0.05, 0.05])
        mask = np.array([0.0 if silent else 1.0, 1, 1, 1, 1])
        reference = "CAM_FRONT" if silent else "LIDAR_TOP"
        made.append(
            RecordedFrame(
                stamp_ns,
                reference,
                jittered,
                mask,
                gate,
                70.0 + i,
                {"fusion": 30.0, "lidar": 20.0},
                readings,
                truth=true,
            )
        )
    begin_ns, end_ns = (START_NS + i * PERIOD_NS for i in (lidar_out.start, lidar_out.stop))
    fault = FaultWindow("LIDAR_TOP", "silence", begin_ns, end_ns)
    drops = Counter({"CAM_FRONT: duplicate stamp": 2})
    return Recording("A made-up session.", rig(), tuple(made), measurements, (fault,), drops, frames)


def measure(measurements: dict, stamp_ns: int, t_s: float, silent: bool, noise: np.random.Generator) -> None:
    if not silent:
        ring = noise.uniform(3, 50, 6000)
        angle = noise.uniform(-np.pi, np.pi, 6000)
        points = np.stack([ring * np.cos(angle), ring * np.sin(angle), np.full(6000, -1.8)], axis=1)
        box = truth(t_s)
        inside = noise.uniform(-0.5, 0.5, (3, 150, 3)) * box.sizes_m[:, None] + box.centers_m[:, None] - [1.0, 0, 1.8]
        xyz = np.concatenate([points, inside.reshape(-1, 3)]).astype(np.float32)
        measurements["LIDAR_TOP"].append(LidarSweep(stamp_ns, np.pad(xyz, ((0, 0), (0, 2)))))
    radar = np.zeros(3, RADAR_DTYPE)
    radar["x"], radar["y"] = truth(t_s).centers_m[:, 0] - 3.4, truth(t_s).centers_m[:, 1]
    radar["vx_comp"] = [3.0, 0.0, 0.0]
    measurements["RADAR_FRONT"].append(RadarSweep(stamp_ns, radar))
    for name in CAMERAS:
        sky = np.full((225, 400, 3), (210, 190, 160), np.uint8)
        sky[112:] = (90, 95, 90)
        jpeg = cv2.imencode(".jpg", sky)[1].tobytes()
        measurements[name].append(CameraImage(stamp_ns - 20_000_000, jpeg=jpeg))
    measurements["ODOM"].append(OdometrySample(stamp_ns, SE3.from_yaw(0.0, (5.0 * t_s, 0, 0))))
