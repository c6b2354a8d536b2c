# SPDX-License-Identifier: Apache-2.0
"""`fleet mine`: finds the keyframes that are worth a label, and writes them as a nuScenes folder for `adapt`.

A keyframe is worth a label where the sensors disagree, where the calibrated scores are undecided, where boxes flicker
from one keyframe to the next, and where the measurements are unlike those of most drives. Each of the four is turned
into a rank among all keyframes; the mean rank decides, so that no unit outweighs another.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.fleet.detection import Settings, loaded_once

MATCH_M: Final = 2.0
SURE_SCORE: Final = 0.3
SUBSETS: Final[tuple[tuple[Modality, ...], ...]] = (("lidar",), ("camera", "radar"))
"""Sensors that have to find the same objects on their own."""
SPACING_NS: Final = 2_000_000_000
"""Chosen keyframes of a scene are at least this far apart: neighbours show the same objects."""
CRITERIA: Final = ("disagreement", "doubt", "flicker", "novelty")


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A keyframe and what speaks for labelling it.

    Attributes:
        root: nuScenes folder.
        scene: Scene name.
        token: Sample token.
        stamp_ns: Stamp of its reference sensor.
        disagreement: Share of the boxes' scores that single sensors do not confirm, 0 to 1.
        doubt: Mean of 1 - |2 score - 1| over the boxes, 0 to 1.
        flicker: Share of sure boxes without a partner in the keyframe before or after, 0 to 1.
        statistics: Log numbers of points and echoes, median intensity, brightness and contrast of the pictures.
    """

    root: str
    scene: str
    token: str
    stamp_ns: int
    disagreement: float
    doubt: float
    flicker: float
    statistics: tuple[float, ...]


def look_at_scene(job: tuple[Settings, str, str]) -> list[Keyframe]:
    """Detect in the keyframes of a scene with all sensors and with parts of them, and measure each keyframe."""
    from peft_dml_tools.run.offline import Offline, chosen_sensors

    settings, root, scene = job
    reader, params = NuScenesReader(Path(root), allow_missing=True), settings.node_params()
    tokens = reader.samples(scene)
    rig = reader.rig(tokens[0])
    loaded = loaded_once(params.model_dump_json())

    def boxes(sensors: str) -> list[Boxes3D]:
        offline = Offline(params, rig, chosen_sensors(rig, sensors), loaded)
        return [frame.boxes for frame in offline.keyframes(reader, tokens)]

    every = boxes("")
    parts = [boxes(",".join(part)) for part in SUBSETS if any(list(rig.of(m)) for m in part)]
    poses = [reader.global_SE3_base(token) for token in tokens]
    stamps = [reader.stamp_ns(token) for token in tokens]
    flicker = _flicker(every, poses, stamps)
    spec = loaded[0].spec
    found = []
    for i, token in enumerate(tokens):
        against = [_disagreement(every[i], part[i]) for part in parts]
        found.append(
            Keyframe(
                root,
                scene,
                token,
                stamps[i],
                disagreement=float(np.mean(against)) if against else 0.0,
                doubt=float(np.mean(1 - np.abs(2 * every[i].scores - 1))) if len(every[i]) else 0.0,
                flicker=flicker[i],
                statistics=_statistics(reader.snapshot(token, spec)),
            )
        )
    return found


def _unmatched(boxes: Boxes3D, others: Boxes3D, centers_m: FloatArray | None = None) -> FloatArray:
    """Return per box 1 where no other box of its class lies within `MATCH_M`, else 0."""
    centers = boxes.centers_m if centers_m is None else centers_m
    if not len(boxes) or not len(others):
        return np.ones(len(boxes))
    near = np.linalg.norm(centers[:, None, :2] - others.centers_m[None, :, :2], axis=2) <= MATCH_M
    partner = (near & (boxes.labels[:, None] == others.labels[None])).any(axis=1)
    return np.asarray(1.0 - partner, dtype=np.float64)


def _disagreement(all_sensors: Boxes3D, part: Boxes3D) -> float:
    """Return the share of both sets' scores that the other set does not confirm."""
    lost = (_unmatched(all_sensors, part) * all_sensors.scores).sum()
    extra = (_unmatched(part, all_sensors) * part.scores).sum()
    total = all_sensors.scores.sum() + part.scores.sum()
    return float((lost + extra) / total) if total else 0.0


