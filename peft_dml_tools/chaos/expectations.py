# SPDX-License-Identifier: Apache-2.0
"""What each fault must do to a sensor: the state it takes, and how soon. One table; everything else follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from peft_dml_ros.core.health import State
from peft_dml_ros.core.params import HealthParams
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_tools.sim.faults import Fault
from peft_dml_tools.sim.schedule import DriveSpec

SEEING: Final = ("lidar", "camera", "radar")
EVERY: Final = (*SEEING, "imu", "gnss", "odometry")
TOLERANCE_S: Final = 0.1  #: One frame: states arrive with frames, ten a second
GAP: Final = frozenset({State.LATE.value, State.STALE.value})
HEALTH: Final = HealthParams()


def kind_of(sensor: str) -> str:
    """Return the modality of a sensor, or `odometry`."""
    return modality_of_channel(sensor) or "odometry"


def period_s(sensor: str) -> float:
    """Return seconds between two of its measurements in the drive of these tests."""
    return 1.0 / DriveSpec().rate_hz(sensor)


def max_age_s(sensor: str) -> float:
    """Return the age beyond which it is stale."""
    kind = kind_of(sensor)
    limit: float = getattr(HEALTH, f"max_age_{kind}_s", HEALTH.max_age_imu_s)
    return limit + (period_s(sensor) if kind == "camera" else 0.0)


@dataclass(frozen=True, slots=True)
class FaultVariant:
    """One fault as it is tried."""

    fault: str  #: Kind, as fault scripts name it
    fields: Mapping[str, Any] = field(default_factory=dict)  #: Its settings
    #: Per kind of sensor, the states of which it must take one; a kind without an entry keeps its state
    states: Mapping[str, frozenset[str]] = field(default_factory=dict)
    by_age: bool = False  #: The state comes when the newest usable measurement is too old, not within two periods
    #: Beyond two periods, what the node needs by its parameters
    extra_s: Mapping[str, float] = field(default_factory=dict)
    hits: tuple[str, ...] = EVERY  #: Kinds of sensor that it can hit
    why: str = ""  #: Why kinds that it hits keep their state, for the page

    def made(self, sensor: str, from_s: float, to_s: float) -> Fault:
        """Return the fault of one sensor."""
        tree = {"sensor": sensor, "fault": self.fault, "from_s": from_s, "to_s": to_s, **self.fields}
        return Fault.model_validate(tree)

    def wanted(self, sensor: str) -> frozenset[str]:
        """Return states of which the sensor must take one; empty when none is called for."""
        return self.states.get(kind_of(sensor), frozenset())

    def limit_s(self, sensor: str) -> float:
        """Return how soon after the first message that is hit."""
        if self.by_age:
            return max_age_s(sensor) + period_s(sensor) + TOLERANCE_S
        return 2 * period_s(sensor) + self.extra_s.get(kind_of(sensor), 0.0) + TOLERANCE_S


def _all(state: State | frozenset[str], kinds: tuple[str, ...] = EVERY) -> dict[str, frozenset[str]]:
    states = frozenset({state.value}) if isinstance(state, State) else state
    return dict.fromkeys(kinds, states)


COUNTED: Final = "usable messages go on; what is refused is counted"
#: By the name that reports use
VARIANTS: Final[dict[str, FaultVariant]] = {
    "silence": FaultVariant("silence", states=_all(GAP)),
    "freeze": FaultVariant(
        "freeze", states=_all(State.FROZEN, SEEING), why="a vehicle that stands measures the same again and again"
    ),
    "delay": FaultVariant("delay", {"delay_s": 0.6}, states=_all(GAP)),
    "drop": FaultVariant("drop", {"share": 0.5}, why=COUNTED),
    "jitter": FaultVariant("jitter", {"delay_s": 0.2}, why=COUNTED),
    "clock ahead": FaultVariant("skew", {"offset_s": 0.5}, states=_all(State.CLOCK)),
    "clock behind": FaultVariant(
        "skew",
        {"offset_s": -0.6},
        states=_all(State.STALE, ("lidar", "camera", "radar", "imu", "odometry")),
        by_age=True,
        why="a fix may be two seconds old",
    ),
    "clock lost": FaultVariant("skew", {"offset_s": -1000.0}, states=_all(State.CLOCK)),
    "bytes damaged": FaultVariant("corrupt", {"severity": 2}, why=COUNTED),
    "cut short": FaultVariant("corrupt", {"severity": 3}, states=_all(GAP)),
    "blackout": FaultVariant(
        "blackout",
        # A black picture that repeats itself is frozen as well.
        states=_all(State.DEGRADED, ("lidar",)) | _all(frozenset({"DEGRADED", "FROZEN"}), ("camera",)),
        extra_s={"camera": HEALTH.image_check_s},
        hits=SEEING,
        why="an empty radar cycle is an honest one",
    ),
    "reorder": FaultVariant("reorder", {"share": 0.5}, why=COUNTED),
    "duplicate": FaultVariant("duplicate", {"share": 0.5}, why=COUNTED),
    "fog": FaultVariant("weather", {"weather": "fog=50"}, hits=SEEING, why="weather is no fault of the sensor"),
}

#: Modalities that fall silent together; with the last one the node must say that it is blind
COMBINATIONS: Final = (
    ("lidar",),
    ("camera",),
    ("radar",),
    ("lidar", "camera"),
    ("lidar", "radar"),
    ("camera", "radar"),
    ("lidar", "camera", "radar"),
)

#: Sensors that suffer the same fault at the same time: what is expected of one does not depend on the others
GROUPS: Final = (
    ("LIDAR_TOP", "GNSS"),
    ("CAM_FRONT", "CAM_BACK", "RADAR_FRONT", "RADAR_BACK_LEFT", "IMU"),
    ("CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "RADAR_FRONT_LEFT", "RADAR_BACK_RIGHT", "ODOM"),
    ("CAM_BACK_RIGHT", "CAM_FRONT_LEFT", "RADAR_FRONT_RIGHT"),
)
