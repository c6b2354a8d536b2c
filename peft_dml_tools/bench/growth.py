# SPDX-License-Identifier: Apache-2.0
"""Time of a frame as its input grows: subsets of sensors, points, sweeps, cameras, boxes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Any, Final, TypeAlias

import numpy as np

from peft_dml_ros.core.bundle import Bundle
from peft_dml_ros.core.classes import DETECTING, MODALITIES, Modality
from peft_dml_ros.core.detector import Detector
from peft_dml_ros.core.inputs import InputAssembler
from peft_dml_ros.core.params import PerceptionParams
from peft_dml_ros.core.pillars import lidar_pillars
from peft_dml_ros.core.rig import Rig
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.sync import Synchroniser
from peft_dml_ros.core.typing import AnyArray
from peft_dml_tools.bench.hot_path import boxes_of, candidates, points
from peft_dml_tools.bench.timing import interleaved, slope, timed
from peft_dml_tools.sim.drive import Drive, DriveSpec

Report: TypeAlias = dict[str, Any]

SUBSETS: Final = tuple(
    tuple(m for m, bit in zip(MODALITIES, bits, strict=True) if bit) for bits in product((1, 0), repeat=5) if any(bits)
)
POINTS: Final = (10_000, 30_000, 100_000, 200_000, 300_000)
SWEEPS: Final = (1, 2, 3, 5, 10)
BOXES: Final = (10, 50, 100, 200, 500)


@dataclass(frozen=True, slots=True)
class BenchmarkFrames:
    """Frames to measure on."""

    rig: Rig  #: Sensors
    snapshots: tuple[Snapshot, ...]  #: With all five modalities, newest reference last


def simulated_frames(seconds: float, seed: int = 11) -> BenchmarkFrames:
    """Return snapshots of a drive, as the node's synchroniser makes them."""
    drive = Drive(seed, seconds, DriveSpec())
    sync = Synchroniser(PerceptionParams())
    made = (sync.add(name, measurement, measurement.stamp_ns) for name, measurement in drive.measurements())
    whole = [s for s in made if s is not None and s.reference == "LIDAR_TOP" and len(s.present) == len(MODALITIES)]
    return BenchmarkFrames(drive.rig, tuple(whole))


def fresh(snapshot: Snapshot) -> Snapshot:
    """Return the frame with images that count as new: the detector does not look at one twice."""
    return replace(snapshot, cameras={name: replace(image) for name, image in snapshot.cameras.items()})


def by_subset(detector: Detector, last: Snapshot, repeats: int) -> Report:
    """Return the processor time of a frame for each of the 31 subsets, and what each modality adds to it."""

    def frame(present: tuple[Modality, ...]) -> Callable[[], object]:
        snapshot = last.without(*(m for m in MODALITIES if m not in present))
        return lambda: detector(fresh(snapshot))

    found = interleaved({"+".join(s): frame(s) for s in SUBSETS}, repeats)
    spent_ms = {name: figures["p50"] for name, figures in found.items()}
    # Blind subsets run no engine at all; over the others, a frame is the sum of what is there.
    rows = [s for s in SUBSETS if set(s) & set(DETECTING)]
    there = np.array([[1.0, *(float(m in s) for m in MODALITIES)] for s in rows])
    spent = np.array([spent_ms["+".join(s)] for s in rows])
    parts, *_ = np.linalg.lstsq(there, spent, rcond=None)
    r2 = 1.0 - float(np.var(spent - there @ parts) / np.var(spent))
    names = ("fusion and the rest", *MODALITIES)
    added = {n: round(float(v), 3) for n, v in zip(names, parts, strict=True)}
    return {"frame_ms": spent_ms, "added_ms": added, "r2": round(r2, 4)}


def by_size(bundle: Bundle, scene: BenchmarkFrames, detector: Detector, repeats: int) -> Report:
    """Return the processor time over points, sweeps, cameras and boxes."""
    rng, last, spec = np.random.default_rng(1), scene.snapshots[-1], bundle.spec
    outputs = {n: candidates(n, spec, rng) for n in BOXES}
    pillars_ms = {
        n: timed(partial(lidar_pillars, points(n, rng), spec.grid, spec.lidar), repeats)["p50"] for n in POINTS
    }
    return {
        "points": {"pillars_ms": pillars_ms, "line": slope(list(pillars_ms), list(pillars_ms.values()))},
        "lidar_sweeps": {"inputs_ms": {n: timed(_sweeps(spec, scene, n), repeats)["p50"] for n in SWEEPS}},
        "cameras": {
            "frame_ms": {n: timed(_cameras(detector, last, n), repeats)["p50"] for n in range(len(last.cameras) + 1)}
        },
        "boxes": {"decode_and_nms_ms": {n: timed(_boxes(o, spec), repeats)["p50"] for n, o in outputs.items()}},
    }


def _boxes(outputs: dict[str, AnyArray], spec: ModelSpec) -> Callable[[], object]:
    return lambda: boxes_of(outputs, spec)


def _cameras(detector: Detector, last: Snapshot, count: int) -> Callable[[], object]:
    """Return a frame of `count` cameras alone."""
    fewer = replace(last, cameras=dict(list(last.cameras.items())[:count]), lidar={}, radars={})
    return lambda: detector(fresh(fewer))


def _sweeps(spec: ModelSpec, scene: BenchmarkFrames, count: int) -> Callable[[], object]:
    """Return LiDAR inputs of `count` sweeps."""
    name, sweeps = next(iter(scene.snapshots[-1].lidar.items()))
    repeated = tuple(sweeps[i % len(sweeps)] for i in range(count))
    longer = spec.model_copy(update={"lidar": spec.lidar.model_copy(update={"sweeps": count, "spacing_s": 0.0})})
    assemble = InputAssembler(longer, scene.rig)
    snapshot = replace(scene.snapshots[-1], lidar={name: repeated}, cameras={}, radars={})
    return lambda: assemble(snapshot)
