# SPDX-License-Identifier: Apache-2.0
"""Shapes of what is not annotated: buildings, trees, shrubs, walls, fences, poles, street furniture.

Many have the size of people, cones, barriers or vehicles, and are none: a detector has to learn the difference here.
"""

from collections.abc import Callable
from typing import Final

import numpy as np

from peft_dml_tools.sim.mesh import Material, Mesh, Surface, box, column, ellipsoid, merge

BARK: Final = Material((0.28, 0.20, 0.14), 0.3)
STEEL: Final = Material((0.42, 0.43, 0.45), 0.4)
CONCRETE: Final = Material((0.55, 0.54, 0.51), 0.3)
FACADES: Final = ((0.62, 0.55, 0.47), (0.50, 0.30, 0.24), (0.70, 0.69, 0.66), (0.42, 0.44, 0.48), (0.75, 0.66, 0.52))
DEEP_M: Final = 1.6  #: Walls go on this far below the ground, which slopes along them
ROOTS_M: Final = 0.15


def leaf(rng: np.random.Generator) -> Material:
    """Return a shade of green."""
    green = float(rng.uniform(0.22, 0.36))
    return Material((green * float(rng.uniform(0.4, 0.75)), green, 0.09), float(rng.uniform(0.3, 0.5)), Surface.FOLIAGE)


def building(rng: np.random.Generator, length_m: float, depth_m: float) -> Mesh:
    """Return a block with a flat roof or eaves, its long side along x."""
    height = float(rng.choice([rng.uniform(4, 9), rng.uniform(9, 25)], p=[0.55, 0.45]))
    wall = Material(FACADES[int(rng.integers(len(FACADES)))], float(rng.uniform(0.2, 0.5)), Surface.FACADE)
    parts = [box((length_m, depth_m, height + DEEP_M), wall, (0, 0, -DEEP_M))]
    if rng.random() < 0.4:
        roof = Material((0.35, 0.3, 0.28), 0.25)
        parts.append(box((length_m + 0.5, depth_m + 0.5, 0.5), roof, (0, 0, height)))
    return merge(parts)


def tree(rng: np.random.Generator) -> Mesh:
    """Return a trunk and a crown of a few round clumps, a palm's or a poplar's now and then."""
    height, leaves = float(rng.uniform(4.5, 10.0)), leaf(rng)
    thick = float(rng.uniform(0.1, 0.26))
    trunk = column([thick, 0.6 * thick], [-ROOTS_M, 0.75 * height], BARK, 6)
    if rng.random() < 0.12:
        crowns = [ellipsoid((0.8, 0.8, 0.38 * height), (0, 0, 0.55 * height), leaves, 7)]
        return merge([trunk, *crowns])
    crowns = []
    for _ in range(int(rng.integers(2, 5))):
        radius = float(rng.uniform(0.9, 1.7))
        at = (*rng.uniform(-0.9, 0.9, 2), height * float(rng.uniform(0.55, 0.85)))
        crowns.append(ellipsoid((radius, radius, radius * 0.8), at, leaves, 7))
    return merge([trunk, *crowns])


def shrub(rng: np.random.Generator) -> Mesh:
    """Return one to three clumps from the size of a cone to that of a car."""
    leaves, size = leaf(rng), float(rng.choice([0.3, 0.55, 0.9, 1.4], p=[0.25, 0.35, 0.25, 0.15]))
    clumps = []
    for _ in range(int(rng.integers(1, 4))):
        rx, ry, rz = size * rng.uniform(0.6, 1.1, 3)
        at = (*(size * rng.uniform(-0.8, 0.8, 2)), 0.7 * rz)
        clumps.append(ellipsoid((rx, ry, rz), at, leaves, 6))
    return merge(clumps)


def hedge(rng: np.random.Generator, length_m: float) -> Mesh:
    """Return a clipped hedge or a low wall along x."""
    solid = rng.random() < 0.35
    height = float(rng.uniform(0.5, 1.4) if solid else rng.uniform(0.7, 2.0))
    width = float(rng.uniform(0.2, 0.4) if solid else rng.uniform(0.5, 1.1))
    return box((length_m, width, height + 0.5), CONCRETE if solid else leaf(rng), (0, 0, -0.5))


def fence(rng: np.random.Generator, length_m: float) -> Mesh:
    """Return rails between posts along x: the shape of a row of barriers, thinner."""
    height = float(rng.uniform(0.8, 1.9))
    paint = Material((0.75, 0.74, 0.7), 0.5) if rng.random() < 0.4 else STEEL
    posts = [box((0.06, 0.06, height + 0.3), paint, (x, 0, -0.3)) for x in np.arange(0.0, length_m, 2.0) - length_m / 2]
    rails = [box((length_m, 0.04, 0.07), paint, (0, 0, z * height)) for z in (0.15, 0.55, 0.93)]
    return merge([*posts, *rails])


