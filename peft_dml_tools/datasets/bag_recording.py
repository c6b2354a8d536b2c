# SPDX-License-Identifier: Apache-2.0
"""A source as the nuScenes writer wants it: keyframes at 2 Hz, poses from the odometry, truth by stamp."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.camera_view import decoded
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.jpeg import jpeg_damage
from peft_dml_ros.core.measurements import CameraImage, Measurement, OdometrySample
from peft_dml_ros.core.motion import MAX_EXTRAPOLATION_NS, interpolate
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.typing import IntArray, UInt8Array
from peft_dml_tools.datasets.nuscenes_writer_tables import channels
from peft_dml_tools.measurement_source import Source

PERIOD_NS: Final = 500_000_000
_SPARSE: Final = 0.6
WHOLE_PX: Final = 1 << 16  #: Wider than any picture: it is not shrunk

#: Detection class -> the commonest of its nuScenes categories
CATEGORY_OF_CLASS: Final = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "pedestrian": "human.pedestrian.adult",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier",
}


class BagRecording:
    """A source as the nuScenes writer wants it; looked through once at the start, read again as it is written.

    Attributes:
        rig: Sensors that become part of the scene.
        location: Name of the map.
        stamps: Stamps by sensor.
        keyframes_ns: Stamps that become samples.
        left_out: Number of messages by reason for which they are not in the scene.
        damage: What is wrong with the bag, or empty.
    """

    def __init__(
        self, source: Source, *, location: str = "unknown", allow_damaged: bool = False, assume_still: bool = False
    ) -> None:
        """Look the source through. Raises DataError: it is damaged, has no odometry, or nothing to make keyframes of.

        Args:
            source: What to write.
            location: Name of the map.
            allow_damaged: Take what stands before the damage of a bag that was cut off.
            assume_still: Take a source without odometry for one of a vehicle that stands.
        """
        self._source, self._allow_damaged, self.location = source, allow_damaged, location
        self.left_out: Counter[str] = Counter()
        self.damage = ""
        sensors = dict(source.rig.sensors)
        for name in [n for n, s in sensors.items() if s.modality == "camera" and s.camera is None]:
            del sensors[name]
            self.left_out[f"{name}: the camera has no CameraInfo"] += 1
        self.rig = Rig(sensors)
        self.stamps: dict[str, list[int]] = {}
        poses: dict[int, SE3] = {}
        for name, measurement in self._readable():
            if isinstance(measurement, CameraImage) and measurement.jpeg and jpeg_damage(measurement.jpeg):
                self.left_out[f"{name}: the image is damaged"] += 1
                continue
            self.stamps.setdefault(name, []).append(measurement.stamp_ns)
            if isinstance(measurement, OdometrySample):
                poses[measurement.stamp_ns] = measurement.odom_SE3_base
        if not poses and not assume_still:
            raise DataError(
                f"'{source.name}' has no odometry, so the vehicle's poses are unknown; fix: record nav_msgs/Odometry, "
                "or say that it stood still (--assume-still)"
            )
        self._pose_ns = np.array(sorted(poses), dtype=np.int64)
        self._poses = [poses[int(stamp)] for stamp in self._pose_ns]
        for name, stamps in self.stamps.items():
            posed = name in channels(self.rig)
            kept = [stamp for stamp in dict.fromkeys(stamps) if not posed or self._covered(stamp)]
            self.left_out[f"{name}: before or after the odometry, or twice"] += len(stamps) - len(kept)
            self.stamps[name] = kept
        self._truth = source.truth
        self._class_of = {
            own: int(label)
            for boxes in self._truth.values()
            if boxes.ids
            for own, label in zip(boxes.ids, boxes.labels, strict=True)
        }
        self.keyframes_ns: tuple[int, ...] = choose_keyframes(self._reference(), sorted(self._truth))
        self.left_out += Counter()  # drops zeros

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Yield (sensor name, measurement) in stamp order; raw images are compressed."""
        done: set[tuple[str, int]] = set()
        wanted = {(name, stamp) for name, stamps in self.stamps.items() for stamp in stamps}
        for name, measurement in self._readable():
            key = (name, measurement.stamp_ns)
            if key in wanted and key not in done:
                done.add(key)
                yield name, compressed(measurement)

    def global_SE3_base(self, stamp_ns: int) -> SE3:
        """Return the vehicle's pose: the odometry's at its stamps, interpolated between and a little beyond them."""
        if not self._poses:
            return SE3.identity()
        stamp_ns = min(
            max(stamp_ns, int(self._pose_ns[0]) - MAX_EXTRAPOLATION_NS), int(self._pose_ns[-1]) + MAX_EXTRAPOLATION_NS
        )
        after = int(np.searchsorted(self._pose_ns, stamp_ns))
        if after < len(self._poses) and self._pose_ns[after] == stamp_ns:
            return self._poses[after]
        if len(self._poses) == 1:
            return self._poses[0]
        low = min(max(after - 1, 0), len(self._poses) - 2)
        begin, end = (int(stamp) for stamp in self._pose_ns[low : low + 2])
        return interpolate(self._poses[low], self._poses[low + 1], (stamp_ns - begin) / (end - begin))

    def truth_at(self, stamp_ns: int) -> Boxes3D:
        """Return boxes of the bag at that very stamp; those without ids are objects of their own."""
        boxes = self._truth.get(stamp_ns, Boxes3D.empty())
        if boxes.ids:
            return boxes
        return replace(boxes, ids=tuple(f"{stamp_ns}-{i}-{CLASSES[label]}" for i, label in enumerate(boxes.labels)))

    def category_of(self, object_id: str) -> str:
        """Return the category of an object by its class."""
        label = self._class_of.get(object_id)
        return CATEGORY_OF_CLASS[object_id.rpartition("-")[2] if label is None else CLASSES[label]]

    @property
    def map_mask(self) -> UInt8Array:
        """Nothing: a bag holds no map."""
        return np.zeros((8, 8), dtype=np.uint8)

    def _covered(self, stamp_ns: int) -> bool:
        if not self._poses:
            return True
        first, last = int(self._pose_ns[0]), int(self._pose_ns[-1])
        return first - MAX_EXTRAPOLATION_NS <= stamp_ns <= last + MAX_EXTRAPOLATION_NS

    def _readable(self) -> Iterator[tuple[str, Measurement]]:
        try:
            for name, measurement in self._source.measurements():
                if name in self.rig.sensors:
                    yield name, measurement
        except DataError as error:
            if not self._allow_damaged:
                raise
            self.damage = str(error)

    def _reference(self) -> list[int]:
        """Return stamps of the sensor that sets the keyframes: the LiDAR, else the first that sees anything."""
        for name in ("LIDAR_TOP", *sorted(self.rig.sensors, key=lambda n: (n[:5] != "LIDAR", n))):
            if name in self.rig.sensors and name in channels(self.rig) and self.stamps.get(name):
                return self.stamps[name]
        raise DataError(f"'{self._source.name}' has nothing to make keyframes of; fix: record LiDAR, radar or cameras")


