# SPDX-License-Identifier: Apache-2.0
"""When each point of a spinning LiDAR's turn was measured, computed from where it lies.

A nuScenes turn starts on the left (-x of the sensor), goes clockwise over the front, the right and the back, and is
stamped when it ends. The files keep all firings in order, those without return as points near the origin.
"""

from typing import Final

import numpy as np

from peft_dml_ros.core.typing import AnyArray, Float32Array

#: Nearer points tell no direction: firings without return, and those that motion compensation moved
NEAR_M: Final = 2.5

#: Share of a turn by which most points may be off their place in the file, for its order to be trusted
IN_ORDER: Final = 0.05


def spin_offsets_s(points_xyz: AnyArray, period_s: float) -> Float32Array:
    """Return the (N,) float32 time in s of each point relative to the sweep's stamp, the end of its turn: none above 0.

    Azimuth gives the time. In a file that is in firing order, as nuScenes' and the simulator's are, the order decides
    at the seam whether a point belongs to the start or the end of the turn, and stands in for the azimuth of near ones.

    Args:
        points_xyz: (N, >= 3) x right, y forward, z up in m, sensor frame, with or without motion compensation.
        period_s: Duration of a turn.
    """
    x, y = points_xyz[:, 0], points_xyz[:, 1]
    turned = np.nan_to_num((np.pi - np.arctan2(y, x)) / (2 * np.pi))
    place = (np.arange(len(turned), dtype=np.float32) + np.float32(0.5)) / np.float32(max(len(turned), 1))
    far = np.flatnonzero(x * x + y * y > NEAR_M**2)
    lag = np.mod(turned - place + 0.5, 1.0) - 0.5
    if len(far) and float(np.median(np.abs(lag[far]))) < IN_ORDER:
        turned = np.interp(place, place[far], (place + lag)[far])
    offsets: Float32Array = (np.clip(turned - 1.0, -1.0, 0.0) * period_s).astype(np.float32)
    return offsets
