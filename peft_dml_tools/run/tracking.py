# SPDX-License-Identifier: Apache-2.0
"""Tracking on simulated drives whose LiDAR dies: nuscenes-devkit's tracking scores, and recall against detections."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from time import thread_time
from typing import Any, Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES, MODALITIES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import Measurement, OdometrySample
from peft_dml_ros.core.params import PerceptionParams, TrackingParams
from peft_dml_ros.core.tracking import Tracker
from peft_dml_ros.core.tracking.visibility import Coverage
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import RecordedFrame
from peft_dml_tools.run.offline import OfflineDetector
from peft_dml_tools.sim.drive import Drive
from peft_dml_tools.sim.faults import parse_faults
from peft_dml_tools.sim.faulty_source import FaultySource
from peft_dml_tools.sim.schedule import DriveSpec

SETTINGS: Final = "tracking_nips_2019"  #: The devkit's settings of the official nuScenes tracking benchmark
KEYFRAME_NS: Final = 500_000_000
OUT_S: Final = 3.0  #: Time after the LiDAR's death over which recall is compared
MATCH_M: Final = 2.0
SECONDS, SILENT_S, BACK_S = 14.0, 6.0, 10.0


@dataclass(frozen=True, slots=True)
class TrackedDrive:
    """One drive."""

    name: str  #: Of the drive
    frames: tuple[RecordedFrame, ...]  #: With detections and truth
    odometry: tuple[OdometrySample, ...]  #: Poses of the vehicle


def drive(seed: int, bundle: str) -> TrackedDrive:
    """Simulate a drive whose LiDAR is silent from `SILENT_S` to `BACK_S`, and detect in it."""
    made = Drive(seed, SECONDS, DriveSpec(camera_hz=5.0, imu_hz=50.0, gnss_hz=5.0))
    script = f"[{{sensor: LIDAR_TOP, fault: silence, from_s: {SILENT_S}, to_s: {BACK_S}}}]"
    faulty, odometry = FaultySource(made, parse_faults(script)), list[OdometrySample]()

    def arrivals() -> Iterator[tuple[int, str, Measurement]]:
        for time_ns, name, measurement in faulty.arrivals():
            if isinstance(measurement, OdometrySample):
                odometry.append(measurement)
            yield time_ns, name, measurement

    offline = OfflineDetector(PerceptionParams(bundle=bundle, threads=1), made.rig, tuple(made.rig.sensors))
    frames = list(offline.arriving(arrivals()))
    poses = tuple(sorted(odometry, key=lambda sample: sample.stamp_ns))
    alignment = Alignment(poses)
    known = tuple(replace(f, truth=alignment.truth_at(made.truth, f.stamp_ns)) for f in frames)
    return TrackedDrive(made.name, known, poses)


def tracked(run: TrackedDrive, params: TrackingParams | None = None) -> tuple[list[Boxes3D], list[tuple[int, float]]]:
    """Return the tracks of every frame, and (objects, milliseconds) of each call."""
    tracker, alignment = Tracker(params), Alignment(run.odometry)
    found, times, last_ns = [], [], run.frames[0].stamp_ns
    for frame in run.frames:
        motion = alignment.now_SE3_then(frame.stamp_ns, last_ns)
        start_s = thread_time()
        tracks = tracker(frame.boxes, frame.stamp_ns, motion, Coverage(frame.mask))
        times.append((max(len(frame.boxes), tracker.size), (thread_time() - start_s) * 1e3))
        found.append(tracks.boxes)
        last_ns = frame.stamp_ns
    return found, times


def measure(runs: Sequence[TrackedDrive], params: TrackingParams | None = None) -> dict[str, Any]:
    """Return every figure of `docs/results/tracking.json`."""
    tracks = {run.name: tracked(run, params) for run in runs}
    boxes = {name: found for name, (found, _) in tracks.items()}
    pairs = [(run, boxes[run.name]) for run in runs]
    after = {"detections": _recall_after(pairs, of_tracks=False), "tracks": _recall_after(pairs, of_tracks=True)}
    calls = np.array([call for _, times in tracks.values() for call in times[5:]])
    detected, kept = after["detections"], after["tracks"]
    return {
        **devkit_scores(pairs),
        "recall_after_lidar_dies": round(kept[0], 4),
        "recall_after_lidar_dies_detections": round(detected[0], 4),
        "recall_after_lidar_dies_ratio": round(kept[0] / detected[0], 4) if detected[0] else None,
        "precision_after_lidar_dies": round(kept[1], 4),
        "precision_after_lidar_dies_detections": round(detected[1], 4),
        "ms_per_100_objects": round(_cost_of(100, calls), 3),
        "drives": len(runs),
        "frames": sum(len(run.frames) for run in runs),
        "seconds_without_lidar": BACK_S - SILENT_S,
    }


def _cost_of(objects: int, calls: FloatArray) -> float:
    """Return the milliseconds of so many objects, by the line through the median calls of each tenth."""
    tenths = np.array_split(calls[np.argsort(calls[:, 0], kind="stable")], 10)
    middle = np.array([np.median(part, axis=0) for part in tenths if len(part)])
    if np.ptp(middle[:, 0]) < 1:
        return float(np.median(calls[:, 1]))
    return float(np.polyval(np.polyfit(middle[:, 0], middle[:, 1], 1), objects))


def _recall_after(pairs: Iterable[tuple[TrackedDrive, list[Boxes3D]]], *, of_tracks: bool) -> tuple[float, float]:
    """Return recall and precision in the seconds after the LiDAR died, matched within `MATCH_M`, best box first."""
    hits = wanted = given = 0
    for run, tracks in pairs:
        first_ns = run.frames[0].stamp_ns
        for frame, found in zip(run.frames, tracks, strict=True):
            since_s = (frame.stamp_ns - first_ns) * 1e-9 - SILENT_S
            if frame.truth is None or frame.mask[MODALITIES.index("lidar")] or not 0.0 < since_s <= OUT_S:
                continue
            boxes = found if of_tracks else frame.boxes
            hits += _matched(boxes, frame.truth)
            wanted, given = wanted + len(frame.truth), given + len(boxes)
    return hits / max(1, wanted), hits / max(1, given)


def _matched(boxes: Boxes3D, truth: Boxes3D) -> int:
    free = np.ones(len(truth), dtype=np.bool_)
    for i in np.argsort(-boxes.scores, kind="stable"):
        distance = np.hypot(*(truth.centers_m[:, :2] - boxes.centers_m[i, :2]).T)
        distance[~free | (truth.labels != boxes.labels[i])] = np.inf
        if len(distance) and distance.min() <= MATCH_M:
            free[distance.argmin()] = False
    return int((~free).sum())


def devkit_scores(pairs: Sequence[tuple[TrackedDrive, list[Boxes3D]]]) -> dict[str, Any]:
    """Return AMOTA, AMOTP, MOTA, recall and counts of nuscenes-devkit's tracking evaluation, over keyframes."""
    devkit = import_module("nuscenes.eval.tracking.algo")
    classes = import_module("nuscenes.eval.tracking.data_classes")
    constants = import_module("nuscenes.eval.tracking.constants")
    settings = import_module("nuscenes.eval.common.config").config_factory(SETTINGS)
    truth, found = (_tracks(pairs, settings, classes.TrackingBox, of_truth=kind) for kind in (True, False))
    metrics = classes.TrackingMetrics(settings)
    for name in settings.class_names:
        evaluation = devkit.TrackingEvaluation(
            truth,
            found,
            name,
            settings.dist_fcn_callable,
            settings.dist_th_tp,
            settings.min_recall,
            num_thresholds=classes.TrackingMetricData.nelem,
            metric_worst=settings.metric_worst,
            verbose=False,
        )
        _add(metrics, name, evaluation.accumulate(), constants, settings)
    summary = metrics.serialize()
    names = {"ids": "id_switches", "frag": "fragmentations", "mota": "mota", "recall": "recall", "amotp": "amotp"}
    by_class = {k: round(float(v), 4) for k, v in summary["label_metrics"]["amota"].items() if np.isfinite(v)}
    figures = {new: round(float(summary[old]), 4) for old, new in names.items()}
    return {"amota": round(float(summary["amota"]), 4), **figures, "amota_by_class": by_class}


