# SPDX-License-Identifier: Apache-2.0
"""From messages to frame jobs: subscribe, decode, keep the rig up to date, feed the synchroniser. Never blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage
from tf2_msgs.msg import TFMessage

from peft_dml_ros import conversions
from peft_dml_ros.conversions.topics import (
    IMAGE,
    TF_STATIC,
    camera_info_topic_of,
    frame_of,
    other_type_of,
    topic_of,
    type_of,
)
from peft_dml_ros.core.calibration import load_calibration
from peft_dml_ros.core.camera_view import image_size
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import CameraImage, ImuSample, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.nodes.autodetect import Autodetect
from peft_dml_ros.nodes.calibrations import Calibrations
from peft_dml_ros.nodes.diagnostics import SensorReport, sensor_reports
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.pipeline import FrameJob
from peft_dml_ros.nodes.raw_images import RawImages
from peft_dml_ros.nodes.subscribing import FittingSubscription, message_class, unpacked
from peft_dml_ros.nodes.transforms import MAX_FRAMES, RigBuilder

DECODERS: Final[dict[Modality | None, Callable[[Any], Measurement]]] = {
    "lidar": conversions.lidar_from_msg,
    "radar": conversions.radar_from_msg,
    "camera": conversions.image_from_msg,
    "imu": conversions.imu_from_msg,
    "gnss": conversions.gnss_from_msg,
    None: conversions.odometry_from_msg,
}
QUEUE: Final[dict[Modality | None, int]] = {"lidar": 10, "radar": 7, "camera": 6, "imu": 50, "gnss": 10, None: 50}
"""Messages the middleware keeps while the executor is busy: half a second at usual rates, so that a short hold-up of
the whole machine costs no message."""


FAST: Final = 50
"""Topics with so long a queue are taken empty at each turn."""
INFO: Final = " calibration"
SHAPE_TOLERANCE: Final = 0.02
"""Images and calibration may differ in scale, but not in shape: rounding at an eighth of the size is within this."""


def info_of(camera: str) -> str:
    """Key of a camera's calibration among the connections."""
    return f"{camera}{INFO}"


def raw_of(camera: str) -> str:
    """Key of a camera's uncompressed images among the connections."""
    return f"{camera} raw"


