# SPDX-License-Identifier: Apache-2.0
"""What weather, corruptions and damaged bytes make of one measurement, whatever it travels in."""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.rig import Rig, Sensor, modality_of_channel
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import AnyArray, FloatArray
from peft_dml_tools.sim import weather
from peft_dml_tools.sim.corruptions import corrupt
from peft_dml_tools.sim.corruptions.camera import black
from peft_dml_tools.sim.faults import Fault
from peft_dml_tools.sim.weather.images import edit

#: Share of bytes that are wrong, at severities 1 and 2; at 3 the second half is missing
DAMAGED_SHARE: Final = (1e-3, 1e-2)


class FaultEffects:
    """Changes contents of a drive's measurements; remembers the clear LiDAR sweep that pictures take their depth from.

    Args:
        rig: Gives mountings and calibration, asked when first needed; sensors that it lacks are taken to sit at
            `base_link`.
    """

    def __init__(self, rig: Callable[[], Rig]) -> None:
        self._rig_of = rig
        self._sweeps: dict[str, LidarSweep] = {}
        self._clouds: dict[str, tuple[LidarSweep, FloatArray]] = {}
        self._before: dict[str, Measurement] = {}

    @cached_property
    def _rig(self) -> Rig:
        return self._rig_of()

    def observe(self, sensor: str, measurement: Measurement) -> None:
        """Take note of what a LiDAR measured in clear air."""
        if isinstance(measurement, LidarSweep) and sensor in self._rig.sensors:
            self._sweeps[sensor] = measurement

    def __call__(self, fault: Fault, sensor: str, measurement: Measurement) -> Measurement:
        """Return a measurement in weather, corrupt or blacked out. Raises DataError: an image's bytes are none."""
        if fault.fault == "weather":
            rng = weather.weather_rng(fault.seed, sensor, measurement.stamp_ns)
            points = self._base_points() if isinstance(measurement, CameraImage) else None
            kind = weather.Weather.parse(fault.weather)
            return weather.apply(measurement, self._sensor(sensor), kind, rng, base_points=points)
        if fault.fault == "blackout":
            return blackout(measurement)
        return self._corrupted(fault, sensor, measurement)

    def _sensor(self, name: str) -> Sensor:
        found = self._rig.sensors.get(name)
        return found or Sensor(name, modality_of_channel(name), SE3.identity())

    def _base_points(self) -> FloatArray | None:
        for name, sweep in self._sweeps.items():
            if self._clouds.get(name, (None,))[0] is not sweep:
                points = self._rig[name].base_SE3_sensor.transform(sweep.points[:, :3].astype(np.float64))
                self._clouds[name] = (sweep, points)
        return np.concatenate([points for _, points in self._clouds.values()]) if self._clouds else None

    def _corrupted(self, fault: Fault, sensor: str, measurement: Measurement) -> Measurement:
        frame = _frame(sensor, measurement)
        if frame is None:
            return measurement
        before = self._before.get(sensor)
        self._before[sensor] = measurement
        past = _frame(sensor, before) if before is not None else None
        rig = Rig({sensor: self._sensor(sensor)})
        changed = corrupt(frame, fault.corruption, fault.severity, rig, seed=fault.seed, previous=past)
        inside: Measurement = next(
            (sweeps[0] for group in (changed.lidar, changed.radars) for sweeps in group.values()), measurement
        )
        return changed.cameras.get(sensor, inside)


def blackout(measurement: Measurement) -> Measurement:
    """Return a black picture, or a cloud without points. Raises DataError: the bytes of an image are none."""
    if isinstance(measurement, CameraImage):
        return edit(measurement, black)
    if isinstance(measurement, LidarSweep | RadarSweep):
        return replace(measurement, points=measurement.points[:0])
    return measurement


def damaged_bytes(data: bytes, severity: int, rng: np.random.Generator, spare: int = 0) -> bytes:
    """Return bytes of which some are wrong, or whose second half is missing.

    Args:
        data: Sound ones.
        severity: 1 to 3.
        rng: Which bytes, and their values.
        spare: Bytes at the beginning that stay as they are.
    """
    if len(data) <= spare:
        return data
    if severity > len(DAMAGED_SHARE):
        return data[: max(spare, len(data) // 2)]
    count = max(1, round((len(data) - spare) * DAMAGED_SHARE[severity - 1]))
    out = np.frombuffer(data, np.uint8).copy()
    # A value from 1 to 255 on top changes each byte for certain.
    out[rng.integers(spare, len(data), count)] ^= rng.integers(1, 256, count).astype(np.uint8)
    return out.tobytes()


def damaged(measurement: Measurement, severity: int, rng: np.random.Generator) -> Measurement | None:
    """Return what is left of a measurement whose bytes are damaged; `None` when it cannot be decoded any more."""
    if isinstance(measurement, CameraImage) and measurement.jpeg is not None:
        return replace(measurement, jpeg=damaged_bytes(measurement.jpeg, severity, rng))
    if isinstance(measurement, LidarSweep | RadarSweep) and severity <= len(DAMAGED_SHARE):
        points = measurement.points
        wrong = np.frombuffer(damaged_bytes(points.tobytes(), severity, rng), points.dtype).reshape(points.shape)
        return replace(measurement, points=wrong[_finite(wrong)])
    return None


def _finite(points: AnyArray) -> AnyArray:
    columns = [points[name] for name in points.dtype.names] if points.dtype.names else list(points.T)
    finite: AnyArray = np.logical_and.reduce([np.isfinite(column) for column in columns])
    return finite


def _frame(sensor: str, measurement: Measurement) -> Snapshot | None:
    """Return a frame of one sensor; `None` for those that corruptions know nothing about."""
    stamp_ns = measurement.stamp_ns
    if isinstance(measurement, LidarSweep):
        return Snapshot(stamp_ns, sensor, lidar={sensor: (measurement,)})
    if isinstance(measurement, RadarSweep):
        return Snapshot(stamp_ns, sensor, radars={sensor: (measurement,)})
    if isinstance(measurement, CameraImage):
        return Snapshot(stamp_ns, sensor, cameras={sensor: measurement})
    return None
