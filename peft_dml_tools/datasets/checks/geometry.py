# SPDX-License-Identifier: Apache-2.0
"""GEO: rotations, calibrations, poses and boxes are possible."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

import numpy as np

from peft_dml_tools.datasets.checks.folder import CheckedFolder
from peft_dml_tools.datasets.checks.model import Violation, rule
from peft_dml_tools.datasets.checks.severity import Severity

_UNIT_TOLERANCE: Final = 1e-3
_MOUNTED_M: Final = 10.0
_FASTEST_MPS: Final = 70.0
_JITTER_M: Final = 0.5  #: Poses may step by this much at once: localisation corrects itself
_LONGEST_M: Final = 40.0
_ANNOTATED_M: Final = 250.0


@rule(
    "GEO001",
    Severity.ERROR,
    "rotations are unit quaternions (w, x, y, z)",
    "divide by the length; check the order, ROS has (x, y, z, w)",
)
def quaternions_unit(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per quaternion whose length is not 1."""
    for table in ("calibrated_sensor", "ego_pose", "sample_annotation"):
        rows = folder.rows(table)
        if not rows:
            continue
        lengths = np.linalg.norm(np.array([row["rotation"] for row in rows], dtype=np.float64), axis=1)
        for i in np.flatnonzero(np.abs(lengths - 1.0) > _UNIT_TOLERANCE):
            yield Violation(f"{table} {rows[i]['token']}", f"rotation has length {lengths[i]:.6g}")


@rule(
    "GEO002",
    Severity.WARNING,
    "sensors are mounted within 10 m of the vehicle's origin",
    "check the calibration: metres, and base_link to sensor, not the inverse or the map",
)
def sensors_mounted(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per calibration that is too far away."""
    for row in folder.rows("calibrated_sensor"):
        distance_m = float(np.linalg.norm(row["translation"]))
        if distance_m > _MOUNTED_M:
            name = folder.channels.get(row["token"], ("?", ""))[0]
            yield Violation(
                f"calibrated_sensor {row['token']}", f"{name} is {distance_m:.1f} m from the vehicle's origin"
            )


@rule(
    "GEO003",
    Severity.ERROR,
    "cameras have intrinsics, with the principal point inside the image",
    "calibrate the camera; scale the intrinsics together with the images",
)
def intrinsics_plausible(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per camera calibration that does not fit its images, and per calibrated image of no camera."""
    sizes = {
        row["calibrated_sensor_token"]: (row["width"], row["height"])
        for row in folder.rows("sample_data")
        if folder.channels.get(row["calibrated_sensor_token"], ("", ""))[1] == "camera"
    }
    for row in folder.rows("calibrated_sensor"):
        name, modality = folder.channels.get(row["token"], ("?", ""))
        where, matrix = f"calibrated_sensor {row['token']}", row["camera_intrinsic"]
        if modality != "camera":
            if modality and matrix:
                yield Violation(where, f"{name} is no camera but has intrinsics")
            continue
        if not matrix or matrix[0][0] <= 0 or matrix[1][1] <= 0 or matrix[2] != [0.0, 0.0, 1.0]:
            yield Violation(where, f"{name} has intrinsics {matrix}")
            continue
        width, height = sizes.get(row["token"], (0, 0))
        if width and not (0 < matrix[0][2] < width and 0 < matrix[1][2] < height):
            centre = f"({matrix[0][2]:.1f}, {matrix[1][2]:.1f})"
            yield Violation(where, f"{name}: principal point {centre} is outside its {width} x {height} px images")


@rule("GEO004", Severity.WARNING, "the vehicle does not jump", "check the poses: frame, unit and order in time")
def vehicle_drives(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per step between poses of a scene that is faster than 70 m/s and longer than half a metre."""
    scene_of = {row["token"]: row["scene_token"] for row in folder.rows("sample")}
    poses = folder.by_token("ego_pose")
    by_scene: dict[str, dict[int, str]] = {}
    for row in folder.rows("sample_data"):
        if row["ego_pose_token"] in poses and row["sample_token"] in scene_of:
            stamps = by_scene.setdefault(scene_of[row["sample_token"]], {})
            stamps[poses[row["ego_pose_token"]]["timestamp"]] = row["ego_pose_token"]
    for stamps in by_scene.values():
        for (before_us, before), (after_us, after) in pairwise(sorted(stamps.items())):
            elapsed_s = (after_us - before_us) * 1e-6
            step_m = float(np.linalg.norm(np.subtract(poses[after]["translation"], poses[before]["translation"])))
            if step_m > _JITTER_M and step_m > _FASTEST_MPS * elapsed_s:
                yield Violation(f"ego_pose {after}", f"is {step_m:.1f} m from the pose {elapsed_s:.3f} s before")


@rule(
    "GEO005",
    Severity.ERROR,
    "annotated boxes have positive sizes",
    "remove or measure the box again; the order is width, length, height",
)
def boxes_positive(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per box with a side of zero or less."""
    for row in folder.rows("sample_annotation"):
        if min(row["size"]) <= 0:
            yield Violation(f"sample_annotation {row['token']}", f"size {row['size']} m")


@rule(
    "GEO006",
    Severity.WARNING,
    "annotated boxes are shorter than 40 m and within 250 m of the vehicle",
    "check unit and frame: annotations are metres in the map's frame",
)
def boxes_plausible(folder: CheckedFolder) -> Iterator[Violation]:
    """Yield a finding per box that is too large or too far away."""
    poses = folder.by_token("ego_pose")
    origin = {
        row["sample_token"]: poses[row["ego_pose_token"]]["translation"]
        for row in folder.rows("sample_data")
        if row["is_key_frame"] and row["ego_pose_token"] in poses
    }
    for row in folder.rows("sample_annotation"):
        where = f"sample_annotation {row['token']}"
        if max(row["size"]) > _LONGEST_M:
            yield Violation(where, f"size {row['size']} m")
        if row["sample_token"] in origin:
            distance_m = float(np.linalg.norm(np.subtract(row["translation"], origin[row["sample_token"]])))
            if distance_m > _ANNOTATED_M:
                yield Violation(where, f"is {distance_m:.0f} m from the vehicle")
