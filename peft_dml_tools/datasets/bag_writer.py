# SPDX-License-Identifier: Apache-2.0
"""Writes a source as a ROS 2 bag that any ROS tool opens; memory does not grow with its length."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from sqlite3 import Error as SqliteError
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin

from peft_dml_ros import conversions
from peft_dml_ros.conversions import presets, topics
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import (
    CameraImage,
    GnssFix,
    ImuSample,
    LidarSweep,
    Measurement,
    OdometrySample,
    RadarSweep,
)
from peft_dml_ros.core.rig import Rig
from peft_dml_tools.datasets import bag_topics, encode
from peft_dml_tools.datasets.bag_types import RosbagsFactory, typestore
from peft_dml_tools.datasets.lean_mcap import LeanWriter
from peft_dml_tools.datasets.renaming import renamer

if TYPE_CHECKING:
    from peft_dml_tools.measurement_source import Source

BAG_VERSION: Final = 9
SENSOR_DEPTH: Final = 10
_FOREVER: Final = QosTime(9223372036, 854775807)


def qos(topic: str, *, latched: bool = False) -> Qos:
    """Return the profile that publishers of a topic offer, as rosbag2 records it.

    Drivers send sensor data best effort; all else is reliable. Latched topics are kept for late subscribers.
    """
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else SENSOR_DEPTH,
        QosReliability.BEST_EFFORT if bag_topics.is_sensor_topic(topic) else QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,  # noqa: FBT003
    )


class BagFile:
    """A bag being written: `NAME.mcap` and `NAME.db3` give one file, any other name a rosbag2 folder.

    As a context manager it closes the bag also after an error, so that what was written stays readable.
    """

    def __init__(
        self, path: str | Path, *, compress: bool = False, sqlite3: bool = False, whole_or_nothing: bool = False
    ) -> None:
        """Create the file. Raises DataError: it exists already, or cannot be created.

        Args:
            path: NAME.mcap, NAME.db3 or a folder; must not exist.
            compress: Compress with zstd: chunks in MCAP, messages in SQLite.
            sqlite3: Write a folder with SQLite storage instead of MCAP; NAME.db3 always has it.
            whole_or_nothing: After an error nothing stays behind, and the path may exist: it is replaced when the new
                bag is whole.
        """
        self.path = Path(path)
        self._whole = whole_or_nothing
        self._single = self.path.suffix in {".mcap", ".db3"}
        plugin = StoragePlugin.SQLITE3 if sqlite3 or self.path.suffix == ".db3" else StoragePlugin.MCAP
        if self._single and (plugin is StoragePlugin.MCAP) != (self.path.suffix == ".mcap"):
            msg = f"{self.path} has SQLite storage; fix: call it {self.path.with_suffix('.db3').name}, or name a folder"
            raise DataError(msg)
        if self.path.suffix == ".db3" and compress:
            msg = f"{self.path}: a single .db3 file does not tell that it is compressed; fix: name a folder instead"
            raise DataError(msg)
        self._part = self.path.with_suffix(".part") if self._single else self.path.with_name(f"{self.path.name}.part")
        direct = not (self._single or whole_or_nothing)
        self._folder = self.path if direct else self._part / self.path.stem
        if whole_or_nothing and _is_part(self._part):
            shutil.rmtree(self._part)  # of a run that was killed
        for taken in (self._part,) if whole_or_nothing else (self.path, self._part):
            if taken.exists():
                raise DataError(f"{taken} exists already and is not overwritten; fix: remove it or choose another name")
        self._writer = LeanWriter(self._folder, version=BAG_VERSION, storage_plugin=plugin)
        if compress:
            mode = CompressionMode.STORAGE if plugin is StoragePlugin.MCAP else CompressionMode.MESSAGE
            self._writer.set_compression(mode, CompressionFormat.ZSTD)
        try:
            self._writer.open()
        except (OSError, SqliteError) as error:
            raise self._failure(error, "create") from error
        self._channels: dict[str, Connection] = {}

    def __enter__(self) -> BagFile:  # noqa: PYI034  typing.Self needs Python 3.11
        """Return the open bag."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the index, and give the bag its final name. Raises DataError: it cannot be; the part stays."""
        if error is not None and self._whole:
            self._discard()
            return
        try:
            self._writer.close()
            if self._folder != self.path:
                self._rename()
        except (OSError, SqliteError) as failure:
            if self._whole:
                self._discard()
            if error is None:
                raise self._failure(failure, "finish") from failure

    def write(self, topic: str, time_ns: int, message: Any, *, latched: bool = False) -> None:
        """Append a rosbags message; its topic is created when first used.

        Raises DataError: the file cannot be written, the disk is full for example.

        Args:
            topic: Relative or absolute name.
            time_ns: Time of recording.
            message: Built by `RosbagsFactory`.
            latched: Kept for late subscribers; counts for the first message of a topic.
        """
        msgtype = message.__msgtype__
        self.write_bytes(topic, time_ns, typestore().serialize_cdr(message, msgtype), msgtype, latched=latched)

    def write_bytes(
        self, topic: str, time_ns: int, cdr: bytes | memoryview, msgtype: str, *, latched: bool = False
    ) -> None:
        """Append the bytes of a message of the type named, as `write` does."""
        name = bag_topics.bag_topic(topic)
        try:
            if name not in self._channels:
                self._channels[name] = self._writer.add_connection(
                    name, msgtype, typestore=typestore(), offered_qos_profiles=[qos(name, latched=latched)]
                )
            self._writer.write(self._channels[name], time_ns, cdr)
        except (OSError, SqliteError) as error:
            raise self._failure(error, f"write {name} of {time_ns} ns to") from error

    def _rename(self) -> None:
        made = next(self._folder.glob(f"*{self.path.suffix}")) if self._single else self._folder
        if self._whole and self.path.is_dir():
            shutil.rmtree(self.path)
        made.replace(self.path)
        shutil.rmtree(self._part)

    def _discard(self) -> None:
        with suppress(Exception):
            self._writer.abort()
        shutil.rmtree(self._part, ignore_errors=True)

    def _failure(self, error: Exception, what: str) -> DataError:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        size = sum(p.stat().st_size for p in self._folder.glob("*")) if self._folder.is_dir() else 0
        left = "nothing stays behind" if self._whole else f"what was written stays in {self._folder}"
        return DataError(
            f"cannot {what} {self.path} after {size} bytes: {reason}; {left}; fix: free space there and run it again"
        )


