# SPDX-License-Identifier: Apache-2.0
"""Fog, rain or snow on any measurement: one scalar sets the weather for all sensors alike."""

import zlib
from dataclasses import replace
from typing import Final, TypeVar, cast

import numpy as np
from pydantic import Field, ValidationError, model_validator

from peft_dml_ros.core.errors import ConfigError, nearest, one_line
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import Frozen
from peft_dml_ros.core.typing import Float32Array, FloatArray, UInt8Array
from peft_dml_tools.sim.weather import camera, depth, fog, precipitation, radar_attenuation
from peft_dml_tools.sim.weather.images import edit

KINDS: Final = {"fog": "fog_visibility_m", "rain": "rain_mmph", "snow": "snow_mmph"}
CLEAR: Final = "clear"
_Sensed = TypeVar("_Sensed", LidarSweep, RadarSweep, CameraImage)


class Weather(Frozen):
    """Fog by its visibility, or rain or snow by its rate; none of them is clear air."""

    fog_visibility_m: float | None = Field(None, ge=5, le=20_000, description="Meteorological optical range in m")
    rain_mmph: float | None = Field(None, gt=0, le=200, description="Rain rate in mm/h")
    snow_mmph: float | None = Field(None, gt=0, le=50, description="Snow rate as melted water in mm/h")

    @model_validator(mode="after")
    def _one_kind(self) -> "Weather":
        given = [name for name in KINDS.values() if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"one scalar sets the weather, got {' and '.join(given)}; choose one")
        return self

    @classmethod
    def parse(cls, text: str) -> "Weather":
        """Return the weather that a text names: `fog=50` (visibility in m), `rain=25`, `snow=5` (mm/h) or `clear`.

        Raises ConfigError: another kind, no number, or a number outside its range.
        """
        if text.strip() == CLEAR:
            return cls()
        kind, _, value = text.partition("=")
        if kind.strip() not in KINDS:
            msg = f"weather '{text}': {nearest(kind.strip(), [*KINDS, CLEAR])}; write it as fog=50, rain=25 or snow=5"
            raise ConfigError(msg)
        try:
            return cls.model_validate({KINDS[kind.strip()]: float(value)})
        except ValueError as error:  # pydantic's are such too
            why = one_line(error) if isinstance(error, ValidationError) else f"'{value}' is no number"
            raise ConfigError(f"weather '{text}': {why}; fix: fog=50 (m), rain=25 or snow=5 (mm/h)") from error

    def __str__(self) -> str:
        """Return what `parse` reads back."""
        texts = [f"{kind}={getattr(self, name):g}" for kind, name in KINDS.items() if getattr(self, name) is not None]
        return texts[0] if texts else CLEAR

    @property
    def is_clear(self) -> bool:
        """Whether there is nothing in the air."""
        return self.alpha_per_m == 0.0

    @property
    def particles(self) -> precipitation.Particles | None:
        """Drops or flakes; `None` for fog and clear air."""
        if self.rain_mmph is not None:
            return precipitation.rain(self.rain_mmph)
        return None if self.snow_mmph is None else precipitation.snow(self.snow_mmph)

    @property
    def alpha_per_m(self) -> float:
        """Extinction of light, the same for LiDAR and cameras; 0 for clear air."""
        if self.fog_visibility_m is not None:
            return fog.extinction_per_m(self.fog_visibility_m)
        return 0.0 if self.particles is None else self.particles.alpha_per_m

    @property
    def visibility_m(self) -> float:
        """Meteorological optical range, ln 20 / α; infinite in clear air."""
        return float(np.log(20.0)) / self.alpha_per_m if self.alpha_per_m > 0 else float("inf")


def weather_rng(seed: int, sensor: str, stamp_ns: int) -> np.random.Generator:
    """Return a generator whose numbers depend on seed, sensor and stamp alone: replays and workers agree."""
    return np.random.default_rng([seed, zlib.crc32(sensor.encode()), stamp_ns])


