# SPDX-License-Identifier: Apache-2.0
"""REC: what single records say is possible: times and counts."""

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Final

from peft_dml_tools.datasets.checks.folder import CheckedFolder
from peft_dml_tools.datasets.checks.model import Violation, rule
from peft_dml_tools.datasets.checks.severity import Severity
from peft_dml_tools.datasets.nuscenes_schema import CHAINED

_EARLIEST_US: Final = int(datetime(2000, 1, 1, tzinfo=timezone.utc).timestamp() * 1e6)
_LATEST_US: Final = int(datetime(2100, 1, 1, tzinfo=timezone.utc).timestamp() * 1e6)
_KEYFRAME_SPREAD_US: Final = 250_000


@rule(
    "REC001", Severity.ERROR, "timestamps rise along every chain", "sort the records by timestamp and link them again"
)
def stamps_rise(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per link that does not lead to a later record."""
    samples = folder.by_token("sample")
    for table in CHAINED:
        known = folder.by_token(table)
        for row in folder.rows(table):
            later = known.get(row["next"])
            if later is None:
                continue
            pair = [row, later]
            if table == "sample_annotation":
                if any(r["sample_token"] not in samples for r in pair):
                    continue
                pair = [samples[r["sample_token"]] for r in pair]
            if pair[1]["timestamp"] <= pair[0]["timestamp"]:
                step_us = pair[1]["timestamp"] - pair[0]["timestamp"]
                yield Violation(f"{table} {row['token']}", f"the next record is {step_us} µs later")


@rule(
    "REC002",
    Severity.ERROR,
    "timestamps are microseconds since 1970",
    "convert them: nuScenes counts microseconds, ROS nanoseconds",
)
def stamps_plausible(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per timestamp before 2000 or after 2100."""
    for table in ("sample", "sample_data", "ego_pose"):
        for row in folder.rows(table):
            if not _EARLIEST_US <= row["timestamp"] <= _LATEST_US:
                yield Violation(f"{table} {row['token']}", f"timestamp {row['timestamp']} is not in 2000-2100")


@rule(
    "REC003",
    Severity.WARNING,
    "the sensors of a keyframe fired within 0.25 s of it",
    "choose the measurements nearest in time, or leave the sensor out of this keyframe",
)
def keyframes_together(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per keyframe file that is too early or too late."""
    samples = folder.by_token("sample")
    for row in folder.rows("sample_data"):
        sample = samples.get(row["sample_token"])
        if sample is None or not row["is_key_frame"]:
            continue
        late_us = row["timestamp"] - sample["timestamp"]
        if abs(late_us) > _KEYFRAME_SPREAD_US:
            yield Violation(row["filename"], f"is {late_us * 1e-6:+.3f} s from its sample {sample['token']}")


@rule(
    "REC004",
    Severity.WARNING,
    "ego poses have the timestamps of their measurements",
    "interpolate the poses at the stamps of the measurements",
)
def poses_in_time(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per measurement whose pose is of another time."""
    poses = folder.by_token("ego_pose")
    for row in folder.rows("sample_data"):
        pose = poses.get(row["ego_pose_token"])
        if pose is not None and pose["timestamp"] != row["timestamp"]:
            late_us = pose["timestamp"] - row["timestamp"]
            yield Violation(row["filename"], f"its ego pose is {late_us:+d} µs off")


@rule("REC005", Severity.ERROR, "point counts of annotations are not negative", "count the points in the boxes again")
def counts_possible(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per annotation with a negative count."""
    for row in folder.rows("sample_annotation"):
        if row["num_lidar_pts"] < 0 or row["num_radar_pts"] < 0:
            what = f"num_lidar_pts {row['num_lidar_pts']}, num_radar_pts {row['num_radar_pts']}"
            yield Violation(f"sample_annotation {row['token']}", what)
