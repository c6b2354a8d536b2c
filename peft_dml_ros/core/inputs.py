# SPDX-License-Identifier: Apache-2.0
"""Snapshot to network inputs: the only such path, for training and for the vehicle alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, TypeAlias, TypeVar

import numpy as np

from peft_dml_ros.core.camera_view import load_image, voxel_lookup
from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.motion import EgoMotion, gnss_window, imu_window
from peft_dml_ros.core.pillars import lidar_pillars, radar_pillars
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.sweeps import lidar_cloud, radar_cloud, spaced
from peft_dml_ros.core.typing import AnyArray, Float32Array, Int32Array, UInt8Array

Swept = TypeVar("Swept")
Made: TypeAlias = tuple[dict[str, AnyArray], float] | None
"""Inputs of one encoder, and how complete they are; none where its sensors gave nothing."""

AHEAD: Final = 2
"""Pictures of a camera that are decoded before a frame asks for them: cameras may be a little faster than frames. More
would be wasted on a machine that cannot keep up."""


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """Arrays for the graphs.

    Attributes:
        feeds: Per present modality, the inputs of its encoder (`graph_inputs`); an absent modality has no entry.
        mask: (5,) float32, 1 where a modality is present, in `MODALITIES` order.
        age_s: (5,) float32 mean age of the newest measurements, 0 where absent.
        completeness: (5,) float32 share of what a full modality delivers (sweeps, cameras, samples), 0 where absent.
        drops: How many measurements were dropped here, by reason.
    """

    feeds: dict[Modality, dict[str, AnyArray]]
    mask: Float32Array
    age_s: Float32Array
    completeness: Float32Array
    drops: Counter[str] = field(default_factory=Counter)


class InputAssembler:
    """Makes network inputs; keeps between frames what depends on calibration alone, and pictures that stay the same.

    Args:
        spec: Model facts.
        rig: Sensors with their mounting and calibration.
        threads: Image decoders that work in parallel; with one alone nothing is decoded ahead.
    """

    def __init__(self, spec: ModelSpec, rig: Rig, threads: int = 1) -> None:
        self.spec, self.rig = spec, rig
        self._lookup: tuple[Int32Array, Int32Array] | None = None
        self._pictures: dict[int, tuple[CameraImage, UInt8Array | None]] = {}
        self._camera_inputs: Made = None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode") if threads > 1 else None
        self._ahead: dict[str, tuple[tuple[CameraImage, Future[UInt8Array | None]], ...]] = {}
        self._ahead_lock = Lock()

    def prepare(self, name: str, image: CameraImage) -> None:
        """Begin to decode a picture that a frame will probably ask for; returns at once. Safe from any thread."""
        if self._pool is None or name not in self.spec.camera.cameras or not self._calibrated(name):
            return
        with self._ahead_lock:
            ours = self._ahead.get(name, ())
            if len(ours) < AHEAD:
                self._ahead[name] = (*ours, (image, self._pool.submit(self._load, image)))

    def _taken(self, name: str, image: CameraImage) -> Future[UInt8Array | None] | None:
        """What was begun of a picture; none when nothing was. Pictures before it will not be asked for any more."""
        with self._ahead_lock:
            ours = self._ahead.get(name, ())
            # The stamp may have been set right since it came in: the content is what tells.
            same = (i for i, (other, _) in enumerate(ours) if _content(other) is _content(image))
            if (found := next(same, None)) is None:
                self._ahead[name] = tuple(entry for entry in ours if entry[0].stamp_ns > image.stamp_ns)
                return None
            self._ahead[name] = ours[found + 1 :]
            return ours[found][1]

    def __call__(
        self, snapshot: Snapshot, pictures: Callable[[], tuple[Made, Counter[str]]] | None = None
    ) -> NetworkInputs:
        """All inputs of one frame; what cannot be used is dropped and counted, never raised.

        Args:
            snapshot: The frame.
            pictures: Gives what `pictures` of the same frame gave, where another thread has begun with that.
        """
        drops: Counter[str] = Counter()
        motion = EgoMotion(snapshot)
        made: dict[Modality, Made] = {
            "lidar": self._lidar(snapshot, motion, drops),
            "radar": self._radar(snapshot, motion, drops),
            "imu": self._window("imu", snapshot),
            "gnss": self._window("gnss", snapshot),
        }
        made["camera"], corrupt = pictures() if pictures else self.pictures(snapshot)
        drops.update(corrupt)
        present = {m: entry for m in MODALITIES if (entry := made[m]) is not None}
        ages = [snapshot.age_s.get(m, 0.0) if m in present else 0.0 for m in MODALITIES]
        return NetworkInputs(
            feeds={m: entry[0] for m, entry in present.items()},
            mask=np.array([m in present for m in MODALITIES], dtype=np.float32),
            age_s=np.array(ages, dtype=np.float32),
            completeness=np.array([present[m][1] if m in present else 0.0 for m in MODALITIES], dtype=np.float32),
            drops=drops,
        )

    def _lidar(self, snapshot: Snapshot, motion: EgoMotion, drops: Counter[str]) -> Made:
        spec = self.spec.lidar
        sweeps: list[tuple[Float32Array, SE3, float]] = []
        for name, ours in self._mounted(snapshot.lidar, "lidar", drops):
            for sweep in spaced(ours, spec.sweeps, spec.spacing_s):
                now_SE3_then = motion.now_SE3_then(sweep.stamp_ns)
                if now_SE3_then is None:
                    drops["lidar: sweep without ego motion"] += 1
                    continue
                age_s = (snapshot.stamp_ns - sweep.stamp_ns) * 1e-9
                sweeps.append((sweep.points, now_SE3_then @ self.rig[name].base_SE3_sensor, age_s))
        if not sweeps:
            return None
        pillars, index_map = lidar_pillars(lidar_cloud(sweeps, spec.min_range_m), self.spec.grid, spec)
        lidars = max(len(snapshot.lidar), 1)
        return {"pillars": pillars, "index_map": index_map}, len(sweeps) / (lidars * spec.sweeps)

    def _radar(self, snapshot: Snapshot, motion: EgoMotion, drops: Counter[str]) -> Made:
        spec = self.spec.radar
        sweeps: list[tuple[AnyArray, SE3, float]] = []
        for name, ours in self._mounted(snapshot.radars, "radar", drops):
            for sweep in ours[: spec.sweeps]:
                now_SE3_then = motion.now_SE3_then(sweep.stamp_ns)
                if now_SE3_then is None:
                    drops["radar: sweep without ego motion"] += 1
                    continue
                age_s = (snapshot.stamp_ns - sweep.stamp_ns) * 1e-9
                sweeps.append((sweep.points, now_SE3_then @ self.rig[name].base_SE3_sensor, age_s))
        if not sweeps:
            return None
        pillars, index_map = radar_pillars(radar_cloud(sweeps), self.spec.grid, spec)
        radars = max(len(self.rig.of("radar")), 1)
        return {"pillars": pillars, "index_map": index_map}, min(len(sweeps) / (radars * spec.sweeps), 1.0)

    def pictures(self, snapshot: Snapshot) -> tuple[Made, Counter[str]]:
        """Inputs of the camera encoder alone, and what was dropped by reason.

        The inputs are the very same object as in the last frame while no camera has a new image. Frames one after
        the other, from one thread at a time.
        """
        spec, drops = self.spec.camera, Counter[str]()
        shown = {
            slot: snapshot.cameras[name]
            for slot, name in enumerate(spec.cameras)
            if name in snapshot.cameras and self._calibrated(name)
        }
        before = self._pictures
        new = [slot for slot, image in shown.items() if slot not in before or before[slot][0] is not image]
        fresh = dict(zip(new, self._loaded({spec.cameras[slot]: shown[slot] for slot in new}), strict=True))
        self._pictures = {slot: fresh.get(slot) or before[slot] for slot in shown}
        for slot, (_, pixels) in self._pictures.items():
            if pixels is None:
                drops[f"camera: corrupt image {spec.cameras[slot]}"] += 1
        if new or self._pictures.keys() != before.keys():
            self._camera_inputs = self._stacked()
        return self._camera_inputs, drops

    def _loaded(self, images: Mapping[str, CameraImage]) -> list[tuple[CameraImage, UInt8Array | None]]:
        """Pictures by camera, each with its pixels at network size; None where it is damaged."""
        if self._pool is None:
            return [(image, self._load(image)) for image in images.values()]
        begun = [self._taken(name, image) or self._pool.submit(self._load, image) for name, image in images.items()]
        return [(image, pixels.result()) for image, pixels in zip(images.values(), begun, strict=True)]

    def _load(self, image: CameraImage) -> UInt8Array | None:
        try:
            return load_image(image, self.spec.camera)
        except DataError:
            return None

    def _stacked(self) -> Made:
        spec = self.spec.camera
        images = np.zeros((len(spec.cameras), spec.height_px, spec.width_px, 3), dtype=np.uint8)
        present = np.zeros(len(spec.cameras), dtype=np.float32)
        for slot, (_, pixels) in self._pictures.items():
            if pixels is not None:
                images[slot] = pixels
                present[slot] = 1.0
        if not present.any():
            return None
        if self._lookup is None:
            self._lookup = voxel_lookup(self.spec, self.rig)
        voxel_pixel, voxel_depth = self._lookup
        feeds: dict[str, AnyArray] = {
            "images": images,
            "present": present,
            "voxel_pixel": voxel_pixel,
            "voxel_depth": voxel_depth,
        }
        return feeds, float(present.mean())

    def _mounted(
        self, found: Mapping[str, Swept], modality: Modality, drops: Counter[str]
    ) -> Iterator[tuple[str, Swept]]:
        """The sensors that the rig knows by now: a transform may have changed since they were heard."""
        for name, sweeps in found.items():
            if name in self.rig.sensors:
                yield name, sweeps
            else:
                drops[f"{modality}: {name} not in the rig"] += 1

    def _calibrated(self, name: str) -> bool:
        sensor = self.rig.sensors.get(name)
        return sensor is not None and sensor.camera is not None

    def _window(self, modality: Modality, snapshot: Snapshot) -> Made:
        if modality == "imu":
            window, share = imu_window(snapshot.imu, snapshot.stamp_ns, self.spec.imu)
        else:
            window, share = gnss_window(snapshot.gnss, snapshot.stamp_ns, self.spec.gnss)
        return ({"window": window}, share) if share > 0 else None


def _content(image: CameraImage) -> bytes | UInt8Array | None:
    return image.pixels if image.jpeg is None else image.jpeg
