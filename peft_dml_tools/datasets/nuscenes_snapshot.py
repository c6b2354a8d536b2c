# SPDX-License-Identifier: Apache-2.0
"""A nuScenes keyframe as the detector would see it at that instant."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, RadarSweep
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.nuscenes_tables import Record, stamp_ns

if TYPE_CHECKING:
    from peft_dml_tools.datasets.nuscenes import NuScenesReader

IMU_KEPT_NS: Final = 1_000_000_000
GNSS_KEPT_NS: Final = 2_000_000_000
#: A motion sensor that starts this shortly after the reference counts as present: one period of a 100 Hz stream
STAMP_SLACK_NS: Final = 10_000_000

_Stamped = TypeVar("_Stamped", ImuSample, GnssFix)
_Sensed = TypeVar("_Sensed", LidarSweep, RadarSweep, CameraImage)


def snapshot_of_sample(reader: NuScenesReader, sample_token: str, spec: ModelSpec) -> Snapshot:
    """Make the snapshot of a keyframe; `NuScenesReader.snapshot` documents it."""
    reference, reference_data = reader.reference(sample_token)
    now_ns, scene = stamp_ns(reference_data), reader.scene_of(sample_token)
    chains = _chains(reader, sample_token, spec, now_ns)
    loaded = {name: tuple(reader.load(r) for r in chain) for name, chain in chains.items()}
    imu = _window(reader.imu(scene), now_ns, IMU_KEPT_NS)
    gnss = _window(reader.gnss(scene), now_ns, GNSS_KEPT_NS)
    newest: dict[Modality, list[int]] = {}
    for name, chain in loaded.items():
        if (modality := modality_of_channel(name)) is not None:
            newest.setdefault(modality, []).append(chain[0].stamp_ns)
    newest |= {"imu": [imu[-1].stamp_ns]} if imu else {}
    newest |= {"gnss": [gnss[-1].stamp_ns]} if gnss else {}
    return Snapshot(
        now_ns,
        reference,
        lidar=_of_kind(loaded, LidarSweep),
        radars=_of_kind(loaded, RadarSweep),
        cameras={name: images[0] for name, images in _of_kind(loaded, CameraImage).items()},
        imu=imu,
        gnss=gnss,
        odometry=reader.odometry([reference_data, *(r for chain in chains.values() for r in chain)]),
        age_s={m: float(np.mean([(now_ns - stamp) * 1e-9 for stamp in stamps])) for m, stamps in newest.items()},
    )


def _chains(reader: NuScenesReader, sample_token: str, spec: ModelSpec, now_ns: int) -> dict[str, list[Record]]:
    """Return by channel the records whose files exist, newest first."""
    depth = {"lidar": spec.lidar.sweeps, "radar": spec.radar.sweeps, "camera": 1}
    chains = {
        name: _chain(reader, record, depth[str(modality_of_channel(name))], now_ns)
        for name, record in reader.keyframes(sample_token).items()
    }
    existing = {r["token"] for r in reader.existing([r for chain in chains.values() for r in chain])}
    kept = {name: [r for r in chain if r["token"] in existing] for name, chain in chains.items()}
    return {name: chain for name, chain in kept.items() if chain}


def _chain(reader: NuScenesReader, data: Record, length: int, now_ns: int) -> list[Record]:
    """Return a record and its predecessors, newest first, from the newest that the vehicle had at the reference time.

    Radars and cameras of a keyframe may have fired after the LiDAR; such a record is taken when it is all there is.
    """
    first = data
    while stamp_ns(first) > now_ns and first["prev"]:
        first = reader.tables.get("sample_data", first["prev"])
    chain = [first if stamp_ns(first) <= now_ns else data]
    while len(chain) < length and chain[-1]["prev"]:
        chain.append(reader.tables.get("sample_data", chain[-1]["prev"]))
    return chain


def _window(samples: tuple[_Stamped, ...], now_ns: int, kept_ns: int) -> tuple[_Stamped, ...]:
    """Return samples of the last while, oldest first; when there is none, the first one within the slack after it."""
    by_stamp = attrgetter("stamp_ns")
    end = bisect_right(samples, now_ns, key=by_stamp)
    begin = bisect_right(samples, now_ns - kept_ns, hi=end, key=by_stamp)
    if begin == end and end < len(samples) and samples[end].stamp_ns <= now_ns + STAMP_SLACK_NS:
        end += 1
    return samples[begin:end]


def _of_kind(
    loaded: dict[str, tuple[LidarSweep | RadarSweep | CameraImage, ...]], kind: type[_Sensed]
) -> dict[str, tuple[_Sensed, ...]]:
    kept = {name: tuple(m for m in chain if isinstance(m, kind)) for name, chain in loaded.items()}
    return {name: chain for name, chain in kept.items() if chain}
