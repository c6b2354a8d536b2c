# SPDX-License-Identifier: Apache-2.0
"""Reader of nuScenes folders, real or simulated, without the devkit: rigs, truth and snapshots by sample token."""

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from peft_dml_ros.conversions.decoders import intensity_of
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError, DataError, nearest
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.lenses import Lens
from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, OdometrySample, RadarSweep
from peft_dml_ros.core.params import InputParams
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor, modality_of_channel
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import Float32Array
from peft_dml_tools.datasets.bag_topics import rig_order
from peft_dml_tools.datasets.nuscenes_channels import keyframe_folders, open_tables, renamed_cameras
from peft_dml_tools.datasets.nuscenes_files import read_gnss, read_imu, read_lidar, read_radar
from peft_dml_tools.datasets.nuscenes_images import read_depth, read_image
from peft_dml_tools.datasets.nuscenes_snapshot import snapshot_of_sample
from peft_dml_tools.datasets.nuscenes_tables import Record, find_version, read_json, stamp_ns
from peft_dml_tools.datasets.nuscenes_truth import boxes_of_sample
from peft_dml_tools.datasets.nuscenes_writer_files import depth_file
from peft_dml_tools.datasets.t4 import CONTAINERS, VideoFrames, read_row_group

REFERENCE: Final = "LIDAR_TOP"


