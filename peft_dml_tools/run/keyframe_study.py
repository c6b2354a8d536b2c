# SPDX-License-Identifier: Apache-2.0
"""What a bundle finds in real keyframes, and what changes of the sensors do to that: gain, height, turn, beams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import LidarSweep
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import GridSpec
from peft_dml_ros.core.typing import Float32Array
from peft_dml_tools.evaluation.scoring import score

if TYPE_CHECKING:
    from peft_dml_tools.datasets.nuscenes import NuScenesReader
    from peft_dml_tools.run.offline import OfflineDetector

FOUND_M: Final = 2.0
FOUND_SCORE: Final = 0.2
FALSE_SCORE: Final = 0.3
CAR: Final = CLASSES.index("car")
OTHERS: Final = ("camera", "radar", "imu", "gnss")

Points = Callable[[Float32Array, SE3], Float32Array]


@dataclass(frozen=True, slots=True)
class KeyframeVariant:
    """A change of a keyframe."""

    name: str  #: What to call it
    points: Points = lambda points, _: points  #: Makes the points of a sweep, from those and the LiDAR's mounting
    field: str = "intensity"  #: Intensity field; empty for a cloud without
    turn_rad: float = 0.0  #: Turn of points and truth about the LiDAR; with LiDAR alone only
    #: Those recorded, none, or ones that are grey everywhere
    pictures: Literal["recorded", "none", "grey"] = "recorded"


def _changed(gain: float = 1.0, raised_m: float = 0.0) -> Points:
    factors, steps = (np.array(row, dtype=np.float32) for row in ((1, 1, 1, gain, 1), (0, 0, raised_m, 0, 0)))
    return lambda points, _: points * factors + steps


VARIANTS: Final = (
    KeyframeVariant("as recorded"),
    *(KeyframeVariant(f"intensity × {factor:g}", _changed(factor)) for factor in (0.25, 4.0, 60.0)),
    KeyframeVariant("no intensity", _changed(0.0), field=""),
    *(KeyframeVariant(f"{by_m:+.1f} m in height", _changed(raised_m=by_m)) for by_m in (-0.5, -0.2, 0.2, 0.5)),
    *(KeyframeVariant(f"turned by {degrees}°", turn_rad=float(np.deg2rad(degrees))) for degrees in (45, 90)),
    KeyframeVariant("every second beam", lambda points, _: points[points[:, 4] % 2 == 0]),
    KeyframeVariant("half of the points", lambda points, _: points[np.random.default_rng(0).random(len(points)) < 0.5]),
    KeyframeVariant("no pictures", pictures="none"),
    KeyframeVariant("grey pictures", pictures="grey"),
)


def study(
    offline: OfflineDetector, reader: NuScenesReader, token: str, variants: Iterable[KeyframeVariant] = VARIANTS
) -> Iterator[dict[str, Any]]:
    """Yield a row of figures per variant and set of sensors ("LiDAR" or "all") of a keyframe."""
    rig, truth = reader.rig(token), inside(reader.truth(token), offline.bundle.spec.grid)
    for variant in variants:
        for sensors in ("LiDAR", "all"):
            if (variant.turn_rad and sensors == "all") or (variant.pictures != "recorded" and sensors == "LiDAR"):
                continue
            turned = truth.transform(_turn(rig, variant.turn_rad)) if variant.turn_rad else truth
            (frame,) = offline.keyframes(reader, [token], _changer(variant, rig, alone=sensors == "LiDAR"))
            found = score([replace(frame, truth=turned)])
            by_class = {name: round(ap[FOUND_M], 4) for name, ap in found.ap.items()}
            yield {"variant": variant.name, "sensors": sensors, **figures(frame.boxes, turned)} | {
                "ap_2m": by_class,
                "car_ap_2m": by_class.get("car"),
                "map": None if found.mean_ap is None else round(found.mean_ap, 4),
            }


def _changer(variant: KeyframeVariant, rig: Rig, *, alone: bool) -> Callable[[Snapshot], Snapshot]:
    def change(snapshot: Snapshot) -> Snapshot:
        lidar = {}
        for name, sweeps in snapshot.lidar.items():
            base_SE3_lidar = rig[name].base_SE3_sensor
            turn = base_SE3_lidar.inverse() @ _turn(rig, variant.turn_rad) @ base_SE3_lidar
            made = []
            for sweep in sweeps:
                points = variant.points(sweep.points, base_SE3_lidar).astype(np.float32)
                if variant.turn_rad:
                    points[:, :3] = turn.transform(points[:, :3].astype(np.float64))
                made.append(LidarSweep(sweep.stamp_ns, points, variant.field))
            lidar[name] = tuple(made)
        changed = replace(snapshot, lidar=lidar)
        if variant.pictures == "none":
            changed = changed.without("camera")
        elif variant.pictures == "grey":
            blank = np.full((90, 160, 3), 128, dtype=np.uint8)
            cameras = {n: replace(image, jpeg=None, pixels=blank) for n, image in snapshot.cameras.items()}
            changed = replace(changed, cameras=cameras)
        return changed.without(*OTHERS) if alone else changed

    return change


def inside(boxes: Boxes3D, grid: GridSpec) -> Boxes3D:
    """Return the boxes with their centre on the network's grid: others it cannot find."""
    return boxes[(np.abs(boxes.centers_m[:, :2]) < grid.half_range_m).all(axis=1)]


def _turn(rig: Rig, by_rad: float) -> SE3:
    """Return the turn of `base_link` about the first LiDAR."""
    place = rig.of("lidar")[0].base_SE3_sensor.translation
    about = SE3.from_yaw(0.0, (float(place[0]), float(place[1]), 0.0))
    return about @ SE3.from_yaw(by_rad) @ about.inverse()


def figures(boxes: Boxes3D, truth: Boxes3D) -> dict[str, Any]:
    """Return cars found and false, headings, false boxes of all classes, and boxes by class."""
    cars, real = (b[b.labels == CAR] for b in (boxes[boxes.scores > FOUND_SCORE], truth))
    near = _near(cars, real)
    owners = near.argmax(axis=1) if near.size else np.zeros(len(cars), dtype=np.int64)
    hit = near.any(axis=1) if near.size else np.zeros(len(cars), dtype=bool)
    error = np.abs(cars.yaws_rad[hit] - real.yaws_rad[owners[hit]]) % np.pi if hit.any() else np.zeros(0)
    axis = np.minimum(error, np.pi - error)
    sure = boxes[boxes.scores > FALSE_SCORE]
    wrong = ~(_near(sure, truth) & (sure.labels[:, None] == truth.labels[None])).any(axis=1)
    counts = Counter(CLASSES[label] for label in boxes.labels[boxes.scores > FOUND_SCORE])
    return {
        "cars": len(real),
        "cars_found": int(near.any(axis=0).sum()) if near.size else 0,
        "cars_false": int((~hit).sum()),
        "axis_error_rad": round(float(np.median(axis)), 3) if len(axis) else None,
        "false_boxes": int(wrong.sum()),
        "boxes": dict(counts.most_common()),
    }


def _near(one: Boxes3D, other: Boxes3D) -> Any:
    """Return (n, m) which boxes' centres lie within `FOUND_M` of each other."""
    gap = one.centers_m[:, None, :2] - other.centers_m[None, :, :2]
    return np.linalg.norm(gap, axis=2) < FOUND_M
