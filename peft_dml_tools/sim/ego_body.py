# SPDX-License-Identifier: Apache-2.0
"""The part of the vehicle that its own LiDAR sees: roof and bonnet of a small car, and what nuScenes put on them."""

from typing import Final

from peft_dml_tools.sim.mesh import Material, Mesh, Surface, box, merge, prism

PAINT: Final = Material((0.85, 0.86, 0.87), 0.3)
HOUSING: Final = Material((0.2, 0.2, 0.22), 0.35)
WINDSCREEN: Final = Material((0.08, 0.10, 0.13), 0.05, Surface.GLASS)

#: Forward and left position of the six cameras' housings
CAMERAS_M: Final = ((1.64, 0.0), (1.47, 0.46), (1.47, -0.46), (1.06, 0.5), (1.06, -0.5), (0.1, 0.0))


def ego_body(raised_m: float = 0.0) -> Mesh:
    """Return roof, windscreen, bonnet and what stands on the roof, in `base_link` (rear axle on the ground, x forward).

    Heights and edges are those that the beams of a real keyframe meet. All of it lies higher by `raised_m` than on that
    car.
    """
    roof = prism(
        [(-0.12, 1.35), (1.9, 1.35), (1.9, 1.38), (1.58, 1.51), (0.35, 1.51), (0.05, 1.47), (-0.12, 1.41)],
        [0.6, 0.6, 0.5, 0.48, 0.48, 0.46, 0.44],
        PAINT,
    )
    screen = prism(
        [(1.8, 0.9), (2.4, 0.9), (2.39, 1.06), (1.9, 1.38), (1.8, 1.38)], [0.7, 0.7, 0.7, 0.5, 0.5], WINDSCREEN
    )
    bonnet = prism([(2.3, 0.5), (3.4, 0.5), (3.44, 0.79), (3.19, 0.94), (2.39, 1.06), (2.3, 1.06)], 0.72, PAINT)
    cameras = [box((0.13, 0.09, 0.08), HOUSING, (x, y, 1.49)) for x, y in CAMERAS_M]
    antenna = box((0.13, 0.28, 0.09), HOUSING, (0.515, 0.0, 1.51))
    return merge([roof, screen, bonnet, *cameras, antenna]).moved((0.0, 0.0, raised_m))
