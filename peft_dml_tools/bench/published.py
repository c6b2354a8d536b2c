# SPDX-License-Identifier: Apache-2.0
"""What real nuScenes scenes measure: the figures that the simulator is held against.

Two whole scenes, scene-0103 and scene-0916 (81 keyframes, about 4,500 boxes), for the objects; four sweeps of the roof
LiDAR; ten sweeps of the front radar after the devkit's default filters. nuScenes, Caesar et al., CVPR 2020. Two scenes
are a small sample: the figures of single sweeps lie apart by as much as the table of `bench/data.json` says.
"""

from dataclasses import dataclass
from typing import Final

#: Median of the LiDAR returns of an object and number of objects, by range bin; None where there was none
Binned = tuple[tuple[float, int] | None, ...]


@dataclass(frozen=True, slots=True)
class RealClass:
    """Annotated objects of one class."""

    boxes: int  #: Number of annotations
    size_m: tuple[float, float, float]  #: Mean length, width, height
    lidar_points: Binned  #: Median by the bins of `RANGE_BINS_M`
    radar_points: float  #: Mean over all annotations, five radars together


@dataclass(frozen=True, slots=True)
class RealSweep:
    """One sweep; quantiles 5, 50, 95 % over its returns."""

    points: int  #: Number of returns
    range_m: tuple[float, float, float]  #: Quantiles of the range
    level: tuple[float, float, float]  #: Quantiles of the intensity (LiDAR) or of the cross-section in dBsm (radar)
    near: float | None = None  #: Share of returns within 2.5 m; LiDAR only


FRAMES: Final = 81
BOXES_A_FRAME: Final = 55.7
WITHOUT_LIDAR_POINTS: Final = 0.16

CLASSES: Final[dict[str, RealClass]] = {
    "car": RealClass(2568, (4.53, 1.81, 1.67), ((466, 167), (49, 536), (9, 769), (2, 778)), 0.9),
    "pedestrian": RealClass(1358, (0.68, 0.63, 1.74), ((45, 145), (11, 447), (4, 343), (2, 300)), 0.2),
    "truck": RealClass(124, (5.89, 2.23, 2.71), ((956, 8), (322, 29), (56, 26), (22, 32)), 2.9),
    "motorcycle": RealClass(259, (2.07, 0.61, 1.33), ((53, 23), (15, 92), (4, 66), (1, 62)), 0.2),
    "bicycle": RealClass(52, (1.80, 0.60, 1.44), ((42, 5), (19, 11), (2, 20), (2, 10)), 0.4),
    "bus": RealClass(41, (12.09, 2.88, 3.42), (None, (370, 16), (236, 9), (52, 8)), 10.4),
    "traffic_cone": RealClass(39, (0.35, 0.32, 0.91), ((7, 15), (1, 19), (1, 4), (1, 1)), 0.1),
}

LIDAR: Final = (
    RealSweep(34688, (0.2, 6.7, 40.7), (3, 12, 65), 0.25),
    RealSweep(34752, (0.1, 4.6, 30.9), (2, 9, 45), 0.42),
    RealSweep(34784, (0.0, 7.5, 31.3), (2, 9, 53), 0.22),
    RealSweep(34720, (0.0, 6.7, 44.2), (3, 16, 76), 0.23),
)

RADAR: Final = (
    RealSweep(74, (12.8, 40.9, 73.2), (-0.7, 5.0, 18.7)),
    RealSweep(74, (7.2, 36.2, 56.8), (-1.8, 8.0, 22.7)),
    RealSweep(62, (22.5, 79.9, 182.8), (-0.4, 7.8, 23.3)),
    RealSweep(51, (10.3, 53.5, 89.8), (-4.0, 7.0, 26.0)),
    RealSweep(60, (10.3, 38.5, 86.5), (-1.5, 8.5, 25.5)),
    RealSweep(68, (11.1, 47.4, 75.9), (-2.8, 5.2, 27.8)),
    RealSweep(59, (19.6, 28.1, 66.6), (0.0, 8.5, 22.0)),
    RealSweep(59, (28.6, 46.3, 101.3), (0.5, 4.5, 13.5)),
    RealSweep(30, (10.6, 41.9, 92.8), (1.9, 11.5, 23.3)),
    RealSweep(37, (15.8, 54.7, 109.7), (0.2, 10.0, 29.5)),
)
