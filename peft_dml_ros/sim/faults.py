# SPDX-License-Identifier: Apache-2.0
"""Scripted sensor faults: which sensor does what, and when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import yaml
from pydantic import Field, ValidationError, model_validator

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.rig import Rig, modality_of_channel
from peft_dml_ros.core.spec import Frozen

FaultKind: TypeAlias = Literal["silence", "freeze", "delay"]


class Fault(Frozen):
    """One fault of one sensor, or of all sensors of a modality."""

    sensor: str = Field(description="Sensor name (LIDAR_TOP), or a modality (camera) for all of its sensors")
    fault: FaultKind = Field(
        description="silence: nothing arrives; freeze: the last payload again with new stamps; delay: it arrives late"
    )
    from_s: float = Field(0.0, ge=0, description="Start, seconds from the beginning of the drive")
    to_s: float = Field(description="End, seconds from the beginning of the drive")
    delay_s: float = Field(0.2, ge=0, description="How late, for `delay`")

    @model_validator(mode="after")
    def _check(self) -> Fault:
        if self.to_s <= self.from_s:
            msg = f"fault of {self.sensor}: to_s {self.to_s} must be greater than from_s {self.from_s}"
            raise ValueError(msg)
        if self.sensor not in MODALITIES:
            modality_of_channel(self.sensor)
        return self

    def hits(self, sensor: str, time_s: float) -> bool:
        """Whether this fault concerns a sensor at a time."""
        return self.from_s <= time_s < self.to_s and self.sensor in {sensor, modality_of_channel(sensor)}


DEMO_FAULTS = (
    Fault(sensor="LIDAR_TOP", fault="silence", from_s=4.0, to_s=7.0),
    Fault(sensor="camera", fault="silence", from_s=8.0, to_s=10.0),
    Fault(sensor="RADAR_FRONT_LEFT", fault="freeze", from_s=5.0, to_s=9.0),
)
"""What happens in the demo."""


def apply(faults: Sequence[Fault], sensor: str, time_s: float) -> Fault | None:
    """The fault that governs a sensor at a time: silence before freeze before delay; `None` while it works."""
    found = [f for f in faults if f.hits(sensor, time_s)]
    order = {"silence": 0, "freeze": 1, "delay": 2}
    return min(found, key=lambda f: order[f.fault]) if found else None


def check_sensors(faults: Sequence[Fault], rig: Rig) -> None:
    """Refuses a script that names a sensor the rig does not carry.

    Raises:
        ConfigError: with all such names.
    """
    known = [*rig.sensors, *MODALITIES]
    wrong = [f"'{f.sensor}': {nearest(f.sensor, known)}" for f in faults if f.sensor not in known]
    if wrong:
        msg = f"the fault script names unknown sensors: {'; '.join(wrong)}"
        raise ConfigError(msg)


def load_faults(path: Path) -> tuple[Fault, ...]:
    """Reads a YAML list of faults.

    Raises:
        ConfigError: the file is missing, is no list, or an entry is wrong; the entry and field are named.
    """
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"cannot read the fault script {path}: {error}"
        raise ConfigError(msg) from error
    if entries is None:
        return ()
    if not isinstance(entries, list):
        msg = f"{path} must hold a YAML list of {{sensor, fault, from_s, to_s}}, not a {type(entries).__name__}"
        raise ConfigError(msg)
    faults, problems = [], []
    for number, entry in enumerate(entries, start=1):
        try:
            faults.append(Fault.model_validate(entry))
        except ValidationError as error:  # noqa: PERF203 - all wrong entries are told at once
            details = ", ".join(f"{'.'.join(map(str, e['loc'])) or 'entry'}: {e['msg']}" for e in error.errors())
            problems.append(f"entry {number}: {details}")
        except ConfigError as error:
            problems.append(f"entry {number}: {error}")
    if problems:
        msg = f"{path}: {'; '.join(problems)}; faults are silence, freeze, delay"
        raise ConfigError(msg)
    return tuple(faults)


def dump_faults(faults: Sequence[Fault]) -> str:
    """YAML text that `load_faults` reads back."""
    return yaml.safe_dump([f.model_dump() for f in faults], sort_keys=False)
