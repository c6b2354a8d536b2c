# SPDX-License-Identifier: Apache-2.0
"""Check whether a LiDAR cloud fits the network: its intensity, its place in the grid, the ground under the vehicle."""

from typing import Final, NamedTuple

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.pillars import MAXIMUM, MEDIAN, TYPICAL_MEDIAN, Levels, Ranges
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import FloatArray

LEAST_INSIDE: Final = 0.3  #: Share of the points that must lie inside the grid
GROUND_OFF_M: Final = 0.5
MOST_TILT_RAD: Final = 0.2
_NEAR_M, _FAR_M = 3.0, 25.0  #: Points at this distance show the ground
_SAMPLE: Final = 1500
_TRIES: Final = 80
_INLIER_M: Final = 0.12
_LEAST_SHARE: Final = 0.12  #: Share of the sampled points on a plane that counts


class Hint(NamedTuple):
    """What looks wrong with a sensor."""

    id: str  #: Its number in the troubleshooting page
    sensor: str  #: Channel name
    problem: str  #: In words, with the numbers
    fix: str  #: What to do

    def __str__(self) -> str:
        """Return one line for the log or the terminal."""
        return f"{self.sensor}: {self.problem} [{self.id}]; fix: {self.fix}"


def intensity_hint(name: str, sweep: LidarSweep, trained: Ranges) -> Hint | None:
    """Return what is wrong with the intensity of a sweep.

    Args:
        name: The LiDAR.
        sweep: With its intensity as it was decoded.
        trained: Least and greatest median and maximum of the sweeps that the network was trained on.
    """
    if not sweep.intensity_field:
        problem = "its clouds have no intensity: the network sees 0 everywhere, and confuses small things more often"
        return Hint("SEN101", name, problem, f"record a field of it, or name it: inputs.intensity_field [{name}=FIELD]")
    found = Levels.of(sweep.points)
    factor = found.factor(trained)
    if not found.bright:
        if not len(sweep.points) or found.maximum:
            return None
        fix = f"let the driver fill it, or inputs.intensity_field [{name}=FIELD]"
        return Hint("SEN101", name, f"field '{sweep.intensity_field}': all 0", fix)
    (low, high), (least, most) = trained[MEDIAN], trained[MAXIMUM]
    if factor == 1.0 and low <= found.median <= high:
        return None
    problem = (
        f"field '{sweep.intensity_field}' has median {found.median:.4g}, maximum {found.maximum:.4g}: the network "
        f"knows medians of {low:g} to {high:g} and maxima of {least:g} to {most:g}"
    )
    if not factor:
        fix = f"inputs.intensity_field [{name}=FIELD] of a reflectivity; no factor makes one of this"
        return Hint("SEN103", name, f"{problem}; its intensity is not used", fix)
    done = f"; it is multiplied by {factor:.2g} here" if factor != 1.0 else ""
    right = f"{name}={TYPICAL_MEDIAN / max(found.median, 1e-3):.2g}"
    return Hint("SEN102", name, problem + done, f"inputs.intensity_scale [{right}], or another inputs.intensity_field")


def place_hint(name: str, sweep: LidarSweep, base_SE3_sensor: SE3, spec: ModelSpec, base_frame: str) -> Hint | None:
    """Return what is wrong with where the points lie in `base_link`."""
    points = sweep.points[:, :3]
    points = points[np.einsum("ij,ij->i", points, points) > spec.lidar.min_range_m**2]
    if len(points) < _SAMPLE // 10:
        return None
    based = base_SE3_sensor.transform(points.astype(np.float64))
    reach, low, high = spec.grid.half_range_m, spec.lidar.z_min_m, spec.lidar.z_max_m
    flat = np.abs(based[:, :2]).max(axis=1) <= reach
    level = (based[:, 2] >= low) & (based[:, 2] <= high)
    inside, count = int((flat & level).sum()), len(based)
    transform = f"the transform {base_frame} -> {name.lower()}"
    if inside < LEAST_INSIDE * count:
        x, y, z = np.median(based, axis=0)
        problem = (
            f"{inside} of {count} points lie inside the network's range (x, y ± {reach:g} m, z {low:g} to {high:g} m); "
            f"{count - int(flat.sum())} are too far off, {count - int(level.sum())} too low or too high; the median "
            f"point is at ({x:.1f}, {y:.1f}, {z:.1f}) m"
        )
        if float(np.median(np.linalg.norm(points, axis=1))) > 500:
            return Hint("SEN111", name, problem, "publish metres: these look like millimetres")
        what = "z, roll and pitch" if level.sum() < flat.sum() else "x and y"
        return Hint("SEN111", name, problem, f"check {what} of {transform}")
    return _ground_hint(name, based, base_SE3_sensor, transform)


def _ground_hint(name: str, based: FloatArray, base_SE3_sensor: SE3, transform: str) -> Hint | None:
    distance = np.hypot(based[:, 0], based[:, 1])
    near = based[(distance > _NEAR_M) & (distance < _FAR_M) & (based[:, 2] < base_SE3_sensor.translation[2])]
    if len(near) < _SAMPLE // 5:
        return None
    normals, offsets, shares = _planes(near)
    tilt = np.arccos(np.clip(np.abs(normals[:, 2]), 0, 1))
    flat = tilt < MOST_TILT_RAD
    best = int(shares.argmax())
    if flat.any() and (share := float(shares[flat].max())) >= _LEAST_SHARE:
        plane = int(np.flatnonzero(flat)[shares[flat].argmax()])
        height_m = float(offsets[plane] / normals[plane, 2])
        if abs(height_m) <= GROUND_OFF_M:
            return None
        problem = f"the ground seems to lie at z = {height_m:.2f} m ({share:.0%} of the near points), expected 0"
        right = base_SE3_sensor.translation[2] - height_m
        return Hint("SEN112", name, problem, f"check z of {transform}: {right:.2f} m would put the ground at 0")
    if shares[best] >= 2 * _LEAST_SHARE:
        degrees = float(np.rad2deg(tilt[best]))
        problem = f"no level ground in sight: the largest plane leans by {degrees:.0f} degrees"
        return Hint("SEN113", name, problem, f"check roll and pitch of {transform}")
    return None


def _planes(points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return unit normals (n, 3), offsets (n,) in m and shares (n,) of points on planes through random triples."""
    rng = np.random.default_rng(0)
    sample = points[rng.integers(0, len(points), _SAMPLE)]
    a, b, c = sample[rng.integers(0, _SAMPLE, (3, _TRIES))]
    normals = np.cross(b - a, c - a)
    length = np.linalg.norm(normals, axis=1)
    normals, a = normals[length > 0.5] / length[length > 0.5, None], a[length > 0.5]
    offsets = np.einsum("ij,ij->i", normals, a)
    shares = (np.abs(normals @ sample.T - offsets[:, None]) < _INLIER_M).mean(axis=1)
    return normals, offsets, shares