def lamp_post() -> Mesh:
    """Return a street lamp, its arm along +y."""
    return merge([column([0.1, 0.06], [-ROOTS_M, 7.5], STEEL, 6), box((0.3, 1.8, 0.12), STEEL, (0, 0.8, 7.4))])


def _bin(rng: np.random.Generator) -> Mesh:
    return column([0.25, 0.28], [-ROOTS_M, float(rng.uniform(0.8, 1.1))], Material((0.15, 0.3, 0.18), 0.2))


def _bollard(rng: np.random.Generator) -> Mesh:
    height = float(rng.uniform(0.6, 1.1))
    pillars = [
        column([0.09, 0.08], [-ROOTS_M, height], STEEL, 6).moved((1.4 * k, 0, 0)) for k in range(rng.integers(1, 4))
    ]
    return merge(pillars)


def _cabinet(rng: np.random.Generator) -> Mesh:
    size = (float(rng.uniform(0.5, 1.3)), 0.4, float(rng.uniform(1.0, 1.7)) + ROOTS_M)
    return box(size, Material((0.5, 0.52, 0.48), 0.4), (0, 0, -ROOTS_M))


def _sign(rng: np.random.Generator) -> Mesh:
    low = float(rng.choice([0.9, 2.2]))
    board = box((0.03, 0.65, 0.65), Material((0.75, 0.15, 0.12), 1.0), (0.06, 0, low))
    return merge([column([0.04, 0.04], [-ROOTS_M, low + 0.7], STEEL, 5), board])


def _pole(rng: np.random.Generator) -> Mesh:
    radius = float(rng.uniform(0.05, 0.2))
    return column([radius, radius], [-ROOTS_M, float(rng.uniform(1.8, 9.0))], CONCRETE if radius > 0.1 else STEEL, 6)


def _shelter(_rng: np.random.Generator) -> Mesh:
    pane = Material((0.35, 0.42, 0.45), 0.1, Surface.GLASS)
    return merge([box((3.6, 0.05, 2.2), pane, (0, 0.7, 0)), box((3.8, 1.5, 0.1), STEEL, (0, 0, 2.3))])


def _bench(_rng: np.random.Generator) -> Mesh:
    legs = [box((0.08, 0.4, 0.45 + ROOTS_M), STEEL, (x, 0, -ROOTS_M)) for x in (-0.7, 0.7)]
    return merge([*legs, box((1.7, 0.45, 0.06), BARK, (0, 0, 0.42)), box((1.7, 0.06, 0.4), BARK, (0, 0.2, 0.5))])


def _planter(rng: np.random.Generator) -> Mesh:
    length = float(rng.uniform(0.8, 2.2))
    tub = box((length, 0.6, 0.55 + ROOTS_M), CONCRETE, (0, 0, -ROOTS_M))
    return merge([tub, ellipsoid((0.45 * length, 0.3, 0.3), (0, 0, 0.65), leaf(rng), 6)])


def _container(rng: np.random.Generator) -> Mesh:
    """Return a skip, a kiosk or a cabin: the size of a vehicle without its shape."""
    size = (float(rng.uniform(1.4, 4.5)), float(rng.uniform(1.3, 2.2)), float(rng.uniform(1.1, 2.6)))
    paint = Material(tuple(map(float, rng.uniform(0.1, 0.7, 3))), float(rng.uniform(0.1, 0.5)))  # type: ignore[arg-type]
    return box((size[0], size[1], size[2] + ROOTS_M), paint, (0, 0, -ROOTS_M))


def _bags(rng: np.random.Generator) -> Mesh:
    dark = Material((0.1, 0.1, 0.11), 0.15)
    heaps = []
    for _ in range(int(rng.integers(1, 4))):
        radius = float(rng.uniform(0.25, 0.4))
        heaps.append(ellipsoid((radius, radius, radius), (*rng.uniform(-0.4, 0.4, 2), radius * 0.8), dark, 6))
    return merge(heaps)


FURNITURE: Final[dict[Callable[[np.random.Generator], Mesh], float]] = {
    _bin: 0.15,
    _bollard: 0.13,
    _cabinet: 0.11,
    _sign: 0.17,
    _pole: 0.13,
    shrub: 0.14,
    _shelter: 0.02,
    _bench: 0.05,
    _planter: 0.05,
    _container: 0.03,
    _bags: 0.02,
}


def furniture(rng: np.random.Generator) -> Mesh:
    """Return one piece of street furniture, as often as streets have it."""
    makers = list(FURNITURE)
    return makers[int(rng.choice(len(makers), p=np.array(list(FURNITURE.values()))))](rng)