def _add(metrics: Any, name: str, data: Any, constants: Any, settings: Any) -> None:
    """Put one class's figures into the devkit's metrics, as its `TrackingEval.evaluate` does."""
    if not np.all(np.isnan(data.mota)):
        best = int(np.nanargmax(data.mota))
        for metric in filter(None, constants.MOT_METRIC_MAP.values()):
            metrics.add_label_metric(metric, name, data.get_metric(metric)[best])
    for metric, source in constants.AVG_METRIC_MAP.items():
        values = np.array(data.get_metric(source))
        worst = np.where(np.isnan(values), settings.metric_worst[metric], values)
        metrics.add_label_metric(metric, name, np.nan if np.all(np.isnan(values)) else float(worst.mean()))


def _tracks(
    pairs: Sequence[tuple[TrackedDrive, list[Boxes3D]]], settings: Any, make: Callable[..., Any], *, of_truth: bool
) -> dict[str, dict[int, list[Any]]]:
    """Return the devkit's boxes by drive and time, interpolated, each track with its mean score."""
    interpolate = import_module("nuscenes.eval.tracking.loaders").interpolate_tracks
    every: dict[str, dict[int, list[Any]]] = {}
    for run, tracks in pairs:
        alignment, drive_tracks = Alignment(run.odometry), defaultdict[int, list[Any]](list)
        last_ns, world_SE3_base, scores = 0, SE3.identity(), defaultdict[str, list[float]](list)
        for frame, found in zip(run.frames, tracks, strict=True):
            if frame.truth is None or frame.stamp_ns - last_ns < KEYFRAME_NS:
                continue
            # Alignment looks at poses near both times only: steps from frame to frame add up to the whole way.
            world_SE3_base = world_SE3_base @ alignment.now_SE3_then(last_ns or frame.stamp_ns, frame.stamp_ns)
            last_ns = frame.stamp_ns
            boxes = _boxes(frame.truth if of_truth else found, world_SE3_base, frame.stamp_ns, settings, make)
            drive_tracks[frame.stamp_ns // 1000] = boxes
            for box in boxes:
                scores[box.tracking_id].append(box.tracking_score)
        if not of_truth:
            for box in (box for boxes in drive_tracks.values() for box in boxes):
                box.tracking_score = float(np.mean(scores[box.tracking_id]))
        interpolated = interpolate(drive_tracks)
        every[run.name] = defaultdict(list, sorted(interpolated.items()))
    return every


def _boxes(boxes: Boxes3D, world_SE3_base: SE3, stamp_ns: int, settings: Any, make: Callable[..., Any]) -> list[Any]:
    placed, out = boxes.transform(world_SE3_base), []
    ego = world_SE3_base.translation
    for i, label in enumerate(boxes.labels):
        name = CLASSES[label]
        if name not in settings.class_names or np.hypot(*boxes.centers_m[i, :2]) > settings.class_range[name]:
            continue
        length, width, height = placed.sizes_m[i]
        half = placed.yaws_rad[i] / 2
        box = make(
            sample_token=str(stamp_ns),
            translation=tuple(placed.centers_m[i]),
            size=(width, length, height),
            rotation=(np.cos(half), 0.0, 0.0, np.sin(half)),
            velocity=tuple(np.nan_to_num(placed.velocities_mps[i])),
            ego_translation=tuple(placed.centers_m[i] - ego),
            num_pts=1,
            tracking_id=boxes.ids[i],
            tracking_name=name,
            tracking_score=float(boxes.scores[i]),
        )
        out.append(box)
    return out