def apply(
    measurement: Measurement,
    sensor: Sensor,
    weather: Weather,
    rng: np.random.Generator,
    *,
    base_points: FloatArray | None = None,
) -> Measurement:
    """Return a measurement as it would have been in a weather; motion sensors do not notice any.

    Raises DataError: the bytes of an image are none.

    Args:
        measurement: In clear air.
        sensor: What made it.
        weather: Which.
        rng: From `weather_rng`.
        base_points: (N, 3) LiDAR points in base_link and clear air, for the depth of pictures; without them a flat
            ground and a far sky are assumed.
    """
    if weather.is_clear:
        return measurement
    particles = weather.particles
    if isinstance(measurement, LidarSweep):
        if particles is None:
            return replace(measurement, points=fog.fog(measurement.points, weather.alpha_per_m, rng))
        return replace(measurement, points=precipitation.precipitate(measurement.points, particles, rng))
    if isinstance(measurement, RadarSweep) and particles is not None:
        rain, snow = weather.rain_mmph or 0.0, weather.snow_mmph or 0.0
        seen = radar_attenuation.attenuate(measurement.points, rng, rain_mmph=rain, snow_mmph=snow)
        return replace(measurement, points=seen)
    if isinstance(measurement, CameraImage):
        return camera_in_weather(measurement, sensor, weather, rng, depth.depth_of(sensor, base_points))
    return measurement


def camera_in_weather(
    image: CameraImage, sensor: Sensor, weather: Weather, rng: np.random.Generator, depth_m: Float32Array | None
) -> CameraImage:
    """Return a picture in a weather.

    Args:
        image: In clear air.
        sensor: The camera; its focal length sizes the drops.
        weather: Which.
        rng: Drops.
        depth_m: (h, w) range of each part of the picture in m; a camera without it is taken to look at 50 m.
    """
    if weather.is_clear:
        return image
    model = sensor.camera

    def change(pixels: UInt8Array) -> UInt8Array:
        light = camera.air_light(pixels)
        far = np.full((1, 1), 50.0, np.float32) if depth_m is None else depth_m
        veiled = camera.koschmieder(pixels, far, weather.alpha_per_m, light)
        if weather.particles is None:
            return veiled
        height, width = pixels.shape[:2]
        focal_px = width * (0.8 if model is None else float(model.intrinsics[0, 0]) / model.width_px)
        fall = camera.RAIN if weather.rain_mmph is not None else camera.SNOW
        opacity = camera.falling((height, width), focal_px, weather.particles, fall, rng)
        return camera.blend(veiled, opacity, np.minimum(light * np.float32(fall.tone), np.float32(255)))

    return edit(image, change)


def apply_to_snapshot(snapshot: Snapshot, rig: Rig, weather: Weather, seed: int = 0) -> Snapshot:
    """Return a whole frame in a weather; pictures take their depth from its newest LiDAR sweep, if it has one."""
    if weather.is_clear:
        return snapshot
    clouds = [
        rig[name].base_SE3_sensor.transform(sweeps[0].points[:, :3].astype(np.float64))
        for name, sweeps in snapshot.lidar.items()
        if sweeps and name in rig.sensors
    ]
    base_points = np.concatenate(clouds) if clouds else None

    def seen(name: str, measurement: _Sensed) -> _Sensed:
        rng = weather_rng(seed, name, measurement.stamp_ns)
        sensor = rig.sensors.get(name) or Sensor(name, None, SE3.identity())
        return cast("_Sensed", apply(measurement, sensor, weather, rng, base_points=base_points))

    return replace(
        snapshot,
        lidar={name: tuple(seen(name, sweep) for sweep in sweeps) for name, sweeps in snapshot.lidar.items()},
        radars={name: tuple(seen(name, sweep) for sweep in sweeps) for name, sweeps in snapshot.radars.items()},
        cameras={name: seen(name, image) for name, image in snapshot.cameras.items()},
    )
