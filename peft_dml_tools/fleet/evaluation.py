# SPDX-License-Identifier: Apache-2.0
"""`fleet evaluate`: the keyframes of many scenes in parallel, scored by nuscenes-devkit as one set."""

from functools import lru_cache
from pathlib import Path
from typing import Any

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.fleet.cluster import Cluster, JobFailure
from peft_dml_tools.fleet.detection import DetectionSettings, loaded_once

Rows = dict[str, list[dict[str, Any]]]  #: Rows of the devkit's results file by sample token


def rows_of_scene(job: tuple[DetectionSettings, str, str, str]) -> Rows:
    """Detect in the keyframes of a scene; the job: settings, folder, scene, and the sensors to use (empty for all)."""
    from peft_dml_tools.datasets.nuscenes_scores import result_rows
    from peft_dml_tools.run.offline import OfflineDetector, chosen_sensors

    settings, root, scene, sensors = job
    reader, params = _reader(root), settings.node_params()
    tokens = reader.samples(scene)
    rig = reader.rig(tokens[0])
    offline = OfflineDetector(params, rig, chosen_sensors(rig, sensors), loaded_once(params.model_dump_json()))
    frames = offline.keyframes(reader, tokens)
    return {
        token: result_rows(token, frame.boxes, reader.global_SE3_base(token))
        for token, frame in zip(tokens, frames, strict=True)
    }


@lru_cache(maxsize=1)
def _reader(root: str) -> Any:
    from peft_dml_tools.datasets.nuscenes import NuScenesReader

    return NuScenesReader(Path(root), allow_missing=True)


def evaluate_scenes(
    cluster: Cluster, settings: DetectionSettings, root: Path, scenes: list[str], sensors: str, folder: Path
) -> dict[str, Any]:
    """Return the devkit's metrics over the keyframes of these scenes.

    Raises DataError: a scene could not be detected in; a score of the others alone would not be comparable.
    """
    from peft_dml_tools.datasets.nuscenes import NuScenesReader
    from peft_dml_tools.datasets.nuscenes_scores import open_devkit, score

    queue, rows = cluster.queue(rows_of_scene), Rows()
    for scene in scenes:
        queue.add((settings, str(root), scene, sensors))
    for job, found in queue.drain():
        if isinstance(found, JobFailure):
            queue.cancel()
            raise DataError(f"{root}: scene {job[2]}: {found.reason}; fix: correct it, then run again")
        rows |= found
    used = {f"use_{name}": not sensors or name in sensors for name in ("camera", "lidar", "radar")}
    reader = NuScenesReader(root, allow_missing=True)
    return score(
        open_devkit(reader.root, reader.version), rows, folder, used | {"use_map": False, "use_external": False}
    )
