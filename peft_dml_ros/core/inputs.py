# SPDX-License-Identifier: Apache-2.0
"""Snapshot to network inputs: the only such path, for training and for the vehicle alike."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from threading import Lock
from typing import Final, TypeAlias, TypeVar

import numpy as np

from peft_dml_ros.core.camera_view import load_image, voxel_lookup
from peft_dml_ros.core.classes import MODALITIES, Modality
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, RadarSweep
from peft_dml_ros.core.motion import EgoMotion, gnss_window, imu_window
from peft_dml_ros.core.pillars import Ranges, lidar_cloud, lidar_pillars, radar_cloud, radar_pillars, recent
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, Float32Array, Int32Array, UInt8Array

Swept = TypeVar("Swept", LidarSweep, RadarSweep)
Picture: TypeAlias = UInt8Array | str  #: Pixels at network size, or why an image is dropped

#: Pictures of a camera that are decoded before a frame asks for them: cameras may be a little faster than frames. More
#: would be wasted on a machine that cannot keep up.
AHEAD: Final = 2
#: Deviation of grey levels of a picture at network size below which it is the same everywhere. The intake asks for more
#: (`health.min_image_contrast`), but looks at a camera's pictures only now and then.
LEAST_CONTRAST: Final = 1.0
RADAR_OLDEST_S: Final = 1.0  #: Radar sweeps older than this behind the newest are left out


@dataclass(frozen=True, slots=True)
class EncoderInputs:
    """Inputs of one encoder for one frame."""

    feeds: dict[str, AnyArray]  #: Arrays by name (`graph_inputs`); none when the encoder need not run for this frame
    completeness: float  #: Share of what a full modality delivers (sweeps, cameras, samples)
    age_s: float  #: Mean age of the newest measurements
    sources: frozenset[str]  #: Sensors that are shown
    version: int  #: The same number of one modality means the same arrays


@dataclass(frozen=True, slots=True)
class NetworkInputs:
    """Arrays for the graphs."""

    #: Per present modality, the inputs of its encoder (`graph_inputs`); an absent modality has no entry
    feeds: dict[Modality, dict[str, AnyArray]]
    mask: Float32Array  #: (5,) float32, 1 where a modality is present, in `MODALITIES` order
    age_s: Float32Array  #: (5,) float32 mean age of the newest measurements, 0 where absent
    #: (5,) float32 share of what a full modality delivers (sweeps, cameras, samples), 0 where absent
    completeness: Float32Array
    drops: Counter[str] = field(default_factory=Counter)  #: How many measurements were dropped here, by reason
    #: Number of each modality's arrays: the same number means the same arrays, which need not be encoded twice. A
    #: modality without a number has arrays of its own in every frame.
    versions: dict[Modality, int] = field(default_factory=dict)

    @classmethod
    def of(cls, made: Mapping[Modality, EncoderInputs], drops: Counter[str]) -> "NetworkInputs":
        """Put the inputs of single encoders together."""
        rows = [(m in made, made[m].age_s, made[m].completeness) if m in made else (0.0, 0.0, 0.0) for m in MODALITIES]
        mask, age_s, completeness = np.array(rows, dtype=np.float32).T.copy()
        feeds = {m: made[m].feeds for m in MODALITIES if m in made and made[m].feeds}
        return cls(feeds, mask, age_s, completeness, drops, {m: made[m].version for m in feeds})


class InputAssembler:
    """Makes network inputs; keeps between frames what depends on calibration alone, and pictures that stay the same.

    Args:
        spec: Model facts.
        rig: Sensors with their mounting and calibration.
        threads: Image decoders that work in parallel; with one alone nothing is decoded ahead.
        trained: Ranges of inputs in training, to which the intensity of other LiDARs is scaled; None leaves it alone.
    """

    def __init__(self, spec: ModelSpec, rig: Rig, threads: int = 1, trained: Ranges | None = None) -> None:
        self.spec, self.rig, self._trained = spec, rig, trained
        self._lookup: tuple[Int32Array, Int32Array] | None = None
        self._pictures: dict[int, tuple[CameraImage, Picture]] = {}
        self._camera_feeds: tuple[dict[str, AnyArray], float] | None = None
        self._camera_version, self._numbers = 0, count(1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode") if threads > 1 else None
        self._ahead: dict[str, tuple[tuple[CameraImage, Future[Picture]], ...]] = {}
        self._ahead_lock = Lock()

    def prepare(self, name: str, image: CameraImage) -> None:
        """Start to decode a picture that a frame will probably ask for; return at once. Safe from any thread."""
        if self._pool is None or name not in self.spec.camera.cameras or not self._calibrated(name):
            return
        with self._ahead_lock:
            waiting = self._ahead.get(name, ())
            if len(waiting) < AHEAD:
                self._ahead[name] = (*waiting, (image, self._pool.submit(self._load, name, image)))

    def _taken(self, name: str, image: CameraImage) -> Future[Picture] | None:
        """Return the decoding of a picture that was started ahead; forget those before it, which no frame asks for."""
        with self._ahead_lock:
            waiting = self._ahead.get(name, ())
            # The stamp may have been corrected since it came in: the content is what tells.
            same = (i for i, (other, _) in enumerate(waiting) if _content(other) is _content(image))
            if (found := next(same, None)) is None:
                self._ahead[name] = tuple(entry for entry in waiting if entry[0].stamp_ns > image.stamp_ns)
                return None
            self._ahead[name] = waiting[found + 1 :]
            return waiting[found][1]

    def __call__(self, snapshot: Snapshot) -> NetworkInputs:
        """Make all inputs of one frame; what cannot be used is dropped and counted, never raised."""
        made, drops = self.without_cameras(snapshot, EgoMotion(snapshot))
        cameras, corrupt = self.cameras(snapshot)
        if cameras is not None:
            made["camera"] = cameras
        return NetworkInputs.of(made, drops + corrupt)

    def without_cameras(
        self, snapshot: Snapshot, motion: EgoMotion, *, skip: Iterable[Modality] = (), sweeps: int = 0
    ) -> tuple[dict[Modality, EncoderInputs], Counter[str]]:
        """Return the inputs of all present modalities but the cameras, and what was dropped by reason.

        Args:
            snapshot: The frame.
            motion: Its ego motion.
            skip: Modalities that are not wanted.
            sweeps: Most sweeps of each LiDAR; 0 takes as many as the model accumulates.
        """
        drops: Counter[str] = Counter()
        made: dict[Modality, EncoderInputs | None] = {}
        if "lidar" not in skip:
            made["lidar"] = self._lidar(snapshot, motion, drops, sweeps or self.spec.lidar.sweeps)
        if "radar" not in skip:
            made["radar"] = self._radar(snapshot, motion, drops)
        made["imu"] = self._window("imu", snapshot, *imu_window(snapshot.imu, snapshot.stamp_ns, self.spec.imu))
        made["gnss"] = self._window("gnss", snapshot, *gnss_window(snapshot.gnss, snapshot.stamp_ns, self.spec.gnss))
        return {m: inputs for m, inputs in made.items() if inputs is not None}, drops

    def sources(self, snapshot: Snapshot, modality: Modality) -> frozenset[str]:
        """Return the sensors of a modality that the inputs of a frame would show."""
        if modality == "camera":
            return frozenset(n for n in self.spec.camera.cameras if n in snapshot.cameras and self._calibrated(n))
        found = snapshot.lidar if modality == "lidar" else snapshot.radars if modality == "radar" else {}
        return frozenset(found) & self.rig.sensors.keys()

    def _inputs(
        self, modality: Modality, snapshot: Snapshot, feeds: dict[str, AnyArray], completeness: float, version: int = 0
    ) -> EncoderInputs:
        age_s, sources = snapshot.age_s.get(modality, 0.0), self.sources(snapshot, modality)
        return EncoderInputs(feeds, completeness, age_s, sources, version or next(self._numbers))

    def _lidar(self, snapshot: Snapshot, motion: EgoMotion, drops: Counter[str], most: int) -> EncoderInputs | None:
        spec = self.spec.lidar
        picked = {name: recent(s, most, spec.spacing_s) for name, s in self._mounted(snapshot.lidar, "lidar", drops)}
        sweeps = self._placed(picked, "lidar", snapshot, motion, drops)
        if not sweeps:
            return None
        pillars, index_map = lidar_pillars(lidar_cloud(sweeps, spec.min_range_m, self._trained), self.spec.grid, spec)
        share = len(sweeps) / (max(len(snapshot.lidar), 1) * spec.sweeps)
        return self._inputs("lidar", snapshot, {"pillars": pillars, "index_map": index_map}, share)

    def _radar(self, snapshot: Snapshot, motion: EgoMotion, drops: Counter[str]) -> EncoderInputs | None:
        spec = self.spec.radar
        mounted = self._mounted(snapshot.radars, "radar", drops)
        picked = {name: recent(s, spec.sweeps, oldest_s=RADAR_OLDEST_S) for name, s in mounted}
        sweeps = self._placed(picked, "radar", snapshot, motion, drops)
        if not sweeps:
            return None
        pillars, index_map = radar_pillars(radar_cloud(sweeps), self.spec.grid, spec)
        share = min(len(sweeps) / (max(len(self.rig.of("radar")), 1) * spec.sweeps), 1.0)
        return self._inputs("radar", snapshot, {"pillars": pillars, "index_map": index_map}, share)

    def _placed(
        self,
        picked: Mapping[str, list[Swept]],
        modality: Modality,
        snapshot: Snapshot,
        motion: EgoMotion,
        drops: Counter[str],
    ) -> list[tuple[AnyArray, SE3, float]]:
        """Return points, `now_SE3_sensor` and age of each sweep; those whose ego motion is unknown are dropped."""
        placed = []
        for name, sweeps in picked.items():
            for sweep in sweeps:
                now_SE3_then = motion.now_SE3_then(sweep.stamp_ns)
                if now_SE3_then is None:
                    drops[f"{modality}: sweep without ego motion"] += 1
                    continue
                age_s = (snapshot.stamp_ns - sweep.stamp_ns) * 1e-9
                placed.append((sweep.points, now_SE3_then @ self.rig.sensors[name].base_SE3_sensor, age_s))
        return placed

    def cameras(self, snapshot: Snapshot) -> tuple[EncoderInputs | None, Counter[str]]:
        """Make the inputs of the camera encoder, and count what was dropped by reason.

        Arrays and version stay those of the last frame while no camera has a new image: the same object is the same
        image. Frames one after the other, from one thread at a time.
        """
        spec, drops = self.spec.camera, Counter[str]()
        sources = self.sources(snapshot, "camera")
        shown = {slot: snapshot.cameras[name] for slot, name in enumerate(spec.cameras) if name in sources}
        before = self._pictures
        new = [slot for slot, image in shown.items() if slot not in before or before[slot][0] is not image]
        fresh = dict(zip(new, self._loaded({spec.cameras[slot]: shown[slot] for slot in new}), strict=True))
        self._pictures = {slot: fresh.get(slot) or before[slot] for slot in shown}
        for _, picture in self._pictures.values():
            if isinstance(picture, str):
                drops[picture] += 1
        if new or self._pictures.keys() != before.keys():
            self._camera_feeds = self._stacked()
            self._camera_version = next(self._numbers)
        if self._camera_feeds is None:
            return None, drops
        return self._inputs("camera", snapshot, *self._camera_feeds, self._camera_version), drops

    def _loaded(self, images: Mapping[str, CameraImage]) -> list[tuple[CameraImage, Picture]]:
        """Return the cameras' images, each with what `_load` makes of it."""
        if self._pool is None:
            return [(image, self._load(name, image)) for name, image in images.items()]
        started = [
            self._taken(name, image) or self._pool.submit(self._load, name, image) for name, image in images.items()
        ]
        return [(image, pixels.result()) for image, pixels in zip(images.values(), started, strict=True)]

    def _load(self, name: str, image: CameraImage) -> Picture:
        """Return an image's pixels at network size; where it shows nothing, why: the network never sees such a one."""
        try:
            pixels = load_image(image, self.spec.camera, self.rig[name].camera)
        except DataError:
            return f"camera: corrupt image {name}"
        if float(pixels[::4, ::4].mean(axis=2).std()) < LEAST_CONTRAST:
            return f"camera: blank image {name}"
        return pixels

    def _stacked(self) -> tuple[dict[str, AnyArray], float] | None:
        spec = self.spec.camera
        images = np.zeros((len(spec.cameras), spec.height_px, spec.width_px, 3), dtype=np.uint8)
        present = np.zeros(len(spec.cameras), dtype=np.float32)
        for slot, (_, picture) in self._pictures.items():
            if not isinstance(picture, str):
                images[slot] = picture
                present[slot] = 1.0
        if not present.any():
            return None
        if self._lookup is None:
            self._lookup = voxel_lookup(self.spec, self.rig)
        voxel_pixel, voxel_depth = self._lookup
        feeds: dict[str, AnyArray] = {"images": images, "present": present}
        return feeds | {"voxel_pixel": voxel_pixel, "voxel_depth": voxel_depth}, float(present.mean())

    def _mounted(
        self, found: Mapping[str, tuple[Swept, ...]], modality: Modality, drops: Counter[str]
    ) -> Iterator[tuple[str, tuple[Swept, ...]]]:
        """Yield the sensors that the rig knows by now: a transform may have changed since they were heard."""
        for name, sweeps in found.items():
            if name in self.rig.sensors:
                yield name, sweeps
            else:
                drops[f"{modality}: {name} not in the rig"] += 1

    def _calibrated(self, name: str) -> bool:
        sensor = self.rig.sensors.get(name)
        return sensor is not None and sensor.camera is not None

    def _window(
        self, modality: Modality, snapshot: Snapshot, window: Float32Array, share: float
    ) -> EncoderInputs | None:
        return self._inputs(modality, snapshot, {"window": window}, share) if share > 0 else None


def _content(image: CameraImage) -> bytes | UInt8Array | None:
    return image.pixels if image.jpeg is None else image.jpeg
