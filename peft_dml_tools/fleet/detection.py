# SPDX-License-Identifier: Apache-2.0
"""What a worker does: inspect a drive, and detect in one segment of it in memory that its length does not move."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.measurements import Measurement, OdometrySample
from peft_dml_tools.evaluation.alignment import WINDOW_NS, Alignment
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording
from peft_dml_tools.fleet.drives import FleetDrive, drive_key, scene_files
from peft_dml_tools.fleet.segments import NS, Segment, plan_segments
from peft_dml_tools.fleet.storage import ResultStore, fetched, is_url
from peft_dml_tools.run.files import box_trees, frame_line

if TYPE_CHECKING:
    from peft_dml_ros.nodes.parameter_file import NodeParams
    from peft_dml_tools.measurement_source import Source
    from peft_dml_tools.run.offline import Loaded

RECENT_NS: Final = NS  #: Measurements kept for a picture
MOTION_NS: Final = 5 * NS  #: Odometry kept to move the truth to a frame's time
THUMBNAIL_PX: Final = 480


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    """What all drives of a job share."""

    out: str  #: Path or URL of the results
    params: dict[str, Any]  #: Parameters of the node, as JSON values
    bundle_sha: str  #: Digest of the bundle's manifest, which names all its files by digest
    segment_s: float  #: Length of a segment; 0 does not split

    def node_params(self) -> NodeParams:
        """Return the parameters as the node has them."""
        from peft_dml_ros.nodes.parameter_file import NodeParams

        return NodeParams.model_validate(self.params)


@dataclass(frozen=True, slots=True)
class InspectedDrive:
    """A drive after a first look."""

    drive: FleetDrive  #: The drive
    key: str  #: Of its result
    stamps_ns: tuple[int, ...]  #: Stamps of the LiDAR that the segments were planned by; empty where it is not split
    segments: tuple[Segment, ...]  #: Its segments


@dataclass(frozen=True, slots=True)
class SegmentJob:
    """One segment to detect in."""

    settings: DetectionSettings
    inspected: InspectedDrive
    segment: Segment


@dataclass(slots=True)
class SegmentResult:
    """What a segment gave, besides its file of frames."""

    index: int  #: Of the segment
    frames: int = 0  #: Frames that count
    seconds: float = 0.0  #: Between its first and last frame
    wall_s: float = 0.0  #: Time it took
    received: dict[str, int] = field(default_factory=dict)  #: Messages by sensor, without those of the lead
    drops: dict[str, int] = field(default_factory=dict)  #: What was dropped, by reason, without the lead
    problem: str = ""  #: What ended it early; empty where nothing did


def inspect(job: tuple[DetectionSettings, FleetDrive]) -> InspectedDrive:
    """Return a drive's key and segments. Raises DataError: it does not exist or cannot be opened."""
    settings, drive = job
    key = drive_key(drive, settings.bundle_sha, settings.params)
    stamps: tuple[int, ...] = ()
    if not drive.scene and settings.segment_s and not ResultStore(settings.out).result(folder_of(drive, key)):
        with fetched(drive.place) as path:
            stamps = _lidar_stamps(path, settings.node_params())
    return InspectedDrive(drive, key, stamps, plan_segments(stamps, settings.segment_s, settings.node_params().sync))


def _lidar_stamps(path: Path, params: NodeParams) -> tuple[int, ...]:
    """Return the ascending header stamps of a bag's first LiDAR, read without decoding a cloud."""
    from peft_dml_tools.datasets.bag_options import BagOptions
    from peft_dml_tools.datasets.bags import BagSource

    return BagSource(path, options=BagOptions.of(params)).stamps_of("lidar")


def folder_of(drive: FleetDrive, key: str) -> str:
    """Return the folder of a drive's result in the store."""
    return f"drives/{drive.name}-{key}"


def segment_file(key: str, segment: Segment) -> str:
    """Return the file of a segment's frames in the store; a longer lead has a file of its own."""
    return f"work/{key}/{segment.index:04d}-{segment.start_ns}.jsonl"


