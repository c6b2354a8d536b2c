# SPDX-License-Identifier: Apache-2.0
"""The cluster side of `fleet mine`: look at every scene, choose, write the folder and the reasons."""

from pathlib import Path
from typing import Any, Final

from peft_dml_ros.core.errors import DataError
from peft_dml_tools.atomic_files import claim_folder, write_json
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.nuscenes_subset import SubsetWriter
from peft_dml_tools.fleet.cluster import Cluster, JobFailure
from peft_dml_tools.fleet.detection import DetectionSettings
from peft_dml_tools.fleet.mining import Keyframe, choose, draw, look_at_scene, unseen_keyframes

VERSION: Final = "v1.0-mined"
SPLIT: Final = "mined"


def draw_folders(folders: list[Path], out: Path, count: int, seed: int) -> tuple[list[dict[str, Any]], int]:
    """Draw keyframes at random, for a comparison with mined ones, and write them; see `mine_folders`.

    Raises ConfigError: `out` holds something already; DataError: the folders hold no scene, or two of them the same.
    """
    _refuse(out, folders)
    scenes = [(f.resolve(), s) for f in folders for s in NuScenesReader(f, allow_missing=True).scenes]
    candidates = [keyframe for root, scene in scenes for keyframe in unseen_keyframes(root, scene)]
    if not candidates:
        raise DataError("the folders hold no keyframe; fix: nuScenes folders, as peft-dml bag import writes them")
    return _written(folders, out, draw(candidates, count, seed), len(candidates), []), len(candidates)


def mine_folders(
    cluster: Cluster, settings: DetectionSettings, folders: list[Path], out: Path, count: int
) -> tuple[list[dict[str, Any]], int]:
    """Write chosen keyframes of nuScenes folders; return these and why, best first, and the number of candidates.

    Raises ConfigError: `out` holds something already; DataError: no scene could be looked at, or two folders hold the
    same.
    """
    _refuse(out, folders)
    queue = cluster.queue(look_at_scene)
    for folder in folders:
        for scene in NuScenesReader(folder, allow_missing=True).scenes:
            queue.add((settings, str(folder.resolve()), scene))
    candidates, failed = list[Keyframe](), list[str]()
    for job, found in queue.drain():
        if isinstance(found, JobFailure):
            failed.append(f"{job[1]}:{job[2]}: {found.reason}")
        else:
            candidates += found
    if not candidates:
        msg = f"no scene could be looked at: {failed[0] if failed else 'the folders hold none'}"
        raise DataError(f"{msg}; fix: name others")
    # In the order of the drives and not in that of the cluster, so that ties are the same in every run.
    candidates.sort(key=lambda k: (k.root, k.scene, k.stamp_ns))
    return _written(folders, out, choose(candidates, count), len(candidates), failed), len(candidates)


def _refuse(out: Path, folders: list[Path]) -> None:
    """Refuse a folder that holds something, and sources whose tables cannot be joined.

    Raises ConfigError: it does; DataError: two folders hold a scene of the same name.
    """
    claim_folder(out)
    holder: dict[str, Path] = {}
    for folder in folders:
        for scene in NuScenesReader(folder, allow_missing=True).scenes:
            if (other := holder.setdefault(scene, folder)) != folder:
                raise DataError(
                    f"{scene} is in {other} and in {folder}, so that they cannot be joined; fix: leave one out; of "
                    "simulated ones give each another --domain, which numbers its scenes"
                )


def _written(
    folders: list[Path], out: Path, chosen: list[tuple[Keyframe, dict[str, float]]], candidates: int, failed: list[str]
) -> list[dict[str, Any]]:
    """Write the folder and the reasons; return these."""
    writer = SubsetWriter(out, VERSION)
    for folder in folders:
        tokens = [k.token for k, _ in chosen if k.root == str(folder.resolve())]
        if tokens:
            reader = NuScenesReader(folder, allow_missing=True)
            writer.add(reader.root, reader.version, tokens)
    writer.finish(SPLIT)
    reasons = [
        {"source": k.root, "scene": k.scene, "sample": k.token, "stamp_ns": k.stamp_ns, "ranks": ranks}
        for k, ranks in chosen
    ]
    summary = {"chosen": reasons, "candidates": candidates, "failed": failed}
    write_json(out / "mined.json", summary)
    return reasons
