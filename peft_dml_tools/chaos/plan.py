# SPDX-License-Identifier: Apache-2.0
"""Which faults are tried when: the phases of a drive that is repeated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from peft_dml_ros.core.params import ALL_SENSORS
from peft_dml_tools.chaos.expectations import COMBINATIONS, GROUPS, VARIANTS, FaultVariant, kind_of
from peft_dml_tools.sim.faults import Fault

BEGIN_S: Final = 3.0  #: Before the first fault: all sensors are seen, and the pace without faults is known
FAULT_S: Final = 1.5
REST_S: Final = 1.3  #: After a fault: a second to recover, and some to see that it lasts


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of a drive."""

    from_s: float  #: Begin of its faults, since the start of the drive
    to_s: float  #: Their end
    variants: Mapping[str, str] = field(default_factory=dict)  #: Name of the fault by sensor
    silent: tuple[str, ...] = ()  #: Instead, modalities that fall silent together

    @property
    def until_s(self) -> float:
        """End of the recovery."""
        return self.to_s + REST_S

    @property
    def faults(self) -> list[Fault]:
        """Faults of the phase as a script."""
        together = [VARIANTS["silence"].made(modality, self.from_s, self.to_s) for modality in self.silent]
        return together + [VARIANTS[v].made(s, self.from_s, self.to_s) for s, v in self.variants.items()]


def hits(variant: FaultVariant, sensor: str) -> bool:
    """Return whether a fault can hit a sensor."""
    return kind_of(sensor) in variant.hits


def full_plan() -> list[Phase]:
    """Return every fault with every sensor, and every combination of silent modalities."""
    tried = [{s: name for s in group if hits(variant, s)} for name, variant in VARIANTS.items() for group in GROUPS]
    return _consecutive([t for t in tried if t], COMBINATIONS)


def short_plan() -> list[Phase]:
    """Return some faults of some sensors in three phases, then a node that is blind."""
    tried = [
        {"LIDAR_TOP": "silence", "CAM_FRONT": "blackout", "RADAR_FRONT": "freeze", "IMU": "clock ahead"},
        {"CAM_FRONT": "cut short", "RADAR_FRONT": "clock lost", "GNSS": "delay", "ODOM": "silence"},
        {"LIDAR_TOP": "freeze", "CAM_FRONT": "reorder", "RADAR_FRONT": "duplicate", "IMU": "bytes damaged"},
    ]
    return _consecutive(tried, (("lidar", "camera", "radar"),))


def _consecutive(tried: list[dict[str, str]], combinations: tuple[tuple[str, ...], ...]) -> list[Phase]:
    entries: list[tuple[Mapping[str, str], tuple[str, ...]]] = [(t, ()) for t in tried]
    entries += [({}, silent) for silent in combinations]
    phases, from_s = [], BEGIN_S
    for variants, silent in entries:
        phases.append(Phase(from_s, from_s + FAULT_S, variants, silent))
        from_s = phases[-1].until_s
    return phases


def random_minute(minute: int, seed: int) -> list[Phase]:
    """Return a minute of random faults: every three seconds or so, one to three sensors suffer each its own."""
    rng = np.random.default_rng(seed)
    phases, at_s = [], 60.0 * minute + 2.0
    while at_s < 60.0 * (minute + 1) - 4.0:
        sensors = [str(s) for s in rng.choice(ALL_SENSORS, rng.integers(1, 4), replace=False)]
        drawn = {s: str(rng.choice([n for n, v in VARIANTS.items() if hits(v, s)])) for s in sensors}
        length_s = float(rng.uniform(0.5, 2.0))
        phases.append(Phase(at_s, at_s + length_s, drawn))
        at_s += length_s + float(rng.uniform(0.5, 1.5))
    return phases