class Intake:
    """Subscriptions of the node, and what they are put together to.

    Args:
        node: Owner of the subscriptions and of the clock.
        params: Sensors, frames, limits.
        drops: Where every measurement that is not used is counted.
        on_job: Called in the executor's thread with every frame that is due; must return at once.
        on_image: The same with every picture, before any frame can ask for it.
    """

    def __init__(
        self,
        node: Node,
        params: NodeParams,
        drops: DropCounter,
        on_job: Callable[[FrameJob], None],
        on_image: Callable[[str, CameraImage], None] = lambda _name, _image: None,
    ) -> None:
        self._node, self._drops, self._on_job, self._on_image = node, drops, on_job, on_image
        self._synchroniser = Synchroniser(params)
        given = load_calibration(Path(params.calibration)) if params.calibration else None
        self._builder = RigBuilder({name: frame_of(name) for name in params.sensors}, params.base_frame, given)
        self._rig, self._missing = self._builder.rig(), self._builder.missing()
        self._received: Counter[str] = Counter()
        self._calibrations = Calibrations(drops)
        self._unfit: dict[str, str] = {}
        self._uncalibrated: dict[str, Callable[[], None]] = {}
        transforms = FittingSubscription(
            node, TFMessage, TF_STATIC, self._on_transforms, depth=100, latched=True, raw=True
        )
        self._subscriptions = {TF_STATIC: transforms}
        cameras = [name for name in params.sensors if modality_of_channel(name) == "camera"]
        for name in params.sensors:
            self._subscriptions[name] = self._listen(name, topic_of(name), type_of(name))
        for name in cameras:
            self._subscriptions[info_of(name)] = self._listen_to_calibration(name, camera_info_topic_of(name))
        self._raw_images = RawImages(node, cameras, lambda name, topic: self._listen(name, topic, IMAGE))
        self._autodetect = Autodetect(node) if params.autodetect else None
        self.refresh()

    def _listen(self, name: str, topic: str, type_name: str) -> FittingSubscription:
        modality = modality_of_channel(name)
        decode = DECODERS[modality]
        # Bytes, because the middleware drops a message that it cannot deserialise without a word.
        subscription = FittingSubscription(
            self._node,
            message_class(type_name),
            topic,
            lambda cdr: self._guard(name, lambda: self._on_measurement(name, decode, subscription.kind, cdr)),
            depth=QUEUE[modality],
            raw=True,
            drain=QUEUE[modality] >= FAST,
            other=other_type_of(name),
        )
        return subscription

    def _listen_to_calibration(self, camera: str, topic: str) -> FittingSubscription:
        return FittingSubscription(
            self._node,
            CameraInfo,
            topic,
            lambda cdr: self._guard(info_of(camera), lambda: self._on_camera_info(camera, cdr)),
            depth=1,
            raw=True,
        )

    def destroy(self) -> None:
        """End all subscriptions."""
        for subscription in self._subscriptions.values():
            subscription.destroy()
        self._subscriptions.clear()
        self._raw_images.destroy()
        if self._autodetect is not None:
            self._autodetect.close()

    def refresh(self) -> None:
        """Fit subscriptions to publishers that have come or gone since."""
        self._raw_images.refresh()
        for subscription in self._subscriptions.values():
            if subscription.refresh():
                self._node.get_logger().info(f"subscribed to {subscription.topic} anew: its publishers are others")
        for name, model in self._calibrations.unopposed().items():
            self._builder.set_camera(name, model)
            self._rebuild()
        if self._autodetect is not None:
            self._find_topics(self._autodetect)

    def _find_topics(self, autodetect: Autodetect) -> None:
        """Listen elsewhere for sensors of which nobody publishes what is listened to."""
        silent = {key for key, subscription in self._subscriptions.items() if not subscription.offered}
        found = autodetect.look() if silent - {TF_STATIC} else None
        if found is None:
            return
        published = dict(self._node.get_topic_names_and_types())
        elsewhere = {sensor: topic for topic, sensor in found.sensors.items()}
        elsewhere |= {info_of(camera): topic for topic, camera in found.infos.items()}
        for key in sorted(silent & elsewhere.keys()):
            topic, old = elsewhere[key], self._subscriptions[key]
            camera = key.removesuffix(INFO)
            old.destroy()
            self._subscriptions[key] = (
                self._listen_to_calibration(camera, topic)
                if key.endswith(INFO)
                else self._listen(key, topic, published[topic][0])
            )
            self._node.get_logger().info(f"autodetect: {key} is {topic} ({found.preset} names), not {old.topic}")

    def connections(self) -> dict[str, FittingSubscription]:
        """What is listened to: by sensor, by `info_of(camera)`, by `raw_of(camera)`, and /tf_static."""
        return self._subscriptions | {raw_of(name): s for name, s in self._raw_images.subscriptions().items()}

    @property
    def waiting(self) -> frozenset[str]:
        """Sensors of which one message waits for their calibration: it is neither admitted nor refused yet."""
        return frozenset(self._uncalibrated)

    def tick(self) -> None:
        """Let the clock make a frame when no sensor does."""
        now_ns = self._now_ns()
        if now_ns:
            self._emit(self._synchroniser.tick(now_ns), now_ns)

    def reset(self) -> None:
        """Forget all measurements, as after a jump of the clock."""
        self._synchroniser.reset()

    def reports(self) -> dict[str, SensorReport]:
        """Every sensor as it is now."""
        return sensor_reports(self._synchroniser.states(self._now_ns()), self._missing | self._unfit, self._received)

    def drops(self) -> Counter[str]:
        """All drops before the detector, by reason."""
        return self._drops.totals() + Counter(self._synchroniser.drops)

    def _now_ns(self) -> int:
        return int(self._node.get_clock().now().nanoseconds)

    def _guard(self, name: str, handle: Callable[[], None]) -> None:
        """Whatever one message does, the next one is handled."""
        try:
            handle()
        except DataError as error:
            self._drops.count(f"{name}: malformed", error)
        except Exception as error:  # noqa: BLE001  a sensor must not be able to end the node
            self._drops.count(f"{name}: failed", f"{type(error).__name__}: {error}")

    def _on_measurement(self, name: str, decode: Callable[[Any], Measurement], kind: type[Any], cdr: bytes) -> None:
        self._received[name] += 1
        message = unpacked(cdr, kind)
        frame_id = message.header.frame_id
        if self._builder.strange(name, frame_id):
            self._unfit[name] = f"its frame '{frame_id[:40]}' has no static transform"
            self._drops.count(f"{name}: uncalibrated", self._unfit[name])
            return
        self._unfit.pop(name, None)
        if self._builder.name_frame(name, frame_id):
            self._rebuild()
        if name in self._rig.sensors:
            self._take(name, decode, message)
        else:
            if name in self._uncalibrated:
                self._drops.count(f"{name}: uncalibrated", self._missing[name])
            self._uncalibrated[name] = partial(self._take, name, decode, message)
        if isinstance(message, CompressedImage):
            self._raw_images.compressed_came(name)

    def _take(self, name: str, decode: Callable[[Any], Measurement], message: Any) -> None:
        measurement = decode(message)
        invalid_share = 0.0
        if isinstance(measurement, LidarSweep | RadarSweep) and (
            lost := conversions.points_dropped(message, measurement)
        ):
            self._drops.count(f"{name}: points not finite", n=lost)
            invalid_share = lost / (lost + len(measurement.points))
        if isinstance(measurement, ImuSample):
            measurement = self._in_base_axes(name, measurement)
        if isinstance(measurement, CameraImage) and (wrong := self._wrong_shape(name, measurement)):
            self._unfit[name] = wrong
            self._drops.count(f"{name}: uncalibrated", wrong)
            return
        if isinstance(measurement, CameraImage):
            self._on_image(name, measurement)
        now_ns = self._now_ns()
        self._emit(self._synchroniser.add(name, measurement, now_ns, invalid_share=invalid_share), now_ns)

    def _wrong_shape(self, name: str, image: CameraImage) -> str:
        """In words, that an image is not of its calibration's shape; empty when it is, at whatever scale."""
        camera = self._rig[name].camera
        if camera is None:
            return ""
        width, height = image_size(image)
        if not width * height:
            raise DataError(f"an image of {width} x {height} pixels")
        stretch = width * camera.height_px / (height * camera.width_px)
        if abs(stretch - 1) <= SHAPE_TOLERANCE:
            return ""
        return f"its images are {width} x {height}, its calibration is for {camera.width_px} x {camera.height_px}"

    def _in_base_axes(self, name: str, sample: ImuSample) -> ImuSample:
        turn = self._rig[name].base_SE3_sensor.rotation
        return replace(sample, accel_mps2=turn @ sample.accel_mps2, gyro_radps=turn @ sample.gyro_radps)

    def _emit(self, snapshot: Snapshot | None, now_ns: int) -> None:
        if snapshot is not None:
            sensors = sensor_reports(self._synchroniser.states(now_ns), self._missing | self._unfit, self._received)
            self._on_job(FrameJob(snapshot, self._rig, sensors, now_ns))

    def _on_camera_info(self, name: str, cdr: bytes) -> None:
        """Take a calibration over when it is another one than before."""
        model = self._calibrations.take(name, cdr)
        if model is not None:
            self._builder.set_camera(name, model)
            self._rebuild()

    def _on_transforms(self, cdr: bytes) -> None:
        self._guard(TF_STATIC, lambda: self._take_transforms(unpacked(cdr, TFMessage)))

    def _take_transforms(self, message: TFMessage) -> None:
        tree = self._builder.tree
        before = tree.refused
        if tree.update(conversions.transforms_from_msg(message)):
            self._rebuild()
        if refused := tree.refused - before:
            detail = f"'{tree.last_refused}' and others; at most {MAX_FRAMES} are kept, does a node invent names?"
            self._drops.count(f"{TF_STATIC}: too many frames", detail, n=refused)

    def _rebuild(self) -> None:
        """Take a rig over, with the newest measurement of each sensor that had to wait for its calibration."""
        self._rig, self._missing = self._builder.rig(), self._builder.missing()
        for name in [name for name in self._uncalibrated if name in self._rig.sensors]:
            self._guard(name, self._uncalibrated.pop(name))