def detect_segment(job: SegmentJob) -> SegmentResult:
    """Detect in one segment and write its frames to the store, as JSON lines that end with the `SegmentResult`.

    A source that breaks in the middle counts up to there. Raises DataError: the drive cannot be read at all.
    """
    from time import perf_counter

    start = perf_counter()
    store, name = ResultStore(job.settings.out), segment_file(job.inspected.key, job.segment)
    drive, result = job.inspected.drive, SegmentResult(job.segment.index)
    with store.workspace() as folder, _opened(drive, job.settings.node_params()) as source:
        file = folder / "frames.jsonl"
        with file.open("w", encoding="utf-8") as lines:
            for frame in _frames(job, source, result, folder):
                lines.write(frame_record(frame, counted=job.segment.counts(frame.stamp_ns)))
            result.wall_s = perf_counter() - start
            lines.write(json.dumps({"segment": asdict(result)}) + "\n")
        for picture in folder.glob("*.jpg"):
            store.write(f"work/{job.inspected.key}/{picture.name}", picture.read_bytes())
        store.write(name, file.read_bytes())
    return result


@lru_cache(maxsize=1)
def loaded_once(params: str) -> Loaded:
    """Return bundle and engines of parameters in JSON; a worker process loads them once for all its drives.

    OpenCV takes all cores by itself, which are those of the other workers.
    """
    import cv2

    from peft_dml_ros.nodes.parameter_file import NodeParams
    from peft_dml_tools.run.offline import load

    cv2.setNumThreads(1)
    return load(NodeParams.model_validate_json(params))


def frame_record(frame: RecordedFrame, *, counted: bool) -> str:
    """Return a frame as a JSON line: that of `peft-dml run`, and what the merge needs."""
    tree = json.loads(frame_line(frame))
    tree["latency_ms"] = round(frame.latency_ms, 3)
    tree["sensors"] = {n: [r.state, r.reason] for n, r in frame.sensors.items()}
    tree["counted"] = counted
    if frame.truth is not None:
        tree["truth"] = box_trees(frame.truth)
    return json.dumps(tree, separators=(",", ":")) + "\n"


@contextmanager
def _opened(drive: FleetDrive, params: NodeParams) -> Iterator[Source]:
    """Yield a drive's source, fetched first where it is remote."""
    from peft_dml_tools.datasets.bag_options import BagOptions
    from peft_dml_tools.datasets.source import open_source

    files = scene_files(drive) if drive.scene and is_url(drive.place) else None
    with fetched(drive.place, files) as path:
        yield open_source(
            path / drive.version, scene=drive.scene or None, allow_missing=True, options=BagOptions.of(params)
        )


def _frames(job: SegmentJob, source: Source, result: SegmentResult, folder: Path) -> Iterator[RecordedFrame]:
    """Yield the frames of a segment with their truth, lead and tail included, and fill in the result."""
    from peft_dml_tools.datasets.bag_options import without_offsets
    from peft_dml_tools.datasets.bags import BagSource
    from peft_dml_tools.run.offline import OfflineDetector, chosen_sensors

    segment = job.segment
    params = job.settings.node_params()
    ruled = without_offsets(params) if isinstance(source, BagSource) else params
    offline = OfflineDetector(ruled, source.rig, chosen_sensors(source.rig, ""), loaded_once(params.model_dump_json()))
    recent = _RecentMeasurements(source, folder / f"{segment.index:04d}.jpg", segment)
    waiting: deque[RecordedFrame] = deque()
    first_ns = last_ns = 0
    dropped_before, dropped = Counter[str](), Counter[str]()
    try:
        for frame in offline.arriving(recent.arrivals()):
            if segment.counts(frame.stamp_ns):
                if not result.frames:
                    first_ns = frame.stamp_ns
                    dropped_before = offline.drops if segment.from_ns else dropped_before
                result.frames, last_ns, dropped = result.frames + 1, frame.stamp_ns, offline.drops
            waiting.append(frame)
            while waiting and waiting[0].stamp_ns < recent.motion_until_ns - WINDOW_NS:
                yield recent.with_truth(waiting.popleft())
    except DataError as error:
        result.problem = str(error).splitlines()[0]
        if not result.frames and segment.index == 0:
            raise
    while waiting:
        yield recent.with_truth(waiting.popleft())
    result.received = dict(recent.received)
    result.drops = dict((dropped if segment.to_ns else offline.drops) - dropped_before)
    result.seconds = (last_ns - first_ns) / NS if first_ns else 0.0
    if not result.frames and segment == Segment(0):
        received = ", ".join(sorted(offline.received)) or "nothing"
        raise DataError(f"no frame came of it; received: {received}; fix: give LiDAR, camera or radar")