def choose_keyframes(reference_ns: list[int], truth_ns: list[int]) -> tuple[int, ...]:
    """Choose two keyframes a second at stamps of the reference sensor, at those with truth where there are any.

    Truth that is itself given about twice a second, as in nuScenes, sets all of them.
    """
    annotated = sorted(set(truth_ns) & set(reference_ns))
    if annotated and (len(annotated) == 1 or float(np.median(np.diff(annotated))) >= _SPARSE * PERIOD_NS):
        return tuple(annotated)
    candidates: IntArray = np.array(annotated or reference_ns, dtype=np.int64)
    wanted = np.arange(candidates[0], candidates[-1] + PERIOD_NS // 10, PERIOD_NS)
    nearest = candidates[[int(np.argmin(np.abs(candidates - stamp))) for stamp in wanted]]
    close = np.abs(nearest - wanted) <= PERIOD_NS // 2
    return tuple(int(stamp) for stamp in np.unique(nearest[close]))


def compressed(measurement: Measurement) -> Measurement:
    """Return the measurement with raw pixels, and a mosaic, as colour JPEG."""
    if not isinstance(measurement, CameraImage) or (measurement.pixels is None and not measurement.mosaic):
        return measurement
    import cv2  # noqa: PLC0415 - only raw images need it

    pixels = cv2.cvtColor(decoded(measurement, WHOLE_PX), cv2.COLOR_RGB2BGR)
    _, jpeg = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])
    return CameraImage(measurement.stamp_ns, jpeg=jpeg.tobytes())
