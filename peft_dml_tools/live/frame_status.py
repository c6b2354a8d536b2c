# SPDX-License-Identifier: Apache-2.0
"""What the perception node says of each frame, read from its status messages."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from peft_dml_ros.core.classes import DETECTING, MODALITIES

ENGINES: Final = (*MODALITIES, "fusion")  #: Stages of a frame that are the engines' own
FRAME_DROPS: Final = "frame: "
ERROR: Final = 2  #: `diagnostic_msgs/DiagnosticStatus.ERROR`


class SensorStatus(NamedTuple):
    """What the node says of one sensor: counts are since its start, `detail` is the reason with age and number."""

    state: str
    reason: str
    received: int
    admitted: int
    gated: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FrameStatus:
    """One status message of the node; times in ms are since the stamp of the frame, or of a stage."""

    stamp_ns: int  #: Time of the reference sensor's measurement, or of the clock when none came
    seen_ns: int  #: When the message arrived at the recorder
    says_blind: bool  #: The node says that nothing sees
    values: Mapping[str, str]  #: Key-value pairs of the frame
    sensors: Mapping[str, SensorStatus]  #: By name
    #: What the load controller has given up; more than nothing is what the node calls LOADED
    given_up: tuple[str, ...] = ()

    @classmethod
    def of(cls, message: Any, stamp_ns: int, seen_ns: int) -> "FrameStatus":
        """Read a decoded DiagnosticArray."""
        statuses = {str(s.name).rpartition(": ")[2]: s for s in message.status}
        sensors = {
            name.removeprefix("sensor "): _sensor({str(p.key): str(p.value) for p in status.values})
            for name, status in statuses.items()
            if name.startswith("sensor ")
        }
        frame = statuses.get("frame")
        values = {} if frame is None else {str(p.key): str(p.value) for p in frame.values}
        level = b"\0" if frame is None else frame.level
        number = level[0] if isinstance(level, bytes) else int(level)
        blind = frame is not None and number == ERROR and "BLIND" in frame.message
        load = statuses.get("load")
        given_up = tuple(str(p.value) for p in load.values if str(p.key).startswith("given_up.")) if load else ()
        return cls(stamp_ns, seen_ns, blind, values, sensors, given_up)

    def vector(self, kind: str) -> list[float]:
        """Return a figure of each modality, in the order of `MODALITIES`; 0 where it is missing."""
        return [float(self.values.get(f"{kind}.{modality}", "0")) for modality in MODALITIES]

    def count(self, name: str) -> int:
        """Return a count; 0 where it is missing."""
        return int(self.values.get(name, "0"))

    @property
    def reference(self) -> str:
        """Sensor that gave the stamp."""
        return self.values.get("reference", "")

    @property
    def present(self) -> tuple[str, ...]:
        """Modalities that were used."""
        return tuple(m for m in MODALITIES if self.values.get(f"mask.{m}") == "1")

    @property
    def sees(self) -> bool:
        """Whether a modality that detects was used; otherwise no engine ran."""
        return not set(self.present).isdisjoint(DETECTING)

    @property
    def boxes(self) -> int:
        """Number of boxes that were published."""
        return self.count("boxes")

    @property
    def latency_ms(self) -> float:
        """Time until the boxes were published."""
        return float(self.values.get("latency_ms", "nan"))

    @property
    def stages_ms(self) -> dict[str, float]:
        """Time of each stage, in the order of the node."""
        prefix = "stage_ms."
        return {k.removeprefix(prefix): float(v) for k, v in self.values.items() if k.startswith(prefix)}

    @property
    def arrival_ms(self) -> float:
        """Time until the node decided that the frame is due."""
        return float(self.values.get("stage_ms.arrival", "0"))

    @property
    def at_ns(self) -> int:
        """When the frame was made, by the node's clock."""
        return self.stamp_ns + int(self.arrival_ms * 1e6)

    @property
    def work_ms(self) -> float:
        """Time from there to the publication."""
        return self.latency_ms - self.arrival_ms

    @property
    def engines_ms(self) -> float:
        """Sum of the engines' times."""
        return sum(float(self.values.get(f"stage_ms.{stage}", "0")) for stage in ENGINES)

    @property
    def drops(self) -> dict[str, int]:
        """Messages and frames dropped since the node's start, by reason."""
        return {k.removeprefix("drops."): int(v) for k, v in self.values.items() if k.startswith("drops.")}

    @property
    def unaccounted(self) -> int:
        """Frames that were due and neither published, nor counted as dropped, nor waiting."""
        lost = sum(n for reason, n in self.drops.items() if reason.startswith(FRAME_DROPS))
        return self.count("frames.triggered") - self.count("frames.published") - lost - self.count("frames.waiting")

    def state(self, sensor: str) -> str:
        """Return the state of a sensor; OK where the node does not name it."""
        found = self.sensors.get(sensor)
        return "OK" if found is None else found.state


def _sensor(values: Mapping[str, str]) -> SensorStatus:
    received, admitted, gated = (int(values.get(name, "0")) for name in ("received", "admitted", "gated"))
    state, reason, detail = (values.get(name, "") for name in ("state", "reason", "detail"))
    return SensorStatus(state, reason, received, admitted, gated, detail)
