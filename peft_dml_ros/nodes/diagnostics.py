# SPDX-License-Identifier: Apache-2.0
"""State of the node and its sensors as diagnostic messages: with every frame and once a second.

Written as bytes: a status has five hundred strings, and each frame has one.
"""

import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any, NamedTuple

from rclpy.node import Node

from peft_dml_ros.conversions.cdr import LITTLE_ENDIAN, NS_PER_S
from peft_dml_ros.core.classes import DETECTING, MODALITIES
from peft_dml_ros.core.detector import Detections
from peft_dml_ros.core.health import SensorState, State

_OK, _WARN, _ERROR, _STALE = 0, 1, 2, 3
_LEVELS = {State.OK: _OK} | dict.fromkeys((State.STALE, State.MISSING), _STALE)


class _Status(NamedTuple):
    """A diagnostic_msgs/DiagnosticStatus."""

    name: str
    level: int
    text: str
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """The node at one instant."""

    sensors: Mapping[str, SensorState]  #: By name
    drops: Mapping[str, int]  #: Everything that was dropped since the start, by reason
    frames: Mapping[str, int] = field(default_factory=dict)  #: Frames triggered, published, waiting
    detections: Detections | None = None  #: The last frame, `None` before the first
    latency_ms: float = 0.0  #: From the stamp of that frame to its publication, by the node's clock
    idle_s: float = 0.0  #: Time since that publication
    given_up: tuple[str, ...] = ()  #: What the load controller has given up


class NodeIdentity(NamedTuple):
    """Who speaks."""

    node: str  #: Fully qualified name of the node, without its leading slash
    vehicle: str  #: The vehicle: namespace of the node, or name of the host
    model: str  #: Bundle in use


def identity_of(node: Node, model: str) -> NodeIdentity:
    """Return who a node speaks for."""
    vehicle = node.get_namespace().strip("/") or socket.gethostname()
    return NodeIdentity(node.get_fully_qualified_name().lstrip("/"), vehicle, model)


def sensor_reports(
    states: Mapping[str, SensorState], missing: Mapping[str, str], received: Mapping[str, int]
) -> dict[str, SensorState]:
    """Join health as the synchroniser knows it with what it cannot know: messages that never got that far."""
    reports = {}
    for name, state in states.items():
        known: dict[str, Any] = {"received": received.get(name, 0)}
        if name in missing and known["received"]:
            known |= {"state": State.UNCALIBRATED, "reason": missing[name], "detail": missing[name]}
        reports[name] = replace(state, **known)
    return reports


def to_diagnostics(report: NodeReport, stamp_ns: int, identity: NodeIdentity) -> bytes:
    """Return a serialised DiagnosticArray with one status for the frame, one for the load, one per sensor.

    Args:
        report: State of the node.
        stamp_ns: Stamp of the message.
        identity: Who speaks: names begin with the node, `hardware_id` is the vehicle.
    """
    sensors = (_sensor_status(name, s) for name, s in report.sensors.items())
    statuses = [_frame_status(report, identity.model), _load_status(report), *sensors]
    out = bytearray(struct.pack("<iII", *divmod(stamp_ns, NS_PER_S), 1) + b"\0")
    _put(out, len(statuses))
    for status in statuses:
        out.append(status.level)
        for text in (f"{identity.node}: {status.name}", status.text, identity.vehicle):
            _put(out, text)
        _put(out, len(status.values))
        for key, value in status.values.items():
            _put(out, key)
            _put(out, _text(value))
    return LITTLE_ENDIAN + bytes(out)


def _put(out: bytearray, value: int | str) -> None:
    """Append a number, or a string after its length, at a multiple of four."""
    content = b"" if isinstance(value, int) else value.encode() + b"\0"
    number = value if isinstance(value, int) else len(content)
    out += bytes(-len(out) % 4) + number.to_bytes(4, "little") + content


def _load_status(report: NodeReport) -> _Status:
    values = {f"given_up.{i}": words for i, words in enumerate(report.given_up)}
    if report.given_up:
        return _Status("load", _WARN, f"LOADED: {', '.join(report.given_up)}", values)
    return _Status("load", _OK, "nothing is given up", values)


def _frame_status(report: NodeReport, model: str) -> _Status:
    values: dict[str, object] = {"model": model} | {f"frames.{kind}": n for kind, n in report.frames.items()}
    found = report.detections
    if found is not None:
        values |= {"latency_ms": report.latency_ms, "reference": found.reference, "boxes": len(found.boxes)}
        for i, modality in enumerate(MODALITIES):
            values[f"mask.{modality}"] = int(found.mask[i])
            values[f"gate.{modality}"] = float(found.gate[i])
            values[f"age_s.{modality}"] = float(found.age_s[i])
        values |= {f"stage_ms.{stage}": ms for stage, ms in found.stages_ms.items()}
    values |= {f"drops.{reason}": n for reason, n in report.drops.items()}
    level, text = _judge(report)
    return _Status("frame", level, text, values)


def _judge(report: NodeReport) -> tuple[int, str]:
    found = report.detections
    if found is None:
        return _WARN, "no frame yet"
    if found.blind:
        return _ERROR, f"BLIND: none of {', '.join(DETECTING)} delivers"
    if report.idle_s > 1.0:
        return _STALE, f"no frame for {report.idle_s:.1f} s"
    absent = [m for i, m in enumerate(MODALITIES) if not found.mask[i]]
    if absent:
        return _WARN, f"without {', '.join(absent)}"
    return _OK, "all modalities"


def _sensor_status(name: str, sensor: SensorState) -> _Status:
    values: dict[str, object] = {
        "state": sensor.state.value,
        "reason": sensor.reason,
        "detail": sensor.detail,
        "age_s": sensor.age_s,
        "rate_hz": sensor.rate_hz,
        "received": sensor.received,
        "admitted": sensor.admitted,
        "gated": sensor.gated,
    }
    return _Status(f"sensor {name}", _LEVELS.get(sensor.state, _WARN), sensor.words, values)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}" if isfinite(value) else str(value)
    return str(value)
