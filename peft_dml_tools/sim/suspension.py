# SPDX-License-Identifier: Apache-2.0
"""How the ego's body lies: on the slope under its axles, leaning as it brakes and turns, and swaying a little."""

from typing import Final

import numpy as np

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.sim.terrain import Terrain
from peft_dml_tools.sim.traffic import STEP_S

WHEELBASE_M: Final = 2.6
TRACK_M: Final = 1.5
#: Roll and pitch of the body by what it is accelerated: a small car leans 1 degree at half of its hardest braking
LEAN_RAD_PER_MPS2: Final = 0.0035

LEAN_SMOOTH_S: Final = 0.3
SWAY_RAD: Final = 0.002
SWAY_SMOOTH_S: Final = 0.25
LOAD_RAD: Final = 0.004
LOAD_M: Final = 0.015  #: Standard deviations of what passengers and luggage add for a whole drive


def attitude(yaw_rad: float, roll_rad: float, pitch_rad: float, translation_m: tuple[float, float, float]) -> SE3:
    """Return the pose of a body that is rolled, then pitched, then turned."""
    (sy, sr, sp), (cy, cr, cp) = (f([yaw_rad, roll_rad, pitch_rad]) for f in (np.sin, np.cos))
    yaw = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    lean = np.array([[cp, sp * sr, sp * cr], [0.0, cr, -sr], [-sp, cp * sr, cp * cr]])
    return SE3(yaw @ lean, np.array(translation_m))


def body_motion(
    pose: FloatArray,
    speed_mps: FloatArray,
    accel_mps2: FloatArray,
    aside_mps2: FloatArray,
    terrain: Terrain,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the height (m) of `base_link` and the roll and pitch (rad) of the ego on the world's time grid, (T, 3).

    Args:
        pose: (T, 3) x, y, yaw of the rear axle's middle.
        speed_mps: (T,).
        accel_mps2: (T,) along x.
        aside_mps2: (T,) centripetal, positive to the left.
        terrain: The ground.
        rng: Source of load and sway.
    """
    ahead = np.stack([np.cos(pose[:, 2]), np.sin(pose[:, 2])], axis=1)
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) * TRACK_M / 2
    rear, middle = pose[:, :2], pose[:, :2] + ahead * WHEELBASE_M / 2
    z = terrain.height_m(rear)
    pitch = np.arctan2(z - terrain.height_m(rear + ahead * WHEELBASE_M), WHEELBASE_M)
    roll = np.arctan2(terrain.height_m(middle + left) - terrain.height_m(middle - left), TRACK_M)
    sway = _smoothed(rng.normal(size=(2, len(pose) + 64)), SWAY_SMOOTH_S)[:, 32 : 32 + len(pose)]
    sway *= SWAY_RAD / np.maximum(sway.std(axis=1, keepdims=True), 1e-9) * np.minimum(speed_mps / 8.0, 1.0)
    lean = LEAN_RAD_PER_MPS2 * _smoothed(np.stack([aside_mps2, -accel_mps2]), LEAN_SMOOTH_S)
    load = rng.normal(0, LOAD_RAD, 2)
    roll, pitch = np.stack([roll, pitch]) + sway + lean + load[:, None]
    return np.stack([z + rng.normal(0, LOAD_M), roll, pitch], axis=1)


def _smoothed(rows: FloatArray, width_s: float) -> FloatArray:
    """Return rows (2, T) averaged over a window."""
    taps = max(round(width_s / STEP_S), 1) | 1
    padded = np.pad(rows, ((0, 0), (taps // 2, taps // 2)), mode="edge")
    return np.stack([np.convolve(row, np.ones(taps) / taps, mode="valid") for row in padded])
