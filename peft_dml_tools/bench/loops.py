# SPDX-License-Identifier: Apache-2.0
"""The measured loops that are no commands: read every keyframe, corrupt some.

python -m peft_dml_tools.bench.loops read FOLDER
python -m peft_dml_tools.bench.loops corrupt FOLDER FRAMES_A_SCENE

Each prints one line of JSON.
"""

import itertools
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import LidarSpec, ModelSpec
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.source import NuScenesSource
from peft_dml_tools.sim.corruptions import CORRUPTIONS, corrupt
from peft_dml_tools.sim.weather import Weather, apply_to_snapshot

#: Ten LiDAR sweeps, six cycles of each radar, six images, motion windows
SPEC: Final = ModelSpec(lidar=LidarSpec(sweeps=10))

WEATHERS: Final = ("fog=50", "rain=25", "snow=5")
SEVERITY: Final = 3

Report: TypeAlias = dict[str, object]


def read(folder: Path) -> Report:
    """Return milliseconds of processor and of wall time to read a keyframe with its sweeps, by keyframe on average."""
    reader = NuScenesReader(folder)
    first = next(iter(reader.scenes))
    reader.snapshot(reader.samples(first)[0], SPEC)  # tables, indices and CAN bus are read once, not once a keyframe
    begin, cpu = time.perf_counter(), time.process_time()
    count = sum(1 for scene in reader.scenes for _ in NuScenesSource(reader, scene).snapshots(SPEC))
    return {
        "samples": count,
        "cpu_ms_per_sample": round(1e3 * (time.process_time() - cpu) / count, 2),
        "wall_ms_per_sample": round(1e3 * (time.perf_counter() - begin) / count, 2),
    }


def corrupt_frames(folder: Path, frames_a_scene: int) -> Report:
    """Return milliseconds of processor time a frame, by weather and corruption, all sweeps of all sensors touched."""
    reader = NuScenesReader(folder)
    spent_ms: dict[str, float] = {}
    count = 0
    for scene in reader.scenes:
        tokens = reader.samples(scene)
        for earlier, token in itertools.islice(itertools.pairwise(tokens), frames_a_scene):
            previous, frame = reader.snapshot(earlier, SPEC), reader.snapshot(token, SPEC)
            count += 1
            for name, effect in _effects(reader, token, previous):
                begin = time.process_time()
                effect(frame)
                spent_ms[name] = spent_ms.get(name, 0.0) + 1e3 * (time.process_time() - begin)
    by_name = {name: round(spent / count, 1) for name, spent in spent_ms.items()}
    mean_ms = sum(by_name.values()) / len(by_name)
    return {"samples": count, "cpu_ms_per_sample": round(mean_ms, 1), "by_effect_ms": by_name}


def _effects(reader: NuScenesReader, token: str, previous: Snapshot) -> list[tuple[str, Callable[[Snapshot], object]]]:
    rig, boxes = reader.rig(token), reader.truth(token)
    effects: list[tuple[str, Callable[[Snapshot], object]]] = [
        (text, partial(apply_to_snapshot, rig=rig, weather=Weather.parse(text))) for text in WEATHERS
    ]
    for name in CORRUPTIONS:
        strike = partial(corrupt, name=name, severity=SEVERITY, rig=rig, previous=previous, boxes=boxes)
        effects.append((name, strike))
    return effects


if __name__ == "__main__":
    kind, root = sys.argv[1], Path(sys.argv[2])
    report = read(root) if kind == "read" else corrupt_frames(root, int(sys.argv[3]))
    sys.stdout.write(json.dumps(report) + "\n")
