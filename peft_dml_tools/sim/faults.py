# SPDX-License-Identifier: Apache-2.0
"""Scripted sensor faults: which sensor does what, and when. `fault_stream` acts them out, live and offline alike."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.rig import Rig, modality_of_channel
from peft_dml_ros.core.spec import Frozen
from peft_dml_tools.sim.corruptions import CORRUPTIONS
from peft_dml_tools.sim.weather import Weather

FaultKind: TypeAlias = Literal[
    "silence", "drop", "weather", "corrupt", "blackout", "freeze", "skew", "delay", "jitter", "reorder", "duplicate"
]
#: In the order in which they act when a sensor has several at once
KINDS: Final[tuple[FaultKind, ...]] = get_args(FaultKind)

ALL: Final = "all"  #: Stands for every sensor
BYTES: Final = "bytes"  #: The `corruption` that damages bytes of the message

#: Corruptions that need a whole annotated frame; a single message cannot suffer them
FRAME_ONLY: Final = frozenset({"object_failure"})

MESSAGE_CORRUPTIONS: Final = (BYTES, *(name for name in CORRUPTIONS if name not in FRAME_ONLY))

#: Fields that a kind of fault reads, next to sensor, from_s and to_s
FIELDS: Final[dict[FaultKind, tuple[str, ...]]] = {
    "silence": (),
    "drop": ("share", "seed"),
    "weather": ("weather", "seed"),
    "corrupt": ("corruption", "severity", "share", "seed"),
    "blackout": ("share", "seed"),
    "freeze": (),
    "skew": ("offset_s",),
    "delay": ("delay_s",),
    "jitter": ("delay_s", "seed"),
    "reorder": ("share", "seed"),
    "duplicate": ("share", "seed"),
}

MEANING: Final[dict[FaultKind, str]] = {
    "silence": "nothing arrives",
    "drop": "a share of the messages is lost",
    "weather": "fog, rain or snow; `sensor` may be left out: it is the same for all that look outside",
    "corrupt": "bytes wrong or missing, or a corruption by name, on a share of the messages",
    "blackout": "a share of the pictures is black, of the clouds empty",
    "freeze": "the last payload again and again, under new stamps",
    "skew": "the sensor's clock is ahead by `offset_s`, behind when negative",
    "delay": "everything arrives later by `delay_s`",
    "jitter": "each message arrives later by a time of its own, at most `delay_s`",
    "reorder": "a share of the messages arrives after the next one",
    "duplicate": "a share of the messages arrives twice",
}

_COMMON: Final = ("sensor", "fault", "from_s", "to_s")
_SEEING: Final = frozenset({"lidar", "radar", "camera"})


class Fault(Frozen):
    """One fault of one sensor, of all sensors of a modality, or of all."""

    sensor: str = Field(ALL, description="Sensor (LIDAR_TOP), modality (camera), or all; only weather may go without")
    fault: FaultKind = Field(description="What happens; see docs/data.md")
    from_s: float = Field(0.0, ge=0, description="Start, seconds from the beginning of the drive")
    to_s: float = Field(float("inf"), description="End, seconds from the beginning of the drive")
    share: float = Field(1.0, gt=0, le=1, description="Share of the messages that are hit")
    delay_s: float = Field(0.2, ge=0, le=3600, description="delay: how late; jitter: how late at most")
    offset_s: float = Field(
        0.1, ge=-86_400, le=86_400, description="skew: what the sensor's clock is ahead, negative when behind"
    )
    corruption: str = Field(BYTES, description="bytes, or a corruption of docs/weather.md")
    severity: int = Field(2, ge=1, le=3, description="Of the corruption")
    weather: str = Field("", description="fog=50 (m), rain=25 or snow=5 (mm/h)")
    seed: int = Field(0, ge=0, description="Of what is left to chance")

    @field_validator("corruption")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in MESSAGE_CORRUPTIONS:
            also = " (it needs an annotated frame)" if name in FRAME_ONLY else ""
            raise ValueError(f"no message can be hit by '{name}'{also}; {nearest(name, MESSAGE_CORRUPTIONS)}")
        return name

    @model_validator(mode="after")
    def _check(self) -> "Fault":
        if not self.to_s > self.from_s:  # so that nan is refused, too
            raise ValueError(f"fault of {self.sensor}: to_s {self.to_s} must be greater than from_s {self.from_s}")
        if unused := sorted(self.model_fields_set - {*_COMMON, *FIELDS[self.fault]}):
            takes = ", ".join(FIELDS[self.fault]) or "nothing but sensor, from_s and to_s"
            raise ValueError(f"{self.fault} does not use {', '.join(unused)}; it takes {takes}")
        if self.fault == "weather":
            Weather.parse(self.weather)
        elif "sensor" not in self.model_fields_set:
            raise ValueError(f"{self.fault}: name the sensor, e.g. sensor: LIDAR_TOP, or {ALL}")
        if self.sensor not in {ALL, *MODALITIES}:
            modality_of_channel(self.sensor)
        return self

    @property
    def damages_bytes(self) -> bool:
        """Whether it acts on bytes rather than on what they say."""
        return self.fault == "corrupt" and self.corruption == BYTES

    def hits(self, sensor: str, time_s: float) -> bool:
        """Return whether this fault concerns a sensor at a time; the sky only those that look into it."""
        if not self.from_s <= time_s < self.to_s:
            return False
        modality = modality_of_channel(sensor)
        if self.fault in {"weather", "blackout"} and modality not in _SEEING:
            return False
        return self.sensor in {ALL, sensor, modality}

    def __str__(self) -> str:
        """Return a few words, e.g. for the title of a report."""
        words: dict[str, str] = {"silence": "silent", "freeze": "frozen", "delay": "late"}
        details = [
            f"{name} {getattr(self, name)}".removeprefix("weather ")
            for name in FIELDS[self.fault]
            if name in self.model_fields_set
        ]
        who = {"camera": "all cameras", ALL: "all sensors"}.get(self.sensor, self.sensor)
        until = "the end" if self.to_s == float("inf") else f"{self.to_s:g} s"
        return " ".join([who, words.get(self.fault, self.fault), *details, f"from {self.from_s:g} s to {until}"])


#: What happens in the demo
DEMO_FAULTS = (
    Fault(sensor="LIDAR_TOP", fault="silence", from_s=4.0, to_s=7.0),
    Fault(sensor="camera", fault="silence", from_s=8.0, to_s=10.0),
    Fault(sensor="RADAR_FRONT_LEFT", fault="freeze", from_s=5.0, to_s=9.0),
)


def weather_fault(text: str, seed: int = 0) -> tuple[Fault, ...]:
    """Return a whole drive in one weather, `rain=25` for example; nothing for clear air.

    Raises ConfigError: another kind, no number, or a number outside its range.
    """
    return () if Weather.parse(text).is_clear else (Fault(fault="weather", weather=text, seed=seed),)


def active(faults: Sequence[Fault], sensor: str, time_s: float) -> list[Fault]:
    """Return the faults of a sensor at a time, in the order in which they act."""
    return sorted((f for f in faults if f.hits(sensor, time_s)), key=lambda f: KINDS.index(f.fault))


def check_sensors(faults: Sequence[Fault], sensors: Iterable[str] | Rig) -> None:
    """Refuse a script that names a sensor which is not there. Raises ConfigError: with all such names."""
    names = sensors.sensors if isinstance(sensors, Rig) else sensors
    known = {*names, *MODALITIES, ALL}
    wrong = [f"'{f.sensor}': {nearest(f.sensor, known)}" for f in faults if f.sensor not in known]
    if wrong:
        raise ConfigError(f"the fault script names unknown sensors: {'; '.join(wrong)}")


def load_faults(path: Path) -> tuple[Fault, ...]:
    """Read a YAML list of faults. Raises ConfigError: no file, no list, or a wrong entry; entry and field are named."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the fault script {path}: {error}; fix: check the path") from error
    return parse_faults(text, str(path))


