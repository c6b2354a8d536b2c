# SPDX-License-Identifier: Apache-2.0
"""Writes a source as a ROS 2 bag that any ROS tool opens; memory does not grow with its length."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rosbags.interfaces import Connection, Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
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
from peft_dml_ros.datasets import conversions, topics
from peft_dml_ros.datasets.bag_types import RosbagsFactory, typestore

if TYPE_CHECKING:
    from peft_dml_ros.datasets.source import Source

BAG_VERSION: Final = 9
_FOREVER: Final = QosTime(9223372036, 854775807)


def qos(*, latched: bool = False) -> Qos:
    """A reliable profile as rosbag2 records it; latched = kept for late subscribers."""
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        _FOREVER,
        _FOREVER,
        QosLiveliness.AUTOMATIC,
        _FOREVER,
        False,  # noqa: FBT003
    )


class BagFile:
    """A bag being written: `NAME.mcap` gives one file, any other name a rosbag2 folder with metadata.yaml.

    As a context manager it closes the bag also after an error, so that what was written stays readable.
    """

    def __init__(self, path: str | Path, *, compress: bool = False) -> None:
        """Create the file.

        Args:
            path: NAME.mcap or a folder; must not exist.
            compress: Compress chunks with zstd.

        Raises:
            DataError: it exists already, or cannot be created.
        """
        self.path = Path(path)
        self._single = self.path.suffix == ".mcap"
        self._folder = self.path.with_suffix(".part") if self._single else self.path
        for taken in (self.path, self._folder):
            if taken.exists():
                msg = f"{taken} exists already and is not overwritten; remove it or choose another name"
                raise DataError(msg)
        self._writer = Writer(self._folder, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        try:
            self._writer.open()
        except OSError as error:
            msg = f"cannot write {self._folder}: {error.strerror}"
            raise DataError(msg) from error
        self._channels: dict[str, Connection] = {}

    def __enter__(self) -> BagFile:  # noqa: PYI034  typing.Self needs Python 3.11
        """The open bag."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write the index, and give a single file its final name."""
        self._writer.close()
        if self._single:
            next(self._folder.glob("*.mcap")).replace(self.path)
            shutil.rmtree(self._folder)

    def write(self, topic: str, time_ns: int, message: Any, *, latched: bool = False) -> None:
        """Append a rosbags message; its topic is created when first used.

        Args:
            topic: Relative or absolute name.
            time_ns: Time of recording.
            message: Built by `RosbagsFactory`.
            latched: Kept for late subscribers; counts for the first message of a topic.
        """
        name, msgtype, types = topics.bag_topic(topic), message.__msgtype__, typestore()
        if name not in self._channels:
            self._channels[name] = self._writer.add_connection(
                name, msgtype, typestore=types, offered_qos_profiles=[qos(latched=latched)]
            )
        self._writer.write(self._channels[name], time_ns, types.serialize_cdr(message, msgtype))


def write_bag(source: Source, path: str | Path, *, compress: bool = False) -> Path:
    """Write a source as a ROS 2 bag (MCAP): sensors, calibration, /tf_static and truth, recorded at their stamps.

    Args:
        source: What to write; it is read once, measurement by measurement.
        path: NAME.mcap for one file, any other name for a rosbag2 folder; must not exist.
        compress: Compress chunks with zstd.

    Returns:
        The path.

    Raises:
        DataError: the path is taken, or the source holds no measurement.
    """
    make, rig = RosbagsFactory(), source.rig
    with BagFile(path, compress=compress) as bag:
        started = False
        for sensor, measurement in source.measurements():
            stamp_ns = measurement.stamp_ns
            if not started:
                bag.write(topics.TF_STATIC, stamp_ns, conversions.tf_static_to_msg(rig, make, stamp_ns), latched=True)
                started = True
            for topic, message in messages_of(sensor, measurement, rig, make):
                bag.write(topic, stamp_ns, message)
        # Truth comes last: a simulated drive knows which objects were hit once its sensors are rendered.
        for entry in sorted(source.truth.items()):
            _write_truth(bag, entry, make)
    if not started:
        msg = f"source '{source.name}' holds no measurement; the bag {path} is empty"
        raise DataError(msg)
    return Path(path)


def messages_of(
    sensor: str, measurement: Measurement, rig: Rig, make: conversions.MessageFactory
) -> Iterator[tuple[str, Any]]:
    """(relative topic, message) of a measurement; a camera's calibration comes before its image.

    Args:
        sensor: Sensor name.
        measurement: Its measurement; inertial samples are turned from `base_link` to the sensor's axes.
        rig: The vehicle's sensors.
        make: Builds messages.
    """
    topic, frame = topics.topic_of(sensor), topics.frame_of(sensor)
    if isinstance(measurement, CameraImage):
        camera = rig[sensor].camera
        if camera is not None:
            info = conversions.camera_info_to_msg(camera, measurement.stamp_ns, frame, make)
            yield topics.camera_info_topic_of(sensor), info
        if measurement.jpeg is None:
            topic = topics.raw_image_topic_of(sensor)
        yield topic, conversions.image_to_msg(measurement, frame, make)
    elif isinstance(measurement, LidarSweep):
        yield topic, conversions.lidar_to_msg(measurement, frame, make)
    elif isinstance(measurement, RadarSweep):
        yield topic, conversions.radar_to_msg(measurement, frame, make)
    elif isinstance(measurement, ImuSample):
        yield topic, conversions.imu_to_msg(_to_sensor(measurement, rig[sensor].base_SE3_sensor), frame, make)
    elif isinstance(measurement, GnssFix):
        yield topic, conversions.gnss_to_msg(measurement, frame, make)
    elif isinstance(measurement, OdometrySample):
        yield topic, conversions.odometry_to_msg(measurement, make)


def _to_sensor(sample: ImuSample, base_SE3_imu: SE3) -> ImuSample:
    turn = base_SE3_imu.rotation.T
    if np.array_equal(turn, np.eye(3)):
        return sample
    return replace(sample, accel_mps2=turn @ sample.accel_mps2, gyro_radps=turn @ sample.gyro_radps)


def _write_truth(bag: BagFile, entry: tuple[int, Boxes3D], make: RosbagsFactory) -> None:
    stamp_ns, boxes = entry
    message = conversions.boxes_to_msg(boxes, stamp_ns, topics.BASE_FRAME, CLASSES, make)
    bag.write(topics.TRUTH, stamp_ns, message)
    message = conversions.velocities_to_msg(boxes, stamp_ns, topics.BASE_FRAME, make)
    bag.write(topics.TRUTH_VELOCITIES, stamp_ns, message)