def _flicker(boxes: Sequence[Boxes3D], poses: Sequence[SE3], stamps: Sequence[int]) -> list[float]:
    """Return per keyframe the share of sure boxes that have no partner in a neighbouring keyframe."""
    sure = [b[b.scores >= SURE_SCORE] for b in boxes]
    found = []
    for i, here in enumerate(sure):
        shares = []
        for j in (i - 1, i + 1):
            if 0 <= j < len(sure) and len(here):
                shift = np.zeros((len(here), 3))
                shift[:, :2] = np.nan_to_num(here.velocities_mps) * (stamps[j] - stamps[i]) * 1e-9
                moved = replace(here, centers_m=here.centers_m + shift).transform(poses[j].inverse() @ poses[i])
                shares.append(float(_unmatched(moved, sure[j]).mean()))
        found.append(float(np.mean(shares)) if shares else 0.0)
    return found


def _statistics(snapshot: Snapshot) -> tuple[float, ...]:
    """Return what a keyframe's measurements look like; a modality that is not there gives zeros."""
    clouds = [sweeps[0].points for sweeps in snapshot.lidar.values() if sweeps]
    lidar = np.concatenate(clouds) if clouds else np.zeros((0, 4), np.float32)
    echoes = sum(len(sweeps[0].points) for sweeps in snapshot.radars.values() if sweeps)
    grey = np.concatenate([_grey(image).ravel() for image in snapshot.cameras.values()] or [np.zeros(1)])
    intensity = float(np.median(lidar[:, 3])) if len(lidar) else 0.0
    spread = float(np.percentile(lidar[:, 2], 90) - np.percentile(lidar[:, 2], 10)) if len(lidar) else 0.0
    return (
        float(np.log1p(len(lidar))),
        float(np.log1p(echoes)),
        intensity,
        spread,
        float(grey.mean()),
        float(grey.std()),
    )


def _grey(image: CameraImage) -> FloatArray:
    """Return an eighth-size grey picture; empty where it cannot be decoded."""
    if image.pixels is not None:
        return np.asarray(image.pixels[::8, ::8].mean(axis=2), dtype=np.float64)
    found = cv2.imdecode(np.frombuffer(image.jpeg or b"", np.uint8), cv2.IMREAD_REDUCED_GRAYSCALE_8)
    return np.zeros((0, 0)) if found is None else np.asarray(found, dtype=np.float64)


def choose(keyframes: Sequence[Keyframe], count: int) -> list[tuple[Keyframe, dict[str, float]]]:
    """Return the keyframes most worth a label, best first, with their ranks (1: most of all) by criterion.

    Args:
        keyframes: Candidates of all drives.
        count: Keyframes wanted; fewer come where spacing leaves no more.
    """
    if not keyframes:
        return []
    statistics = np.array([k.statistics for k in keyframes])
    middle = np.median(statistics, axis=0)
    scale = np.median(np.abs(statistics - middle), axis=0) + 1e-6 + 0.01 * np.abs(middle)
    novelty = np.minimum(np.abs(statistics - middle) / scale, 20.0).mean(axis=1)
    columns = {name: np.array([getattr(k, name) for k in keyframes]) for name in CRITERIA[:3]} | {"novelty": novelty}
    ranks = {name: _ranks(values) for name, values in columns.items()}
    mean = np.mean(list(ranks.values()), axis=0)
    order = np.argsort(-mean, kind="stable").tolist()
    return [
        (keyframes[i], {n: round(float(ranks[n][i]), 3) for n in CRITERIA}) for i in spaced(keyframes, order, count)
    ]


def spaced(keyframes: Sequence[Keyframe], order: Sequence[int], count: int) -> list[int]:
    """Return the first `count` of an order, leaving out those too near to an earlier one of the same scene."""
    chosen: list[int] = []
    for i in order:
        one, others = keyframes[i], [keyframes[k] for k in chosen]
        if all(
            (k.root, k.scene) != (one.root, one.scene) or abs(k.stamp_ns - one.stamp_ns) >= SPACING_NS for k in others
        ):
            chosen.append(i)
        if len(chosen) == count:
            break
    return chosen


def draw(keyframes: Sequence[Keyframe], count: int, seed: int) -> list[tuple[Keyframe, dict[str, float]]]:
    """Return keyframes drawn at random with the same spacing: what mined ones are compared with."""
    order = np.random.default_rng(seed).permutation(len(keyframes)).tolist()
    return [(keyframes[i], {}) for i in spaced(keyframes, order, count)]


def unseen_keyframes(root: Path, scene: str) -> list[Keyframe]:
    """Return the keyframes of a scene without having looked at them."""
    reader = NuScenesReader(root, allow_missing=True)
    return [Keyframe(str(root), scene, t, reader.stamp_ns(t), 0.0, 0.0, 0.0, ()) for t in reader.samples(scene)]


def _ranks(values: FloatArray) -> FloatArray:
    """Return each value's rank from 0 to 1; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((low + high - 1) / 2 / max(1, len(values) - 1), dtype=np.float64)