def _is_part(folder: Path) -> bool:
    """Return whether there is a folder that holds nothing but pieces of a bag."""
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return folder.is_dir() and all(path.name.startswith(("metadata.yaml", f"{path.parent.name}.")) for path in files)


def write_bag(
    source: Source,
    path: str | Path,
    *,
    compress: bool = False,
    sqlite3: bool = False,
    preset: str = presets.DEFAULT,
    display: bool = False,
    overwrite: bool = False,
    frames: Mapping[str, str] | None = None,
) -> Path:
    """Write a source as a ROS 2 bag and return its path: sensors, calibration, /tf_static and truth, at their stamps.

    A bag is either written whole or not at all; a run that was cut short can be repeated. Raises DataError: the path is
    taken, the source holds no measurement or damaged ones, or the disk is full; ConfigError: no such preset.

    Args:
        source: What to write; it is read once, measurement by measurement.
        path: NAME.mcap or NAME.db3 for one file, any other name for a rosbag2 folder.
        compress: Compress with zstd.
        sqlite3: SQLite storage in a folder, instead of MCAP.
        preset: Topic names: "default", or one of `presets.PRESETS`.
        display: Add what viewers want: /tf of the odometry, and the truth as markers.
        overwrite: Replace a bag of that name, once the new one is whole.
        frames: Sensor -> `header.frame_id` where it is not that of `topics.frame_of`.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists already and is not overwritten; fix: remove it or choose another name")
    named = renamer(preset)
    with BagFile(path, compress=compress, sqlite3=sqlite3, whole_or_nothing=True) as bag:
        if not _write_measurements(bag, source, named, frames or {}, display=display):
            raise DataError(f"source '{source.name}' holds no measurement for bag {path}; fix: name another")
        # Truth comes last: a simulated drive knows which objects were hit once its sensors are rendered.
        for entry in sorted(source.truth.items()):
            _write_truth(bag, entry, display=display)
    return path


def _write_measurements(
    bag: BagFile, source: Source, named: Callable[[str], str], frames: Mapping[str, str], *, display: bool
) -> bool:
    """Write the mounting of the sensors, then what they measured; return False when that is nothing."""
    make, rig, started = RosbagsFactory(), source.rig, False
    before: OdometrySample | None = None
    for sensor, measurement in source.measurements():
        stamp_ns = measurement.stamp_ns
        if not started:
            bag.write(topics.TF_STATIC, stamp_ns, encode.tf_static_to_msg(rig, make, stamp_ns), latched=True)
            started = True
        for topic, message in messages_of(sensor, measurement, rig, make, frames.get(sensor), before=before):
            bag.write(named(topic), stamp_ns, message)
        if isinstance(measurement, OdometrySample):
            before = measurement
            if display:
                bag.write(bag_topics.TF, stamp_ns, encode.tf_to_msg(measurement, make))
    return started


def messages_of(
    sensor: str,
    measurement: Measurement,
    rig: Rig,
    make: conversions.MessageFactory,
    frame_id: str | None = None,
    *,
    before: OdometrySample | None = None,
    turn_s: float | None = encode.TURN_S,
) -> Iterator[tuple[str, Any]]:
    """Yield (relative topic, message) of a measurement; a camera's calibration comes before its image.

    Args:
        sensor: Sensor name.
        measurement: Its measurement; inertial samples are turned from `base_link` to the sensor's axes.
        rig: The vehicle's sensors.
        make: Builds messages.
        frame_id: Of the messages; None takes that of `topics.frame_of`.
        before: The pose before this one, for the twist of odometry.
        turn_s: Duration of a LiDAR turn, for the times of its points; None leaves these out.
    """
    topic, frame = topics.topic_of(sensor), frame_id or topics.frame_of(sensor)
    if isinstance(measurement, CameraImage):
        camera = rig[sensor].camera
        if camera is not None:
            info = encode.camera_info_to_msg(camera, measurement.stamp_ns, frame, make)
            yield topics.camera_info_topic_of(sensor), info
        if measurement.jpeg is None:
            topic = topics.raw_image_topic_of(sensor)
        yield topic, conversions.image_to_msg(measurement, frame, make)
    elif isinstance(measurement, LidarSweep):
        yield topic, encode.lidar_to_msg(measurement, frame, make, turn_s=turn_s)
    elif isinstance(measurement, RadarSweep):
        yield topic, encode.radar_to_msg(measurement, frame, make)
    elif isinstance(measurement, ImuSample):
        yield topic, encode.imu_to_msg(measurement.turned(rig[sensor].base_SE3_sensor.rotation.T), frame, make)
    elif isinstance(measurement, GnssFix):
        yield topic, encode.gnss_to_msg(measurement, frame, make)
    elif isinstance(measurement, OdometrySample):
        yield topic, encode.odometry_to_msg(measurement, make, before=before)


def _write_truth(bag: BagFile, entry: tuple[int, Boxes3D], *, display: bool) -> None:
    (stamp_ns, boxes), make = entry, RosbagsFactory()
    message = encode.boxes_to_msg(boxes, stamp_ns, topics.BASE_FRAME, CLASSES, make)
    bag.write(bag_topics.TRUTH, stamp_ns, message)
    message = conversions.velocities_to_msg(boxes, stamp_ns, topics.BASE_FRAME, make)
    bag.write(bag_topics.TRUTH_VELOCITIES, stamp_ns, message)
    if display:
        cdr = conversions.markers_to_cdr(boxes, stamp_ns, topics.BASE_FRAME)
        bag.write_bytes(bag_topics.TRUTH_MARKERS, stamp_ns, cdr, topics.MARKERS)