def parse_faults(text: str, where: str = "the fault script") -> tuple[Fault, ...]:
    """Return the faults of a YAML text: a list of {sensor, fault, from_s, to_s, ...}.

    Raises ConfigError: it is no list, or an entry is wrong; all wrong entries and fields are named.
    """
    try:
        entries = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # A date that is none is a plain ValueError of PyYAML's.
        raise ConfigError(f"cannot read the fault script {where}: {error}; fix: write a YAML list") from error
    if entries is None:
        return ()
    if not isinstance(entries, list):
        msg = f"{where} is a {type(entries).__name__}; fix: write a YAML list of {{sensor, fault, from_s, to_s}}"
        raise ConfigError(msg)
    faults, problems = [], []
    for number, entry in enumerate(entries, start=1):
        try:
            faults.append(Fault.model_validate(entry))
        except ValidationError as error:  # noqa: PERF203 - all wrong entries are named at once
            problems.append(f"entry {number}: {', '.join(_complaint(dict(e)) for e in error.errors())}")
        except ConfigError as error:
            problems.append(f"entry {number}: {error}")
    if problems:
        raise ConfigError(f"{where}: {'; '.join(problems)}; fix: faults are {', '.join(KINDS)}")
    return tuple(faults)


def dump_faults(faults: Sequence[Fault]) -> str:
    """Return YAML text that `load_faults` reads back."""
    return yaml.safe_dump([f.model_dump(exclude_unset=True) for f in faults], sort_keys=False)


def _complaint(error: dict[str, Any]) -> str:
    """Return one complaint of pydantic in our words: field, what is wrong, and the nearest name for a misspelt one."""
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"no field '{place}'; {nearest(place, Fault.model_fields)}"
    if error["type"] == "literal_error":
        return f"{place} '{error['input']}': {nearest(str(error['input']), KINDS)}"
    return f"{place or 'entry'}: {error['msg'].removeprefix('Value error, ')}"
