# SPDX-License-Identifier: Apache-2.0
"""Check measurements for what cannot be right or what the network has not seen: units, scales, axes, calibration.

The node, `peft-dml run` and the doctor ask the same checks; each hint is given once, and has an id in troubleshooting.
"""

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from peft_dml_ros.core.cloud_checks import Hint, intensity_hint, place_hint
from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, Measurement, RadarSweep
from peft_dml_ros.core.pillars import TRAINED, Ranges
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.spec import ModelSpec

EVERY: Final = 50  #: LiDAR sweeps from one look to the next; the first is looked at
SAMPLES: Final = 100
G_MPS2: Final = 9.81
_ROWS_OFF: Final = 1 / 3  #: Principal point, in half images, beyond which it is implausible


class SensorChecks:
    """Looks at measurements as they come, and gives each hint once."""

    def __init__(self, spec: ModelSpec, trained: Ranges | None = None, base_frame: str = "base_link") -> None:
        self._spec, self._trained, self._base_frame = spec, {**TRAINED, **(trained or {})}, base_frame
        self._seen: Counter[str] = Counter()
        self._inertial: dict[str, deque[ImuSample]] = {}
        self.hints: dict[tuple[str, str], Hint] = {}

    def look(self, name: str, measurement: Measurement, sensor: Sensor) -> list[Hint]:
        """Return the hints that this measurement of a sensor gives for the first time."""
        self._seen[name] += 1
        return self._new(name, self._of(name, measurement, sensor))

    def survey(self, name: str, measurements: Sequence[Measurement], sensor: Sensor) -> list[Hint]:
        """Return the new hints of a sensor's newest measurements, oldest first; to be called now and then."""
        self._seen[name] = 1
        inertial = deque((m for m in measurements if isinstance(m, ImuSample)), maxlen=SAMPLES)
        if inertial:
            return self._new(name, inertial_hints(name, inertial) if len(inertial) == SAMPLES else [])
        return self._new(name, self._of(name, measurements[-1], sensor)) if measurements else []

    def _of(self, name: str, measurement: Measurement, sensor: Sensor) -> list[Hint | None]:
        found: list[Hint | None] = []
        if isinstance(measurement, LidarSweep):
            if self._seen[name] % EVERY == 1:
                found.append(intensity_hint(name, measurement, self._trained))
                found.append(place_hint(name, measurement, sensor.base_SE3_sensor, self._spec, self._base_frame))
        elif isinstance(measurement, ImuSample):
            found += self._of_inertial(name, measurement)
        elif isinstance(measurement, CameraImage):
            found += camera_hints(sensor) if self._seen[name] % EVERY == 1 else []
        elif isinstance(measurement, RadarSweep):
            found.append(_of_radar(name, measurement) if self._seen[name] % EVERY == 1 else None)
        elif isinstance(measurement, GnssFix):
            found.append(_of_fix(name, measurement))
        return found

    def _new(self, name: str, found: Sequence[Hint | None]) -> list[Hint]:
        new = [hint for hint in found if hint is not None and (hint.id, name) not in self.hints]
        self.hints |= {(hint.id, name): hint for hint in new}
        return new

    def _of_inertial(self, name: str, sample: ImuSample) -> list[Hint | None]:
        window = self._inertial.setdefault(name, deque(maxlen=SAMPLES))
        window.append(sample)
        return list(inertial_hints(name, window)) if self._seen[name] % SAMPLES == 0 else []


def inertial_hints(name: str, window: deque[ImuSample]) -> list[Hint]:
    """Return what is wrong with the units and axes of inertial samples in `base_link` axes."""
    accel = np.stack([sample.accel_mps2 for sample in window])
    rate = np.linalg.norm(np.stack([sample.gyro_radps for sample in window]), axis=1)
    mean, level = accel.mean(axis=0), float(np.linalg.norm(accel, axis=1).mean())
    found, fast = [], float(np.percentile(rate, 95))
    if 0.8 < level < 1.25:
        problem = f"mean acceleration is {level:.3f}: that is gravity in g, where {G_MPS2} m/s² is expected"
        found.append(Hint("SEN301", name, problem, "let the driver publish m/s², or leave it out of 'sensors'"))
    elif level < G_MPS2 / 2:
        problem = f"mean acceleration is {level:.2f} m/s²: gravity, {G_MPS2} m/s², is taken out"
        found.append(Hint("SEN302", name, problem, "publish it with gravity (REP-145), or leave it out of 'sensors'"))
    elif mean[2] < 0.8 * level:
        direction = ", ".join(f"{value:.1f}" for value in mean)
        problem = f"gravity is measured as ({direction}) m/s² in base_link, not along +z"
        found.append(Hint("SEN303", name, problem, "check the rotation of its transform; without one none is known"))
    if fast > 4.0:
        problem = f"angular rates reach {fast:.1f} rad/s, {np.rad2deg(fast):.0f} degrees a second"
        found.append(Hint("SEN304", name, problem, "let the driver publish rad/s: these look like degrees"))
    return found


def camera_hints(sensor: Sensor) -> list[Hint | None]:
    """Return what is wrong with a camera's calibration."""
    camera, name, found = sensor.camera, sensor.name, list[Hint | None]()
    if camera is None:
        return found
    k, size = camera.intrinsics, np.array([camera.width_px, camera.height_px], dtype=np.float64)
    centre = 2 * k[:2, 2] / size
    if np.abs(centre - 1).max() > _ROWS_OFF:
        problem = (
            f"principal point ({k[0, 2]:.0f}, {k[1, 2]:.0f}) px in images of {camera.width_px} x {camera.height_px}: "
            f"{centre[0]:.2f} and {centre[1]:.2f} of half an image, expected near 1"
        )
        fix = "correct CameraInfo: K is for the whole sensor, binning and roi are applied to it; they may count twice"
        found.append(Hint("SEN201", name, problem, fix))
    view = np.rad2deg(2 * np.arctan(size / (2 * k[[0, 1], [0, 1]])))
    if view.max() > 160 or view.max() < 5 or not 0.5 < k[0, 0] / k[1, 1] < 2:
        problem = (
            f"focal lengths {k[0, 0]:.0f} and {k[1, 1]:.0f} px: a view of {view[0]:.0f} x {view[1]:.0f} degrees for "
            f"{camera.width_px} x {camera.height_px} px"
        )
        found.append(Hint("SEN202", name, problem, "calibrate it again; lengths are in pixels of these images"))
    up = float(sensor.base_SE3_sensor.rotation[2, 2])
    if abs(up) > 0.9:
        problem = f"its optical axis points {'up' if up > 0 else 'down'}: the frame looks like one with x forward"
        found.append(Hint("SEN203", name, problem, "let header.frame_id name the optical frame (z forward, x right)"))
    if camera.lens is not None:
        problem = f"its images are undistorted here ({camera.lens.model})"
        found.append(Hint("SEN204", name, problem, f"none, if they are raw; else inputs.rectified [{name}]"))
    return found


def _of_radar(name: str, sweep: RadarSweep) -> Hint | None:
    heights = np.abs(sweep.points["z"])
    high = int((heights > 0.5).sum())
    if not high:
        return None
    problem = f"{high} of {len(heights)} detections have an elevation (up to {heights.max():.1f} m), which is not used"
    return Hint("SEN401", name, problem, "none: the network takes radar as flat")


def _of_fix(name: str, fix: GnssFix) -> Hint | None:
    if not fix.has_fix or fix.latitude_deg or fix.longitude_deg:
        return None
    return Hint("SEN311", name, "a fix at 0°, 0°", "let the receiver report STATUS_NO_FIX until it has a position")
