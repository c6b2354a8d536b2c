# SPDX-License-Identifier: Apache-2.0
"""`fleet mine`: finds the keyframes that are worth a label, and writes them as a nuScenes folder for `adapt`.

A keyframe is worth a label where the sensors disagree, where the calibrated scores are undecided, where boxes flicker
from one keyframe to the next, and where the measurements are unlike those that the adapter was made for. Each of the
four is turned into a rank among all keyframes; the mean rank decides, so that no unit outweighs another. Keyframes
outside the adapter's domain come before all others: of what it was trained on, more labels teach least.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from peft_dml_ros.core.adapter_domain import AdapterDomain, Spread, read_domain, scene_figures
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.typing import FloatArray
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.fleet.detection import DetectionSettings, loaded_once

MATCH_M: Final = 2.0
SURE_SCORE: Final = 0.3
#: Sensors that have to find the same objects on their own
SUBSETS: Final[tuple[tuple[Modality, ...], ...]] = (("lidar",), ("camera", "radar"))
#: Chosen keyframes of a scene are at least this far apart: neighbours show the same objects
SPACING_NS: Final = 2_000_000_000
#: Deviations that a keyframe's figures have to lie from those of a domain, on average, to be outside it
OUTSIDE: Final = 2.0
DEVIATIONS: Final = 1.4826  #: Standard deviations in a median absolute deviation, of a normal distribution
CRITERIA: Final = ("disagreement", "doubt", "flicker", "novelty")


@dataclass(frozen=True, slots=True)
class Keyframe:
    """A keyframe and what speaks for labelling it."""

    root: str  #: nuScenes folder
    scene: str  #: Scene name
    token: str  #: Sample token
    stamp_ns: int  #: Stamp of its reference sensor
    disagreement: float  #: Share of the boxes' scores that single sensors do not confirm, 0 to 1
    doubt: float  #: Mean of 1 - |2 score - 1| over the boxes, 0 to 1
    flicker: float  #: Share of sure boxes without a partner in the keyframe before or after, 0 to 1
    figures: Mapping[str, float]  #: What its measurements look like, see `scene_figures`
    domain: AdapterDomain | None = None  #: That of the adapter that looked; None where the bundle states none


def look_at_scene(job: tuple[DetectionSettings, str, str]) -> list[Keyframe]:
    """Detect in the keyframes of a scene with all sensors and with parts of them, and measure each keyframe."""
    from peft_dml_tools.run.offline import OfflineDetector, chosen_sensors

    settings, root, scene = job
    reader, params = NuScenesReader(Path(root), allow_missing=True), settings.node_params()
    tokens = reader.samples(scene)
    rig = reader.rig(tokens[0])
    loaded = loaded_once(params.model_dump_json())

    def boxes(sensors: str) -> list[Boxes3D]:
        offline = OfflineDetector(params, rig, chosen_sensors(rig, sensors), loaded)
        return [frame.boxes for frame in offline.keyframes(reader, tokens)]

    every = boxes("")
    parts = [boxes(",".join(part)) for part in SUBSETS if any(list(rig.of(m)) for m in part)]
    poses = [reader.global_SE3_base(token) for token in tokens]
    stamps = [reader.stamp_ns(token) for token in tokens]
    flicker = _flicker(every, poses, stamps)
    bundle, found = loaded[0], []
    domain = read_domain(bundle.adapters.parts[0][0].path) if bundle.adapters.parts else None
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
                figures=scene_figures(reader.snapshot(token, bundle.spec)),
                domain=domain,
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


def choose(keyframes: Sequence[Keyframe], count: int) -> list[tuple[Keyframe, dict[str, float]]]:
    """Return the keyframes most worth a label, best first, with their ranks (1: most of all) by criterion.

    Args:
        keyframes: Candidates of all drives.
        count: Keyframes wanted; fewer come where spacing leaves no more.
    """
    if not keyframes:
        return []
    domain = keyframes[0].domain or _domain_of_most(keyframes)
    novelty = np.array([domain.distance(keyframe.figures) for keyframe in keyframes])
    columns = {name: np.array([getattr(k, name) for k in keyframes]) for name in CRITERIA[:3]} | {"novelty": novelty}
    ranks = {name: _ranks(values) for name, values in columns.items()}
    mean = np.mean(list(ranks.values()), axis=0)
    order = np.lexsort((-mean, novelty < OUTSIDE)).tolist()
    return [
        (keyframes[i], {n: round(float(ranks[n][i]), 3) for n in CRITERIA}) for i in spaced(keyframes, order, count)
    ]


def _domain_of_most(keyframes: Sequence[Keyframe]) -> AdapterDomain:
    """Return middle and spread of the figures of all keyframes, robust against the odd ones among them."""
    spreads = {}
    for name in sorted({name for keyframe in keyframes for name in keyframe.figures}):
        values = np.array([k.figures[name] for k in keyframes if name in k.figures])
        middle = np.median(values)
        spreads[name] = Spread(float(middle), float(DEVIATIONS * np.median(np.abs(values - middle))))
    return AdapterDomain(figures=spreads, frames=len(keyframes))


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
    return [Keyframe(str(root), scene, t, reader.stamp_ns(t), 0.0, 0.0, 0.0, {}) for t in reader.samples(scene)]


def _ranks(values: FloatArray) -> FloatArray:
    """Return each value's rank from 0 to 1; equal values share the mean of their ranks."""
    ordered = np.sort(values)
    low, high = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right")
    return np.asarray((low + high - 1) / 2 / max(1, len(values) - 1), dtype=np.float64)
