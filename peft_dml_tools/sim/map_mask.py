# SPDX-License-Identifier: Apache-2.0
"""The drivable area as a raster, as nuScenes maps have it."""

from typing import Final

import numpy as np

from peft_dml_ros.core.typing import FloatArray, UInt8Array
from peft_dml_tools.sim.road import CROSSING_ENDS_M, CROSSING_HALF_M, Road

MARGIN_M: Final = 130.0
PIXEL_M: Final = 0.1


def map_offset_m(road: Road) -> FloatArray:
    """Return the shift (2,) to add to world positions so that the map's lower left corner is its origin."""
    corner: FloatArray = np.floor(road.points_m.min(axis=0))
    return MARGIN_M - corner


def drivable_mask(road: Road) -> UInt8Array:
    """Return a mask (H, W) uint8, 255 on the carriageway and on streets that cross; row 0 is the north edge."""
    import cv2  # noqa: PLC0415 - only the writer needs it

    offset = map_offset_m(road)
    width, height = (int(v) for v in np.ceil((road.points_m.max(axis=0) + offset + MARGIN_M) / PIXEL_M))
    image = np.zeros((height, width), np.uint8)
    s = road.stations_m
    left, _ = road.locate(s, np.full(len(s), road.kerb_m))
    right, _ = road.locate(s, np.full(len(s), -road.kerb_m))
    outlines = [np.concatenate([left, right[::-1]])]
    for crossing in road.crossings:
        ends, half = CROSSING_ENDS_M, CROSSING_HALF_M
        outlines.append(crossing.locate([-ends, ends, ends, -ends], [-half, -half, half, half]))
    for outline in outlines:
        pixels = (outline + offset) / PIXEL_M
        pixels[:, 1] = height - pixels[:, 1]
        cv2.fillPoly(image, [np.round(pixels).astype(np.int32)], 255)
    return image
