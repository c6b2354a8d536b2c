# SPDX-License-Identifier: Apache-2.0
"""A miniature nuScenes folder, written table by table: 2 scenes, 3 keyframes each, sweeps between them."""

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import RADAR_DTYPE

START_US = 1_600_000_000_000_000
CHANNELS = {"LIDAR_TOP": "lidar", "RADAR_FRONT": "radar", "RADAR_BACK_LEFT": "radar", "CAM_FRONT": "camera"}
PERIOD_US = {"LIDAR_TOP": 100_000, "RADAR_FRONT": 100_000, "RADAR_BACK_LEFT": 100_000, "CAM_FRONT": 250_000}
OFFSET_US = {"LIDAR_TOP": 0, "RADAR_FRONT": -7_001, "RADAR_BACK_LEFT": 3_003, "CAM_FRONT": -20_000}
SPEED_MPS = 5.0
YAW_RATE_RADPS = 0.2


def token(*parts: object) -> str:
    """A 32-digit token that depends on the parts alone."""
    return hashlib.md5("/".join(map(str, parts)).encode()).hexdigest()


def write_radar_pcd(path: Path, points: np.ndarray, *, tail: bytes = b"") -> None:
    """A binary .pcd file as nuScenes has it."""
    types = {"f": "F", "i": "I", "u": "U"}
    formats = [RADAR_DTYPE[name] for name in RADAR_DTYPE.names]
    header = [
        "# .PCD v0.7 - Point Cloud Data file format",
        "VERSION 0.7",
        f"FIELDS {' '.join(RADAR_DTYPE.names)}",
        f"SIZE {' '.join(str(f.itemsize) for f in formats)}",
        f"TYPE {' '.join(types[f.kind] for f in formats)}",
        f"COUNT {' '.join('1' for _ in formats)}",
        f"WIDTH {len(points)}",
        "HEIGHT 1",
        "VIEWPOINT 0 0 0 1 0 0 0",
        f"POINTS {len(points)}",
        "DATA binary",
    ]
    path.write_bytes(("\n".join(header) + "\n").encode() + points.tobytes() + tail)


