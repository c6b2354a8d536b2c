# SPDX-License-Identifier: Apache-2.0
"""What is done to a frame before it is evaluated: weather, or a corruption of a published benchmark."""

from collections.abc import Iterable
from dataclasses import dataclass

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_tools.sim.corruptions import CORRUPTIONS, corrupt
from peft_dml_tools.sim.weather import Weather, apply_to_snapshot

SEVERITIES = (1, 2, 3)


@dataclass(frozen=True, slots=True)
class Condition:
    """One weather or one corruption at one severity; clear air when neither is given."""

    weather: Weather  #: Fog, rain, snow or clear air
    corruption: str = ""  #: Name in `CORRUPTIONS`
    severity: int = 0  #: 1 to 3, of the corruption

    def __str__(self) -> str:
        """Return the unique name, e.g. `clear`, `fog=50`, `dark/3`."""
        return f"{self.corruption}/{self.severity}" if self.corruption else str(self.weather)

    def apply(self, snapshot: Snapshot, rig: Rig, previous: Snapshot | None, boxes: Boxes3D) -> Snapshot:
        """Return the frame under this condition; the same frame always gives the same result.

        Args:
            snapshot: As recorded.
            rig: Mountings and calibration.
            previous: The scene's frame before, for stale contents.
            boxes: Truth in `base_link`, for objects that return nothing.
        """
        if self.corruption:
            return corrupt(snapshot, self.corruption, self.severity, rig, previous=previous, boxes=boxes)
        return apply_to_snapshot(snapshot, rig, self.weather)


CLEAR = Condition(Weather())


def parse_condition(text: str) -> Condition:
    """Return the weather or a corruption by the name that `str` gives, such as `clear`, `fog=50`, `dark/2`.

    Raises ConfigError: no such weather, corruption or severity.
    """
    name, slash, level = text.partition("/")
    if not slash:
        return Condition(Weather.parse(text))
    if not level.isdigit():
        raise ConfigError(f"'{text}': no such severity; fix: write 1, 2 or 3 after '/'")
    return parse_conditions((), (name,), (int(level),))[0]


def parse_conditions(
    weather: Iterable[str] = (), corruptions: Iterable[str] = (), severities: Iterable[int] = ()
) -> tuple[Condition, ...]:
    """Return conditions of a command line; clear air where it names none.

    Raises ConfigError: an unknown weather or corruption, or a severity that is not 1, 2 or 3.
    """
    levels = tuple(severities) or SEVERITIES
    if wrong := [s for s in levels if s not in SEVERITIES]:
        raise ConfigError(f"--severity {wrong[0]}; fix: choose 1, 2 or 3")
    found = [Condition(Weather.parse(text)) for text in weather]
    for name in corruptions:
        if name not in CORRUPTIONS:
            raise ConfigError(f"no corruption '{name}'; {nearest(name, CORRUPTIONS)}")
        found += [Condition(Weather(), name, severity) for severity in levels]
    return tuple(dict.fromkeys(found)) or (CLEAR,)
