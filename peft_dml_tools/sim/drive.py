# SPDX-License-Identifier: Apache-2.0
"""A synthetic drive: every sensor's measurements in stamp order, and the truth."""

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, Measurement
from peft_dml_ros.core.rig import CameraModel, Rig
from peft_dml_ros.core.typing import IntArray, UInt8Array
from peft_dml_tools.sim import camera, lidar, motion, radar
from peft_dml_tools.sim.map_mask import drivable_mask, map_offset_m
from peft_dml_tools.sim.raycast import Caster
from peft_dml_tools.sim.schedule import DriveSpec, Event, schedule, start_ns
from peft_dml_tools.sim.vehicle_rig import VEHICLES, make_rig
from peft_dml_tools.sim.weather import apply, weather_rng
from peft_dml_tools.sim.weather.weather import camera_in_weather
from peft_dml_tools.sim.workers import in_processes
from peft_dml_tools.sim.world import World

__all__ = ["Drive", "DriveSpec"]

CHUNK: Final = 48  #: Events that a worker process renders at a time
KEYFRAME_NS: Final = 500_000_000


class Rendered(NamedTuple):
    """What one event gives."""

    measurement: Measurement  #: What the sensor reports
    hits: IntArray | None = None  #: (A,) number of returns from each actor; `None` for sensors that have none
    #: Depth image of a camera, as `camera.encode_depth` writes it; `None` where none is asked for
    depth_png: bytes | None = None


class Drive:
    """A `Source` of simulated measurements; the same for a seed, whatever the number of workers."""

    def __init__(
        self, seed: int, duration_s: float, spec: DriveSpec | None = None, *, workers: int = 1, name: str = ""
    ) -> None:
        self.seed, self.duration_s, self.spec = seed, duration_s, spec or DriveSpec()
        self.name = name or f"sim-{seed}"
        self.workers = workers
        sizes = self.spec
        vehicle = sizes.domain.vehicle
        self.rig: Rig = make_rig(sizes.image_width_px, sizes.lidar_height_m, sizes.focal_scale, vehicle)
        self.events: tuple[Event, ...] = schedule(self.rig, self.spec, seed, duration_s)
        self._counts: dict[tuple[str, int], IntArray] = {}
        self._depths: dict[tuple[str, int], bytes] = {}

    @cached_property
    def world(self) -> World:
        """The street."""
        return World.make(self.seed, self.duration_s, self.spec.domain)

    @cached_property
    def caster(self) -> Caster:
        """The street, ready for rays."""
        return Caster(self.world)

    @cached_property
    def renderer(self) -> camera.Renderer:
        """The street, ready for pictures."""
        return camera.Renderer(self.caster)

    @property
    def location(self) -> str:
        """The nuScenes map whose corner the satellite fixes refer to: left-hand traffic is in Singapore."""
        return motion.map_of(self.seed, self.world.road.hand)

    @cached_property
    def odometry(self) -> motion.Odometry:
        """The wheel odometry, with its errors."""
        return motion.Odometry(self.world)

    def time_s(self, stamp_ns: int) -> float:
        """Return the world time of a stamp."""
        return (stamp_ns - start_ns(self.seed)) * 1e-9

    @cached_property
    def global_SE3_world(self) -> SE3:
        """Shifts the world into the map's frame, where all positions are positive."""
        return SE3(np.eye(3), np.array([*map_offset_m(self.world.road), 0.0]))

    def global_SE3_base(self, stamp_ns: int) -> SE3:
        """Return the true pose of `base_link` in the map frame."""
        return self.global_SE3_world @ self.world.world_SE3_base(self.time_s(stamp_ns))

    @property
    def map_mask(self) -> UInt8Array:
        """(H, W) uint8 at 0.1 m a pixel, 255 where the map is drivable; its lower left corner is the map's origin."""
        return drivable_mask(self.world.road)

    def measurements(self) -> Iterator[tuple[str, Measurement]]:
        """Return pairs of sensor name and measurement in stamp order, rendered as they are asked for."""
        for event, rendered in zip(self.events, self._rendered(self.events), strict=True):
            if rendered.depth_png is not None:
                self._depths[event.sensor, event.stamp_ns] = rendered.depth_png
            yield event.sensor, rendered.measurement
            self._depths.pop((event.sensor, event.stamp_ns), None)

    def depth_png(self, sensor: str, stamp_ns: int) -> bytes | None:
        """Return the depth image of the picture that `measurements` gave last; `None` without one."""
        return self._depths.get((sensor, stamp_ns))

    def _rendered(self, events: Sequence[Event]) -> Iterator[Rendered]:
        chunks = [events[i : i + CHUNK] for i in range(0, len(events), CHUNK)]
        if self.workers <= 1:
            yield from self._remember(chunks, (render_events(self, chunk) for chunk in chunks))
            return
        build = (self.seed, self.duration_s, self.spec)
        rendered = in_processes(
            _work, chunks, self.workers, ahead=3 * self.workers, start=_start_worker, start_with=build
        )
        yield from self._remember(chunks, rendered)

    def _remember(self, chunks: Sequence[Sequence[Event]], rendered: Iterator[list[Rendered]]) -> Iterator[Rendered]:
        for chunk, results in zip(chunks, rendered, strict=True):
            for event, result in zip(chunk, results, strict=True):
                if result.hits is not None:
                    self._counts[event.sensor, event.stamp_ns] = result.hits
                yield result

    @property
    def keyframes_ns(self) -> tuple[int, ...]:
        """Stamps of the LiDAR turns that are annotated, every half second, the first with half a second before it."""
        begin = start_ns(self.seed)
        stamps = np.array([e.stamp_ns for e in self.events if e.sensor == "LIDAR_TOP"], dtype=np.int64)
        wanted = np.arange(begin + KEYFRAME_NS, begin + round(self.duration_s * 1e9) + 1, KEYFRAME_NS)
        return tuple(sorted({int(stamps[np.argmin(np.abs(stamps - w))]) for w in wanted}))

    def truth_at(self, stamp_ns: int) -> Boxes3D:
        """Return all objects in `base_link` at any stamp, seen or not."""
        return self.world.boxes(self.time_s(stamp_ns))

    def category_of(self, object_id: str) -> str:
        """Return the category of an object, as nuScenes names it."""
        return next(a.category for a in self.world.actors if a.name == object_id)

    @cached_property
    def truth(self) -> dict[int, Boxes3D]:
        """By LiDAR stamp: objects that a LiDAR or radar return came from.

        Renders these two sensors where that was not done yet.
        """
        points = [e for e in self.events if e.sensor.startswith(("LIDAR", "RADAR"))]
        missing = [e for e in points if (e.sensor, e.stamp_ns) not in self._counts]
        deque(self._rendered(missing), maxlen=0)
        radar_stamps = {
            sensor.name: np.array([e.stamp_ns for e in self.events if e.sensor == sensor.name], dtype=np.int64)
            for sensor in self.rig.of("radar")
        }
        out = {}
        for stamp in (e.stamp_ns for e in self.events if e.sensor == "LIDAR_TOP"):
            hits = self._counts["LIDAR_TOP", stamp].copy()
            for name, stamps in radar_stamps.items():
                if len(stamps):
                    hits += self._counts[name, int(stamps[np.argmin(np.abs(stamps - stamp))])]
            out[stamp] = self.world.boxes(self.time_s(stamp), hits > 0)
        return out


