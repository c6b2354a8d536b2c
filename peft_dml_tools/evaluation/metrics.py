# SPDX-License-Identifier: Apache-2.0
"""The figures of a session: what was published, how fast, what was dropped and why, how accurate it was."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import dropwhile
from typing import Any

from peft_dml_ros.core.classes import MODALITIES
from peft_dml_ros.core.sync import NO_REFERENCE
from peft_dml_tools.evaluation.percentiles import percentiles
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording, shown_sensors
from peft_dml_tools.evaluation.scoring import Score, score

STAGES = ("inputs", *MODALITIES, "fusion", "decode")
LIDAR = MODALITIES.index("lidar")


@dataclass(frozen=True, slots=True)
class SessionMetrics:
    """All figures of a session."""

    metrics: dict[str, Any]  #: Content of metrics.json
    full: Score  #: Accuracy over the frames in which every sensor that ever spoke was used
    lidar_out: Score  #: Accuracy over the frames without LiDAR

    @property
    def scores(self) -> dict[str, Any]:
        """Content of scores.json: accuracy by class and matching distance, and what was left out."""
        return {name: _score_tree(value) for name, value in (("full", self.full), ("lidar_out", self.lidar_out))}


def evaluate(recording: Recording) -> SessionMetrics:
    """Compute all figures of a session."""
    frames = recording.frames
    without_lidar = lidar_out_frames(frames)
    full, lidar_out = score(full_frames(recording)), score(without_lidar)
    stages = in_order({name for frame in frames for name in frame.stages_ms})
    metrics = {
        "frames_expected": recording.frames_expected,
        "frames_published": len(frames),
        "frames_published_lidar_out": len(without_lidar),
        "latency_ms": percentiles(frame.latency_ms for frame in frames),
        "stages_ms": {name: percentiles(f.stages_ms[name] for f in frames if name in f.stages_ms) for name in stages},
        "drops": dict(sorted(recording.drops.items())),
        "sensors": _sensors(recording),
        "map_full": _rounded(full.mean_ap),
        "map_lidar_out": _rounded(lidar_out.mean_ap),
    }
    return SessionMetrics(metrics, full, lidar_out)


def in_order(stages: Iterable[str]) -> list[str]:
    """Return the stage names as a frame passes through them; unknown ones last."""
    return sorted(stages, key=lambda name: (STAGES.index(name) if name in STAGES else len(STAGES), name))


def full_frames(recording: Recording) -> list[RecordedFrame]:
    """Return frames in which each sensor that sent anything in this session was used."""
    speaking = {n for frame in recording.frames[-1:] for n, r in frame.sensors.items() if r.received}

    def complete(frame: RecordedFrame) -> bool:
        return all(frame.sensors[name].alive for name in speaking if name in frame.sensors)

    return [frame for frame in recording.frames if complete(frame) and frame.mask[LIDAR]]


def lidar_out_frames(frames: Sequence[RecordedFrame]) -> list[RecordedFrame]:
    """Return the frames that saw without LiDAR: not those by the clock at the start, nor blind ones."""
    started = dropwhile(lambda frame: frame.reference == NO_REFERENCE, frames)
    seeing = [MODALITIES.index(name) for name in ("camera", "radar")]
    return [frame for frame in started if not frame.mask[LIDAR] and frame.mask[seeing].any()]


def _sensors(recording: Recording) -> dict[str, dict[str, Any]]:
    """Return counts by sensor: messages received, frames without it, and those frames by reason."""
    table = {}
    for name in shown_sensors(recording.rig):
        readings = [frame.sensors[name] for frame in recording.frames if name in frame.sensors]
        reasons = Counter(reading.reason for reading in readings if reading.reason)
        received = readings[-1].received if readings else len(recording.measurements.get(name, ()))
        table[name] = {"received": received, "gated": sum(reasons.values()), "reasons": dict(reasons.most_common())}
    return table


def _score_tree(value: Score) -> dict[str, Any]:
    def each(table: dict[str, Any], convert: Callable[[Any], Any]) -> dict[str, Any]:
        return {name: convert(item) for name, item in table.items()}

    return {
        "frames": value.frames,
        "map": _rounded(value.mean_ap),
        "reason": value.reason,
        "ap": each(value.ap, lambda by_distance: {f"{d:g} m": _rounded(v) for d, v in by_distance.items()}),
        "recall_2m": each(value.recall_2m, _rounded),
        "truth": value.truth,
        "classes_without_truth": list(value.absent),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
