# SPDX-License-Identifier: Apache-2.0
"""Lines in the log whenever sensors go or come back, and what the frames stand on from then on."""

from collections.abc import Callable, Mapping
from typing import Final

from peft_dml_ros.core.health import SensorState
from peft_dml_ros.core.rig import modality_of_channel

PAUSE_S: Final = 2.0
#: Time between two lines: sensors that come and go again and again are mentioned less and less often
LONGEST_PAUSE_S: Final = 32.0


class SensorLog:
    """Logs a line when sensors are gone or only came back, by comparing those in use with the last line's."""

    def __init__(self, on_gone: Callable[[str], None], on_back: Callable[[str], None]) -> None:
        self._on_gone, self._on_back = on_gone, on_back
        self._used: frozenset[str] | None = None
        self._seen: frozenset[str] = frozenset()
        self._changes, self._line_s, self._pause_s = 0, float("-inf"), PAUSE_S

    def update(self, reports: Mapping[str, SensorState], now_s: float) -> None:
        """Look at all sensors at a steady time; to be called a few times a second."""
        used = frozenset(name for name, report in reports.items() if report.used)
        if self._used is None:
            self._used = self._seen = used
            return
        self._changes, self._seen = self._changes + (used != self._seen), used
        if now_s - self._line_s > 2 * LONGEST_PAUSE_S:
            self._pause_s = PAUSE_S
        if used == self._used or now_s - self._line_s < self._pause_s:
            return
        gone, back = sorted(self._used - used), sorted(used - self._used)
        parts = [f"gone: {', '.join(f'{name} ({reports[name].words})' for name in gone)}"] if gone else []
        parts += [f"there: {', '.join(back)}"] if back else []
        often = f"; {self._changes} changes since the last line" if self._changes > 1 else ""
        line = f"sensors {'; '.join(parts)}; frames stand on {standing(used, reports)}{often}"
        # rclpy's logger refuses two severities from one line of code.
        if gone:
            self._on_gone(line)
        else:
            self._on_back(line)
        if now_s - self._line_s < 2 * self._pause_s:
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
        self._used, self._changes, self._line_s = used, 0, now_s


def standing(used: frozenset[str], reports: Mapping[str, SensorState]) -> str:
    """Return the modalities in use with their numbers, e.g. `lidar, 5 of 6 cameras`."""
    parts = []
    for modality, word in (
        ("lidar", "LiDAR"),
        ("camera", "camera"),
        ("radar", "radar"),
        ("imu", "IMU"),
        ("gnss", "GNSS"),
    ):
        all_of = [name for name in reports if modality_of_channel(name) == modality]
        here = sum(name in used for name in all_of)
        if here:
            parts.append(word if len(all_of) == 1 else f"{here} of {len(all_of)} {word}s")
    return ", ".join(parts) or "nothing: the node is blind"