class NuScenesReader:
    """Random access to a nuScenes folder by sample token.

    Attributes:
        root: Folder with samples/, sweeps/, can_bus/ and the version folder.
        version: Name of the version folder.
        tables: Its tables.
        allow_missing: Carry on without files that are not there.
        filter_radar: Drop the radar points that the devkit drops by default.
        inputs: What the node's parameters say of the intensity of LiDARs.
    """

    def __init__(
        self,
        root: str | Path,
        version: str | None = None,
        *,
        allow_missing: bool = False,
        filter_radar: bool = True,
        inputs: InputParams = InputParams(),  # noqa: B008  it is immutable
    ) -> None:
        """Open a folder; tables are read when first used.

        Raises DataError: tables, or sample folders of listed sensors, are missing; all are named.
        """
        self.root, self.version = find_version(Path(root), version)
        self.tables = open_tables(self.root / self.version, allow_missing=allow_missing)
        self.allow_missing, self.filter_radar, self.inputs = allow_missing, filter_radar, inputs
        self._rigs: dict[tuple[str, ...], Rig] = {}
        self._imu = lru_cache(maxsize=64)(self._read_imu)
        self._gnss = lru_cache(maxsize=64)(self._read_gnss)
        self._video = VideoFrames()
        self.tables.renamed = renamed_cameras(self.tables)
        lost = sorted(self._folders.keys() - self._present_channels)
        if lost and not allow_missing:
            folders = ", ".join(sorted(str(folder) for name in lost for folder in self._folders[name]))
            raise DataError(f"{self.root} lacks the folders {folders}; fix: copy them, or allow_missing")

    @cached_property
    def _folders(self) -> dict[str, set[Path]]:
        return keyframe_folders(self.root, self.tables)

    # ---------------------------------------------------------------- what there is
    @cached_property
    def scenes(self) -> tuple[str, ...]:
        """Scene names in file order."""
        return tuple(row["name"] for row in self.tables.rows("scene"))

    @cached_property
    def splits(self) -> dict[str, tuple[str, ...]]:
        """Split name -> scene names, from `splits.json` in the version folder; empty without one."""
        path = self.tables.folder / "splits.json"
        if not path.is_file():
            return {}
        splits = read_json(path)
        if not isinstance(splits, dict) or not all(isinstance(names, list) for names in splits.values()):
            raise DataError(f"{path}; fix: it must map split names to lists of scene names")
        return {name: tuple(scenes) for name, scenes in splits.items()}

    def samples(self, split_or_scene: str | Sequence[str] | None = None) -> list[str]:
        """Return tokens of keyframes, scene by scene, in time order within each.

        Raises ConfigError: no such split or scene.

        Args:
            split_or_scene: A split name, a scene name, several scene names, or None for all.
        """
        by_scene = self.tables.samples_of_scene
        return [s["token"] for name in self._scene_names(split_or_scene) for s in by_scene.get(self._scene(name), [])]

    def _scene_names(self, split_or_scene: str | Sequence[str] | None) -> Iterable[str]:
        if split_or_scene is None:
            return self.scenes
        if not isinstance(split_or_scene, str):
            return split_or_scene
        return self.splits.get(split_or_scene, (split_or_scene,))

    def _scene(self, name: str) -> str:
        tokens = self._scene_tokens
        if name not in tokens:
            msg = f"no scene or split '{name}' in {self.tables.folder}; {nearest(name, [*tokens, *self.splits])}"
            raise ConfigError(msg)
        return tokens[name]

    @cached_property
    def _scene_tokens(self) -> dict[str, str]:
        return {row["name"]: row["token"] for row in self.tables.rows("scene")}

    def scene_of(self, sample_token: str) -> str:
        """Return the name of the scene that a keyframe belongs to."""
        name: str = self.tables.get("scene", self.tables.get("sample", sample_token)["scene_token"])["name"]
        return name

    def location(self, scene: str) -> str:
        """Return the name of a scene's map. Raises ConfigError: no such scene; DataError: the tables do not tell."""
        log_token = self.tables.get("scene", self._scene(scene)).get("log_token", "")
        return str(self.tables.get("log", log_token).get("location", ""))

    def stream(self, scene: str) -> list[Record]:
        """Return all sample_data of a scene whose files exist, keyframes and sweeps, in stamp order."""
        samples = self.tables.samples_of_scene.get(self._scene(scene), [])
        records = [r for s in samples for r in self.tables.data_of_sample.get(s["token"], [])]
        return sorted(self.existing(records), key=lambda r: (int(r["timestamp"]), self.tables.channel(r)))

    def keyframes(self, sample_token: str) -> dict[str, Record]:
        """Return sample_data of the keyframe by channel; channels whose folder is missing are left out."""
        found = {
            self.tables.channel(r): r for r in self.tables.data_of_sample.get(sample_token, []) if r["is_key_frame"]
        }
        return {name: found[name] for name in sorted(found, key=rig_order) if name in self._present_channels}

    @cached_property
    def _present_channels(self) -> frozenset[str]:
        return frozenset(
            name for name, folders in self._folders.items() if any((self.root / folder).is_dir() for folder in folders)
        )

    # ---------------------------------------------------------------- one keyframe
    def rig(self, sample_token: str) -> Rig:
        """Return sensors of a keyframe with their calibration; equal calibrations share one object."""
        keyframes, scene = self.keyframes(sample_token), self.scene_of(sample_token)
        extra = ["ODOM", *(["IMU"] if self._imu(scene) else []), *(["GNSS"] if self._gnss(scene) else [])]
        key = (*(record["calibrated_sensor_token"] for record in keyframes.values()), *extra)
        if key not in self._rigs:
            sensors = {name: self._sensor(name, record) for name, record in keyframes.items()}
            sensors |= {name: Sensor(name, modality_of_channel(name), SE3.identity()) for name in extra}
            self._rigs[key] = Rig(sensors)
        return self._rigs[key]

    def _sensor(self, name: str, data: Record) -> Sensor:
        calibration = self.tables.get("calibrated_sensor", data["calibrated_sensor_token"])
        base_SE3_sensor = SE3.from_quaternion_wxyz(calibration["rotation"], calibration["translation"])
        modality = modality_of_channel(name)
        if modality != "camera":
            return Sensor(name, modality, base_SE3_sensor)
        intrinsics = np.array(calibration["camera_intrinsic"], dtype=np.float64)
        bent = calibration.get("camera_distortion") or []
        model = calibration.get("distortion_model") or ("rational_polynomial" if len(bent) > 5 else "plumb_bob")
        lens = Lens.make(model, intrinsics, bent, f"{self.root}, {name}") if any(bent) and model != "none" else None
        return Sensor(name, modality, base_SE3_sensor, CameraModel(intrinsics, data["width"], data["height"], lens))

    def reference(self, sample_token: str) -> tuple[str, Record]:
        """Return the sensor that sets a keyframe's time, and its record: the LiDAR, else the nearest in time.

        Raises DataError: the keyframe has no sensor at all.
        """
        keyframes = self.keyframes(sample_token)
        if REFERENCE in keyframes:
            return REFERENCE, keyframes[REFERENCE]
        time_us = self.tables.get("sample", sample_token)["timestamp"]
        if not keyframes:
            msg = f"sample {sample_token} of {self.tables.folder} has no sensor data; fix: peft-dml dataset check"
            raise DataError(msg)
        lidars = [name for name in keyframes if name.startswith("LIDAR")]
        name = min(lidars or keyframes, key=lambda n: abs(keyframes[n]["timestamp"] - time_us))
        return name, keyframes[name]

    def stamp_ns(self, sample_token: str) -> int:
        """Return the reference time of a keyframe."""
        return stamp_ns(self.reference(sample_token)[1])

    def global_SE3_base(self, sample_token: str) -> SE3:
        """Return the pose of the vehicle at the reference time of a keyframe, in the map frame."""
        return self.pose(self.reference(sample_token)[1])

    def pose(self, data: Record) -> SE3:
        """Return `global_SE3_base` at the time of a sample_data record."""
        ego = self.tables.get("ego_pose", data["ego_pose_token"])
        return SE3.from_quaternion_wxyz(ego["rotation"], ego["translation"])

    def truth(self, sample_token: str, *, keep_unseen: bool = False) -> Boxes3D:
        """Return boxes in `base_link` at the reference time, also those without a point if `keep_unseen`."""
        return boxes_of_sample(self.tables, sample_token, self.global_SE3_base(sample_token), keep_unseen=keep_unseen)

    def snapshot(self, sample_token: str, spec: ModelSpec) -> Snapshot:
        """Return everything the detector sees at a keyframe: sweeps newest first, newest images, motion windows.

        Raises DataError: files are missing (all are named), unless `allow_missing`; a file is damaged.
        """
        return snapshot_of_sample(self, sample_token, spec)

    # ---------------------------------------------------------------- records to measurements
    def load(self, data: Record) -> LidarSweep | RadarSweep | CameraImage:
        """Return a sample_data record's measurement, sensor frame. Raises DataError: the file is missing or damaged."""
        path, modality = self.root / data["filename"], modality_of_channel(self.tables.channel(data))
        if modality == "lidar":
            chosen = intensity_of(self.tables.channel(data), self.inputs)
            if data.get("fileformat") in CONTAINERS:
                return read_row_group(path, int(data["frame_index"]), stamp_ns(data), chosen)
            return read_lidar(path, stamp_ns(data), self._columns(data), chosen)
        if data.get("fileformat") in CONTAINERS:
            return self._video.read(path, int(data["frame_index"]), stamp_ns(data))
        if modality == "radar":
            return read_radar(path, stamp_ns(data), keep_all=not self.filter_radar)
        return CameraImage(stamp_ns(data), jpeg=read_image(path))

    def depth(self, sample_token: str) -> dict[str, Float32Array]:
        """Return the depth images of a keyframe's cameras, where the data set has them (`simulate --depth-stride`).

        Raises DataError: a depth image is damaged.

        Returns:
            Channel -> (h, w) float32 depth along the optical axis in m, NaN for the sky and what is further than 255 m;
            each value is that of the middle of an equal part of the picture.
        """
        paths = {name: self.root / depth_file(data["filename"]) for name, data in self.keyframes(sample_token).items()}
        return {name: read_depth(path) for name, path in paths.items() if path.is_file()}

    def _columns(self, data: Record) -> int:
        """Return the values a point of a LiDAR file; T4 has a file about them where there are more than five."""
        about = data.get("info_filename") or ""
        if not about or not (self.root / about).is_file():
            return 5
        tree = read_json(self.root / about)
        return int(tree.get("num_pts_feats", 5)) if isinstance(tree, dict) else 5

    def odometry(self, records: Iterable[Record]) -> tuple[OdometrySample, ...]:
        """Return poses of the vehicle at the stamps of these records, oldest first, each stamp once."""
        by_stamp = {stamp_ns(r): r for r in records}
        return tuple(OdometrySample(stamp, self.pose(by_stamp[stamp])) for stamp in sorted(by_stamp))

    def imu(self, scene: str) -> tuple[ImuSample, ...]:
        """Return all inertial samples of a scene; empty when the scene has none."""
        return self._imu(scene)

    def gnss(self, scene: str) -> tuple[GnssFix, ...]:
        """Return all satellite fixes of a scene; empty when the scene has none, as always in real nuScenes."""
        return self._gnss(scene)

    def _read_imu(self, scene: str) -> tuple[ImuSample, ...]:
        path = self.root / "can_bus" / f"{scene}_ms_imu.json"
        return read_imu(path) if path.is_file() else ()

    def _read_gnss(self, scene: str) -> tuple[GnssFix, ...]:
        path = self.root / "can_bus" / f"{scene}_gnss.json"
        return read_gnss(path) if path.is_file() else ()

    def existing(self, records: list[Record]) -> list[Record]:
        """Return the records whose files are there. Raises DataError: some are not, and `allow_missing` is off."""
        lost = [r for r in records if not (self.root / r["filename"]).is_file()]
        if lost and not self.allow_missing:
            names = ", ".join(r["filename"] for r in lost[:20]) + (f" and {len(lost) - 20} more" if lost[20:] else "")
            msg = f"{self.root} lacks {len(lost)} files: {names}"
            raise DataError(f"{msg}; fix: copy them, or open it with allow_missing")
        gone = {r["token"] for r in lost}
        return [r for r in records if r["token"] not in gone]
