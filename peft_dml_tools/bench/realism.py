# SPDX-License-Identifier: Apache-2.0
"""The table of nearness: real against simulated, row by row."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypedDict

import numpy as np

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.typing import AnyArray
from peft_dml_tools.bench import published
from peft_dml_tools.bench.published import RealClass, RealSweep
from peft_dml_tools.bench.statistics import EGO_RANGE_M, QUANTILES, RANGE_BINS_M, FolderStatistics, Sweeps, quantiles

NEAR: Final = 1.5  #: The factor that counts as near


class RealismRow(TypedDict):
    """One figure.

    `ratio` is simulated / real, of dBsm in m²; null where the real figure is 0. `within_1_5` holds where the ratio is
    between 1/1.5 and 1.5, or the difference no more than `rounding`, half a step of what the real figure is given in.
    """

    group: str
    name: str
    unit: str
    real: float
    real_least: float | None
    real_most: float | None
    real_count: int
    simulated: float | None
    simulated_count: int
    keyframe: float | None
    ratio: float | None
    rounding: float
    within_1_5: bool


class _Figure(TypedDict):
    """What a row is made of; `values` holds the simulated figure and how many values it is of."""

    group: str
    name: str
    unit: str
    real: Sequence[float]
    real_count: int
    rounding: float


def realism_rows(simulated: FolderStatistics, keyframe: FolderStatistics | None = None) -> list[RealismRow]:
    """Return the whole table; figures of a real keyframe stand next to the published ones, for comparison only."""
    measured = _measured(simulated)
    nearby = _measured(keyframe) if keyframe else {}
    nothing: tuple[float | None, int] = (None, 0)
    rows = []
    for figure in _figures():
        key = figure["group"], figure["name"]
        value, count = measured.get(key, nothing)
        rows.append(_row(figure, value, count, nearby.get(key, nothing)[0]))
    return rows


def _row(figure: _Figure, value: float | None, count: int, keyframe: float | None) -> RealismRow:
    real = float(np.median(figure["real"]))
    ratio = _ratio(value, real, figure["unit"])
    near = ratio is not None and 1 / NEAR <= ratio <= NEAR
    rounded = value is not None and abs(value - real) <= figure["rounding"] + 1e-9
    several = len(figure["real"]) > 1
    return RealismRow(
        group=figure["group"],
        name=figure["name"],
        unit=figure["unit"],
        real=_rounded(real),
        real_least=min(figure["real"]) if several else None,
        real_most=max(figure["real"]) if several else None,
        real_count=figure["real_count"],
        simulated=None if value is None else _rounded(value),
        simulated_count=count,
        keyframe=None if keyframe is None else _rounded(keyframe),
        ratio=None if ratio is None else _rounded(ratio),
        rounding=figure["rounding"],
        within_1_5=near or rounded,
    )


def _ratio(value: float | None, real: float, unit: str) -> float | None:
    if value is None:
        return None
    if unit == "dBsm":
        return float(10 ** ((value - real) / 10))
    return value / real if real > 0 else None


def _rounded(value: float) -> float:
    """Return four significant digits."""
    return float(f"{value:.4g}")


# ---------------------------------------------------------------- real figures
def _figures() -> Iterator[_Figure]:
    """Yield every row's real side."""
    for name, one in published.CLASSES.items():
        yield from _class_figures(name, one)
    boxes = published.BOXES_A_FRAME * published.FRAMES
    yield _figure("scene", "boxes a frame", "", [published.BOXES_A_FRAME], published.FRAMES, 0.05)
    yield _figure("scene", "share without LiDAR point", "", [published.WITHOUT_LIDAR_POINTS], round(boxes), 0.005)
    near = [s.near for s in published.LIDAR if s.near is not None]
    yield from _sweep_figures("LiDAR sweep", published.LIDAR, "intensity", "", 0.5)
    yield _figure("LiDAR sweep", f"share within {EGO_RANGE_M} m", "", near, len(near), 0.005)
    yield from _sweep_figures("front radar", published.RADAR, "RCS", "dBsm", 0.05)


def _class_figures(name: str, one: RealClass) -> Iterator[_Figure]:
    for side, size_m in zip(("length", "width", "height"), one.size_m, strict=True):
        yield _figure(name, side, "m", [size_m], one.boxes, 0.005)
    for (low, high), pair in zip(RANGE_BINS_M, one.lidar_points, strict=True):
        if pair is not None:
            yield _figure(name, f"LiDAR points, {low}-{high} m", "", [pair[0]], pair[1], 0.5)
    yield _figure(name, "radar points", "", [one.radar_points], one.boxes, 0.05)


def _sweep_figures(
    group: str, sweeps: Sequence[RealSweep], level: str, unit: str, level_rounding: float
) -> Iterator[_Figure]:
    n = len(sweeps)
    yield _figure(group, "points", "", [s.points for s in sweeps], n, 0.5)
    for i, q in enumerate(QUANTILES):
        yield _figure(group, f"range p{q}", "m", [s.range_m[i] for s in sweeps], n, 0.05)
    for i, q in enumerate(QUANTILES):
        yield _figure(group, f"{level} p{q}", unit, [s.level[i] for s in sweeps], n, level_rounding)


def _figure(group: str, name: str, unit: str, real: Sequence[float], count: int, rounding: float) -> _Figure:
    return _Figure(group=group, name=name, unit=unit, real=real, real_count=count, rounding=rounding)


# ---------------------------------------------------------------- the same of a folder
_Values = dict[tuple[str, str], tuple[float | None, int]]


def _measured(folder: FolderStatistics) -> _Values:
    """Return (group, row) -> figure of a folder, and the number of objects or sweeps it is of."""
    objects = folder.objects
    values: _Values = {
        ("scene", "boxes a frame"): (len(objects.labels) / folder.frames, folder.frames),
        ("scene", "share without LiDAR point"): _of(objects.lidar_points == 0, np.mean),
    }
    for name in published.CLASSES:
        mine = objects.labels == CLASSES.index(name)
        for i, side in enumerate(("length", "width", "height")):
            values[name, side] = _of(objects.sizes_m[mine, i], np.mean)
        for low, high in RANGE_BINS_M:
            there = mine & (objects.distances_m >= low) & (objects.distances_m < high)
            values[name, f"LiDAR points, {low}-{high} m"] = _of(objects.lidar_points[there], np.median)
        values[name, "radar points"] = _of(objects.radar_points[mine], np.mean)
    near = np.array([(ranges < EGO_RANGE_M).mean() for ranges in folder.lidar.ranges_m if len(ranges)])
    values |= _of_sweeps("LiDAR sweep", folder.lidar, "intensity") | _of_sweeps("front radar", folder.radar, "RCS")
    values["LiDAR sweep", f"share within {EGO_RANGE_M} m"] = _of(near, np.median)
    return values


def _of_sweeps(group: str, sweeps: Sweeps, level: str) -> _Values:
    """Return medians over the sweeps of the quantiles in each."""
    values: _Values = {(group, "points"): _of(sweeps.counts, np.median)}
    for what, data in (("range", sweeps.ranges_m), (level, sweeps.levels)):
        table = quantiles(data)
        values |= {(group, f"{what} p{q}"): _of(table[:, i], np.median) for i, q in enumerate(QUANTILES)}
    return values


def _of(values: AnyArray, how: Callable[[AnyArray], Any]) -> tuple[float | None, int]:
    return (float(how(values)) if len(values) else None, len(values))