class MiniBuilder:
    """Collects records and writes the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rng = np.random.default_rng(1)
        names = "scene sample sample_data ego_pose calibrated_sensor sensor sample_annotation instance category"
        self.tables: dict[str, list[dict]] = {n: [] for n in [*names.split(), "attribute", "log", "visibility", "map"]}
        for folder in [f"{kind}/{c}" for kind in ("samples", "sweeps") for c in CHANNELS] + ["can_bus", "maps"]:
            (root / folder).mkdir(parents=True)

    def build(self) -> None:
        """All tables and files."""
        for channel, modality in CHANNELS.items():
            self.tables["sensor"].append({"token": token(channel), "channel": channel, "modality": modality})
        names = ["vehicle.car", "human.pedestrian.adult", "movable_object.barrier", "animal"]
        self.tables["category"] = [
            {"token": token(n), "name": n, "description": "", "index": i} for i, n in enumerate(names)
        ]
        names = ["vehicle.moving", "pedestrian.standing"]
        self.tables["attribute"] = [{"token": token(n), "name": n, "description": ""} for n in names]
        self.tables["visibility"] = [{"token": "4", "level": "v80-100", "description": ""}]
        for index, name in enumerate(("scene-0001", "scene-0002")):
            self.scene(name, START_US + index * 60_000_000)
        logs = [scene["log_token"] for scene in self.tables["scene"]]
        self.tables["map"] = [
            {"token": token("map"), "log_tokens": logs, "category": "semantic_prior", "filename": "maps/m.png"}
        ]
        cv2.imwrite(str(self.root / "maps/m.png"), np.zeros((8, 8), np.uint8))
        tables = self.root / "v1.0-test-rig"
        tables.mkdir()
        for name, rows in self.tables.items():
            (tables / f"{name}.json").write_text(json.dumps(rows))
        (tables / "splits.json").write_text(json.dumps({"train": ["scene-0001"], "val": ["scene-0002"]}))

    def scene(self, name: str, start_us: int) -> None:
        """One second of driving: keyframes at 0, 0.5 and 1 s."""
        times = [start_us + k * 500_000 for k in range(3)]
        samples = [token(name, "sample", k) for k in range(3)]
        for k, (sample, time_us) in enumerate(zip(samples, times, strict=True)):
            self.tables["sample"].append(
                {"token": sample, "timestamp": time_us, "scene_token": token(name), **_links(samples, k)}
            )
        self.tables["scene"].append(
            {"token": token(name), "name": name, "description": "", "log_token": token(name, "log"), "nbr_samples": 3}
            | {"first_sample_token": samples[0], "last_sample_token": samples[-1]}
        )
        self.tables["log"].append(
            {
                "token": token(name, "log"),
                "logfile": name,
                "vehicle": "v",
                "date_captured": "2020-09-13",
                "location": "x",
            }
        )
        for channel in CHANNELS:
            self.channel(name, channel, samples, times)
        self.annotations(name, samples, times)
        steps = range(start_us - 500_000, start_us + 1_000_001, 10_000)
        imu = [{"utime": t, "linear_accel": [0.1, 0.2, 9.8], "rotation_rate": [0.0, 0.01, 0.2]} for t in steps]
        (self.root / "can_bus" / f"{name}_ms_imu.json").write_text(json.dumps(imu))
        gnss = [
            {"utime": t + 1, "latitude_deg": 1.25 + t % 1000 * 1e-7, "longitude_deg": 103.5, "altitude_m": 12.0}
            | {"sigma_m": 1.5, "has_fix": t != steps[0]}
            for t in steps[::10]
        ]
        (self.root / "can_bus" / f"{name}_gnss.json").write_text(json.dumps(gnss))

    def channel(self, scene: str, channel: str, samples: list[str], times: list[int]) -> None:
        """All sample_data of one sensor."""
        calibration = token(scene, channel, "calibration")
        pose = SE3.from_yaw(-1.57 if channel == "LIDAR_TOP" else 0.02, (1.0, 0.1, 1.8))
        camera = [[300.0, 0.0, 160.0], [0.0, 300.0, 90.0], [0.0, 0.0, 1.0]] if CHANNELS[channel] == "camera" else []
        self.tables["calibrated_sensor"].append(
            {"token": calibration, "sensor_token": token(channel), "translation": pose.translation.tolist()}
            | {"rotation": pose.quaternion_wxyz.tolist(), "camera_intrinsic": camera}
        )
        stamps = range(times[0] - 500_000, times[-1] + 1, PERIOD_US[channel])
        tokens = [token(scene, channel, i) for i in range(len(stamps))]
        for i, nominal_us in enumerate(stamps):
            time_us, key = nominal_us + OFFSET_US[channel], nominal_us in times
            nearest = min(range(3), key=lambda k: abs(times[k] - nominal_us))
            extension = {"lidar": "pcd.bin", "radar": "pcd", "camera": "jpg"}[CHANNELS[channel]]
            filename = f"{'samples' if key else 'sweeps'}/{channel}/{scene}__{channel}__{time_us}.{extension}"
            self.payload(channel, self.root / filename)
            self.pose(tokens[i], (time_us - times[0]) * 1e-6, time_us)
            size = {"height": 180, "width": 320} if camera else {"height": 0, "width": 0}
            self.tables["sample_data"].append(
                {
                    "token": tokens[i],
                    "sample_token": samples[nearest],
                    "ego_pose_token": tokens[i],
                    "timestamp": time_us,
                }
                | {"calibrated_sensor_token": calibration, "fileformat": extension, "is_key_frame": key}
                | {"filename": filename, **size, **_links(tokens, i)}
            )

    def pose(self, name: str, seconds: float, time_us: int) -> None:
        """Ego pose on a circle, tilted a little as real ones are."""
        yaw = 0.7 + YAW_RATE_RADPS * seconds
        radius = SPEED_MPS / YAW_RATE_RADPS
        centre = np.array([400.0, 1100.0, 0.0])
        position = centre + radius * np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        tilt = SE3.from_quaternion_wxyz((1.0, 0.004, -0.006, 0.0), (0.0, 0.0, 0.0))
        pose = SE3.from_yaw(yaw, position) @ tilt
        self.tables["ego_pose"].append(
            {
                "token": name,
                "timestamp": time_us,
                "rotation": pose.quaternion_wxyz.tolist(),
                "translation": position.tolist(),
            }
        )

    def payload(self, channel: str, path: Path) -> None:
        """The file of one measurement."""
        if CHANNELS[channel] == "lidar":
            points = self.rng.uniform(-40, 40, (500, 5)).astype("<f4")
            points[:, 3], points[:, 4] = self.rng.integers(0, 256, 500), np.arange(500) % 32
            path.write_bytes(points.tobytes())
        elif CHANNELS[channel] == "radar":
            points = np.zeros(20, RADAR_DTYPE)
            for axis in ("x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp"):
                points[axis] = self.rng.uniform(-30, 30, 20)
            points["ambig_state"], points["id"] = 3, np.arange(20)
            points["ambig_state"][0], points["invalid_state"][1], points["dyn_prop"][2] = 1, 4, 7
            write_radar_pcd(path, points, tail=b"\0\0\0")
        else:
            image = cv2.resize(self.rng.integers(0, 255, (9, 16, 3), dtype=np.uint8), (320, 180))
            cv2.imwrite(str(path), image)

    def annotations(self, scene: str, samples: list[str], times: list[int]) -> None:
        """Tracks: a moving car, a pedestrian seen in the last two frames, a barrier, an animal, an unseen car."""
        tracks = [
            ("car", "vehicle.car", "vehicle.moving", range(3), 9, 2),
            ("walker", "human.pedestrian.adult", "pedestrian.standing", range(1, 3), 3, 0),
            ("barrier", "movable_object.barrier", None, range(1), 0, 1),
            ("animal", "animal", None, range(3), 4, 0),
            ("hidden", "vehicle.car", "vehicle.moving", range(3), 0, 0),
        ]
        for i, (label, category, attribute, frames, lidar, radar) in enumerate(tracks):
            instance, tokens = token(scene, label), [token(scene, label, k) for k in frames]
            self.tables["instance"].append(
                {"token": instance, "category_token": token(category), "nbr_annotations": len(tokens)}
                | {"first_annotation_token": tokens[0], "last_annotation_token": tokens[-1]}
            )
            for n, k in enumerate(frames):
                t = (times[k] - times[0]) * 1e-6
                heading = SE3.from_yaw(0.3 * i + 0.1 * t).quaternion_wxyz.tolist()
                self.tables["sample_annotation"].append(
                    {
                        "token": tokens[n],
                        "sample_token": samples[k],
                        "instance_token": instance,
                        "visibility_token": "4",
                    }
                    | {"attribute_tokens": [token(attribute)] if attribute else [], "rotation": heading}
                    | {"translation": [410.0 + 3 * i + 4 * t + t * t, 1090.0 + i * t, 1.0], "size": [1.9, 4.6, 1.6]}
                    | {"num_lidar_pts": lidar, "num_radar_pts": radar, **_links(tokens, n)}
                )


def _links(tokens: list[str], i: int) -> dict[str, str]:
    return {"prev": tokens[i - 1] if i else "", "next": tokens[i + 1] if i + 1 < len(tokens) else ""}


@pytest.fixture(scope="session")
def _mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("nuscenes") / "mini"
    MiniBuilder(root).build()
    return root


@pytest.fixture
def mini(_mini: Path) -> Path:
    """The miniature folder, shared: do not alter it."""
    return _mini


@pytest.fixture
def mini_copy(_mini: Path, tmp_path: Path) -> Path:
    """A copy of the miniature folder to damage."""
    return Path(shutil.copytree(_mini, tmp_path / "mini"))