def render_event(drive: Drive, event: Event) -> Rendered:
    """Make one measurement in the drive's weather; hits are counted in clear air: truth does not depend on it."""
    sensor = drive.rig[event.sensor]
    if sensor.camera is not None:
        return _picture(drive, event, sensor.camera)
    measurement, hits = _in_clear_air(drive, event)
    rng = weather_rng(drive.seed, event.sensor, event.stamp_ns)
    return Rendered(apply(measurement, sensor, drive.spec.weather, rng), hits)


def _picture(drive: Drive, event: Event, model: CameraModel) -> Rendered:
    """Return one camera's picture; its weather knows how far everything really is."""
    sensor = drive.rig[event.sensor]
    taken = drive.renderer.picture(
        sensor.base_SE3_sensor, model, drive.time_s(event.stamp_ns), _event_rng(drive, event)
    )
    image = CameraImage(event.stamp_ns, pixels=taken.pixels)
    rng = weather_rng(drive.seed, event.sensor, event.stamp_ns)
    image = camera_in_weather(image, sensor, drive.spec.weather, rng, taken.range_m)
    pixels = taken.pixels if image.pixels is None else image.pixels
    stride = drive.spec.depth_stride_px
    depth = camera.encode_depth(taken.range_m, model, stride) if stride else None
    return Rendered(CameraImage(event.stamp_ns, jpeg=camera.encode_jpeg(pixels, drive.spec.jpeg_quality)), None, depth)


def _event_rng(drive: Drive, event: Event) -> np.random.Generator:
    return np.random.default_rng([drive.seed, zlib.crc32(event.sensor.encode()), event.number])


def _in_clear_air(drive: Drive, event: Event) -> tuple[Measurement, IntArray | None]:
    """Return one measurement without weather, and its returns from each actor."""
    rng = _event_rng(drive, event)
    time_s, stamp, sensor = drive.time_s(event.stamp_ns), event.stamp_ns, drive.rig[event.sensor]
    if sensor.modality == "lidar":
        return lidar.scan(
            drive.caster,
            sensor.base_SE3_sensor,
            time_s,
            stamp,
            rng,
            compensated=drive.spec.lidar_compensated,
            model=lidar.MODELS[drive.spec.domain.lidar],
            keep_every=drive.spec.lidar_keep_every,
            roof_m=VEHICLES[drive.spec.domain.vehicle].roof_m,
        )
    if sensor.modality == "radar":
        return radar.measure(drive.caster, sensor.base_SE3_sensor, time_s, stamp, rng)
    if sensor.modality == "imu":
        return motion.imu_sample(drive.world, time_s, stamp, rng), None
    if sensor.modality == "gnss":
        return motion.gnss_fix(drive.world, drive.global_SE3_world, drive.location, time_s, stamp, rng), None
    return drive.odometry.sample(time_s, stamp), None


def render_events(drive: Drive, events: Sequence[Event]) -> list[Rendered]:
    """Make some measurements."""
    return [render_event(drive, event) for event in events]


_WORKER: dict[str, Drive] = {}


def _start_worker(seed: int, duration_s: float, spec: DriveSpec) -> None:
    _WORKER["drive"] = Drive(seed, duration_s, spec)


def _work(events: Sequence[Event]) -> list[Rendered]:
    return render_events(_WORKER["drive"], events)
