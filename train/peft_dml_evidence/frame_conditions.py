# SPDX-License-Identifier: Apache-2.0
"""Conditions under which frames are scored: weather, published corruptions, lost, frozen and late sensors."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import DETECTING, Modality
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_tools.sim.corruptions import corrupt
from peft_dml_train.evaluation.conditions import Condition, parse_condition

CONDITION_SOURCES = (Path(__file__),)  #: Sources that frames of a cache depend on besides those of the training
WITH_RADAR = "+radar"
FIELD = {"lidar": "lidar", "camera": "cameras", "radar": "radars"}  #: Of a snapshot
ODOMETRY = "lost_odometry"
LOST_ODOMETRY = tuple(f"{ODOMETRY}{also}" for also in ("", ":imu", ":gnss", ":imu+gnss"))
MOTION: tuple[Modality, ...] = ("imu", "gnss")


class FrameCondition(Protocol):
    """A change of frames with the interface of `Condition`."""

    def apply(self, snapshot: Snapshot, rig: Rig, previous: Snapshot | None, boxes: Boxes3D) -> Snapshot:
        """See `Condition.apply`."""


@dataclass(frozen=True, slots=True)
class WithRadarNoise:
    """A corruption, and all four kinds of radar noise at its severity on top."""

    condition: Condition

    def __str__(self) -> str:
        """E.g. `fog/2+radar`."""
        return f"{self.condition}{WITH_RADAR}"

    def apply(self, snapshot: Snapshot, rig: Rig, previous: Snapshot | None, boxes: Boxes3D) -> Snapshot:
        """Return the corruption first."""
        worse = self.condition.apply(snapshot, rig, previous, boxes)
        return corrupt(worse, "radar_noise", self.condition.severity, rig)


@dataclass(frozen=True, slots=True)
class LostSensor:
    """One camera or radar is not there."""

    sensor: str

    def __str__(self) -> str:
        """E.g. `lost:CAM_FRONT`."""
        return f"lost:{self.sensor}"

    def apply(self, snapshot: Snapshot, rig: Rig, previous: Snapshot | None, boxes: Boxes3D) -> Snapshot:  # noqa: ARG002
        """Return all but that sensor."""
        kept: dict[str, Any] = {
            f: {n: v for n, v in getattr(snapshot, f).items() if n != self.sensor} for f in FIELD.values()
        }
        return replace(snapshot, **kept)


@dataclass(frozen=True, slots=True)
class StaleModality:
    """A whole modality has the content of the keyframe before: half a second old in nuScenes."""

    modality: Modality  #: LiDAR, camera or radar
    #: `frozen` bears the stamps of now, as a stuck driver does, `delayed` its own: the detector knows its age
    kind: Literal["frozen", "delayed"]

    def __str__(self) -> str:
        """E.g. `frozen:lidar`."""
        return f"{self.kind}:{self.modality}"

    def apply(self, snapshot: Snapshot, rig: Rig, previous: Snapshot | None, boxes: Boxes3D) -> Snapshot:  # noqa: ARG002
        """Return the frame with the content of the one before; the first of a scene stays as it is."""
        name = FIELD[self.modality]
        if previous is None or not getattr(previous, name) or not getattr(snapshot, name):
            return snapshot
        old: dict[str, Any] = getattr(previous, name)
        if self.kind == "frozen":
            restamped: dict[str, Any] = {name: _restamped(old, getattr(snapshot, name))}
            return replace(snapshot, **restamped)
        poses = {pose.stamp_ns: pose for pose in (*previous.odometry, *snapshot.odometry)}
        older_s = (snapshot.stamp_ns - previous.stamp_ns) * 1e-9
        age_s = {**snapshot.age_s, self.modality: previous.age_s.get(self.modality, 0.0) + older_s}
        odometry = tuple(poses[stamp] for stamp in sorted(poses))
        changes: dict[str, Any] = {name: old, "odometry": odometry, "age_s": age_s}
        return replace(snapshot, **changes)


@dataclass(frozen=True, slots=True)
class LostOdometry:
    """No wheel odometry: sweeps are moved by IMU and GNSS, as far as these are there."""

    also: tuple[Modality, ...] = ()  #: What is lost with it

    def __str__(self) -> str:
        """E.g. `lost_odometry:imu+gnss`."""
        return f"{ODOMETRY}{':' if self.also else ''}{'+'.join(self.also)}"

    def apply(self, snapshot: Snapshot, rig: Rig, previous: Snapshot | None, boxes: Boxes3D) -> Snapshot:  # noqa: ARG002
        """Return all but the odometry and what is lost with it."""
        return replace(snapshot, odometry=()).without(*self.also)


def _restamped(old: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """Return old contents under new stamps; a sensor that the old frame lacks stays as it is."""
    out = dict(now)
    for name, content in old.items():
        if name not in now:
            continue
        if isinstance(content, tuple):
            pairs = zip(content, now[name], strict=False)
            out[name] = tuple(replace(o, stamp_ns=n.stamp_ns) for o, n in pairs)
        else:
            out[name] = replace(content, stamp_ns=now[name].stamp_ns)
    return out


def parse_frame_condition(text: str) -> FrameCondition:
    """Return a condition by its name. Raises ConfigError: no such weather, corruption, severity or modality.

    Args:
        text: `clear`, `fog=50`, `rain=25`, `snow=5`, `dark/2`, `dark/2+radar`, `lost:CAM_FRONT`, `frozen:lidar`,
            `delayed:camera`, `lost_odometry` or `lost_odometry:imu+gnss`.
    """
    kind, _, what = text.partition(":")
    if kind == "lost" and what:
        return LostSensor(what)
    if kind in {"frozen", "delayed"}:
        if what not in DETECTING:
            raise ConfigError(f"condition '{text}': fix: {kind} takes one of {', '.join(DETECTING)}")
        return StaleModality(what, kind)  # type: ignore[arg-type]
    if text in LOST_ODOMETRY:
        return LostOdometry(tuple(m for m in MOTION if m in what.split("+")))
    condition = parse_condition(text.removesuffix(WITH_RADAR))
    return WithRadarNoise(condition) if text.endswith(WITH_RADAR) else condition
