# SPDX-License-Identifier: Apache-2.0
"""One message of a sensor to a measurement, and through the synchroniser to a frame that is due. Never blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rclpy.clock import Clock
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import CompressedImage

from peft_dml_ros.conversions import points_dropped
from peft_dml_ros.core.camera_view import shape_mismatch
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import CameraImage, ImuSample, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.pipeline import FrameJob

if TYPE_CHECKING:
    from peft_dml_ros.nodes.calibrations import CalibrationStore

MIB: Final = 2**20
#: Largest message by type that is unpacked; of all others, `MIB`. A full turn of a LiDAR is about one.
LARGEST_BYTES: Final = {
    "PointCloud2": 64 * MIB,
    "Image": 256 * MIB,
    "CompressedImage": 64 * MIB,
    "TFMessage": 4 * MIB,
    "RadarScan": MIB // 8,
    "ContinentalArs548DetectionList": MIB // 2,
}


def unpacked(cdr: bytes, kind: type[Any]) -> Any:
    """Return the message in serialised bytes. Raises DataError: cut short, damaged, or more than any sensor sends."""
    if len(cdr) > (limit := LARGEST_BYTES.get(kind.__name__, MIB)):
        raise DataError(f"{kind.__name__} of {len(cdr)} bytes; fix: at most {limit}")
    try:
        return deserialize_message(cdr, kind)
    except Exception as error:  # rclpy names no type of its own for it
        # rcl adds the lines of its own source.
        reason = str(error).partition(", at /")[0]
        raise DataError(f"{len(cdr)} bytes are no {kind.__name__}: {reason}; fix: check its publisher") from error


class Decoder:
    """Takes serialised messages of sensors in, in the executor's thread.

    Args:
        converters: Makes a measurement of a sensor's message, by sensor.
        synchroniser: Collects the measurements.
        store: Knows how the sensors are mounted.
        clock: Clock of the node.
        drops: Where every measurement that is not used is counted.
        on_job: Called with every frame that is due; must return at once.
        on_image: Called with every picture, before any frame can ask for it.

    Attributes:
        received: Messages by sensor, usable or not.
        compressed: Compressed images by camera that could be taken.
        unfit: Why the newest message of a sensor did not fit its calibration.
    """

    def __init__(
        self,
        converters: Mapping[str, Callable[[Any], Measurement]],
        synchroniser: Synchroniser,
        store: CalibrationStore,
        clock: Clock,
        drops: DropCounter,
        on_job: Callable[[FrameJob], None],
        on_image: Callable[[str, CameraImage], None],
    ) -> None:
        self._synchroniser, self._store, self._clock, self._drops = synchroniser, store, clock, drops
        self._converters, self._on_job, self._on_image = converters, on_job, on_image
        self.received: Counter[str] = Counter()
        self.compressed: Counter[str] = Counter()
        self.unfit: dict[str, str] = {}
        self._waiting: dict[str, Callable[[], None]] = {}

    @property
    def waiting(self) -> frozenset[str]:
        """Sensors of which one message waits for their calibration: it is neither admitted nor refused yet."""
        return frozenset(self._waiting)

    def take(self, name: str, topic: str, cdr: bytes, kind: type[Any]) -> None:
        """Take a message of a sensor; what is wrong with it is counted, its topic logged, and the next one handled."""
        self.received[name] += 1
        self._guard(name, self._take, name, cdr, kind, topic=f"{topic}: ")

    def rig_changed(self) -> None:
        """Take the newest message of each sensor that had to wait for its calibration."""
        for name in [name for name in self._waiting if name in self._store.rig.sensors]:
            self._guard(name, self._waiting.pop(name))

    def emit(self, snapshot: Snapshot | None, now_ns: int) -> None:
        """Hand a snapshot on, with what is known of the sensors at that time."""
        if snapshot is not None:
            states, unusable = self._synchroniser.states(now_ns), self._store.missing | self.unfit
            self._on_job(FrameJob(snapshot, self._store.rig, states, unusable, self.received.copy(), now_ns))

    def _guard(self, name: str, handle: Callable[..., None], *args: Any, topic: str = "") -> None:
        try:
            handle(*args)
        except DataError as error:
            self._drops.count(f"{name}: malformed", f"{topic}{error}")
        except Exception as error:  # noqa: BLE001  a sensor must not be able to end the node
            self._drops.count(f"{name}: failed", f"{type(error).__name__}: {error}")

    def _take(self, name: str, cdr: bytes, kind: type[Any]) -> None:
        message = unpacked(cdr, kind)
        frame_id = message.header.frame_id
        if self._store.frames.get(name) != frame_id and (wrong := self._store.other_frame(name, frame_id)):
            self._refuse(name, wrong)
            return
        self.unfit.pop(name, None)
        if name in self._store.rig.sensors:
            self._measure(name, message)
        else:
            if name in self._waiting:
                self._drops.count(f"{name}: uncalibrated", self._store.missing[name])
            self._waiting[name] = partial(self._measure, name, message)
        if kind is CompressedImage:
            self.compressed[name] += 1

    def _measure(self, name: str, message: Any) -> None:
        measurement = self._converters[name](message)
        invalid_share = 0.0
        if isinstance(measurement, LidarSweep | RadarSweep):
            if lost := points_dropped(message, measurement):
                self._drops.count(f"{name}: points not finite", n=lost)
                invalid_share = lost / (lost + len(measurement.points))
        elif isinstance(measurement, ImuSample):
            measurement = measurement.turned(self._store.rig.sensors[name].base_SE3_sensor.rotation)
        elif isinstance(measurement, CameraImage):
            if wrong := shape_mismatch(measurement, self._store.rig[name].camera):
                self._refuse(name, wrong)
                return
            self._on_image(name, measurement)
        now_ns = int(self._clock.now().nanoseconds)
        self.emit(self._synchroniser.add(name, measurement, now_ns, invalid_share=invalid_share), now_ns)

    def _refuse(self, name: str, reason: str) -> None:
        self.unfit[name] = reason
        self._drops.count(f"{name}: uncalibrated", reason)