class _RecentMeasurements:
    """The last measurements of a stream: enough for one picture and to move truth, whatever the drive's length."""

    def __init__(self, source: Source, picture: Path, segment: Segment) -> None:
        self._source, self._picture, self._segment = source, picture, segment
        self.received: Counter[str] = Counter()
        self._measurements: deque[tuple[str, Measurement]] = deque()
        self._odometry: deque[OdometrySample] = deque()
        self.motion_until_ns = 0
        self._truth = source.truth

    def arrivals(self) -> Iterator[tuple[int, str, Measurement]]:
        """Yield the measurements of the segment's time as they pass; count those that are in no other segment."""
        from peft_dml_tools.datasets.bags import BagSource

        source, segment = self._source, self._segment
        stream = source.measurements(segment.start_ns) if isinstance(source, BagSource) else source.measurements()
        for name, measurement in stream:
            stamp_ns = measurement.stamp_ns
            if stamp_ns < segment.start_ns:
                continue
            if segment.read_until_ns and stamp_ns > segment.read_until_ns + WINDOW_NS:
                return
            self._keep(name, measurement)
            self.received[name] += segment.counts(stamp_ns)
            # Beyond the end only odometry is of use: the truth of the last frames is moved with it.
            if not segment.read_until_ns or stamp_ns <= segment.read_until_ns:
                yield stamp_ns, name, measurement

    def _keep(self, name: str, measurement: Measurement) -> None:
        if isinstance(measurement, OdometrySample):
            self._odometry.append(measurement)
            self.motion_until_ns = max(self.motion_until_ns, measurement.stamp_ns)
            while self._odometry[0].stamp_ns < measurement.stamp_ns - MOTION_NS:
                self._odometry.popleft()
            return
        self.motion_until_ns = max(self.motion_until_ns, measurement.stamp_ns - WINDOW_NS)
        self._measurements.append((name, measurement))
        while self._measurements[0][1].stamp_ns < measurement.stamp_ns - RECENT_NS:
            self._measurements.popleft()

    def with_truth(self, frame: RecordedFrame) -> RecordedFrame:
        """Return a frame with the truth moved to its time; draws the first one with boxes."""
        alignment = Alignment(tuple(self._odometry))
        known = replace(frame, truth=alignment.truth_at(self._truth, frame.stamp_ns))
        if not self._picture.exists() and len(known.boxes):
            self._draw(known, alignment)
        return known

    def _draw(self, frame: RecordedFrame, alignment: Alignment) -> None:
        import cv2

        from peft_dml_tools.drawing.birds_eye import draw_from_above

        kept: dict[str, list[Measurement]] = {}
        for name, measurement in self._measurements:
            kept.setdefault(name, []).append(measurement)
        recording = Recording("", self._source.rig, (frame,), kept)
        picture = draw_from_above(recording, alignment, frame, size_px=THUMBNAIL_PX)
        cv2.imwrite(str(self._picture), picture[..., ::-1])


def boxes_of(trees: list[dict[str, Any]]) -> Boxes3D:
    """Return the boxes of a JSON line; attributes and sigmas are not in it."""
    if not trees:
        return Boxes3D.empty()
    names = ("center_m", "size_lwh_m", "yaw_rad", "velocity_mps", "score")
    centers, sizes, yaws, velocities, scores = (np.array([t[name] for t in trees], dtype=np.float64) for name in names)
    labels = np.array([CLASSES.index(t["class"]) for t in trees], dtype=np.int64)
    return Boxes3D.make(centers, sizes, yaws, labels, velocities_mps=velocities, scores=scores)
