# SPDX-License-Identifier: Apache-2.0
"""The ten nuScenes detection classes, their attributes and the five modalities, in one fixed order each."""

from typing import Final, Literal, TypeAlias

#: Detection classes in the nuscenes-devkit's order (`DETECTION_NAMES`)
CLASSES: Final = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
)

#: nuScenes attributes in the devkit's order (`ATTRIBUTE_NAMES`)
ATTRIBUTES: Final = (
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "cycle.with_rider",
    "cycle.without_rider",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)

#: Indices into `ATTRIBUTES` that a class may carry; empty for static things
ATTRIBUTES_OF_CLASS: Final[dict[str, tuple[int, ...]]] = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), (5, 6, 7)),
    "pedestrian": (0, 1, 2),
    **dict.fromkeys(("motorcycle", "bicycle"), (3, 4)),
    **dict.fromkeys(("traffic_cone", "barrier"), ()),
}

Modality: TypeAlias = Literal["lidar", "camera", "radar", "imu", "gnss"]
#: Order of the `mask`, `age_s`, `completeness` and `gate` vectors everywhere
MODALITIES: Final[tuple[Modality, ...]] = ("lidar", "camera", "radar", "imu", "gnss")

#: Modalities that can see an object; without any of them the vehicle is blind
DETECTING: Final[tuple[Modality, ...]] = ("lidar", "camera", "radar")

#: Red, green, blue of each class in pictures, markers and reports
CLASS_COLOURS: Final[dict[str, tuple[int, int, int]]] = {
    "car": (255, 158, 0),
    "truck": (255, 99, 71),
    "bus": (255, 127, 80),
    "trailer": (255, 140, 0),
    "construction_vehicle": (233, 150, 70),
    "pedestrian": (60, 120, 255),
    "motorcycle": (255, 61, 99),
    "bicycle": (220, 20, 60),
    "traffic_cone": (120, 144, 170),
    "barrier": (150, 140, 160),
}
