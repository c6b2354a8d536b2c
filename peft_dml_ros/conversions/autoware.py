# SPDX-License-Identifier: Apache-2.0
"""Boxes and tracks as Autoware's objects: DetectedObjects, TrackedObjects and PredictedObjects."""

from typing import Any, Final, NamedTuple

import numpy as np

from peft_dml_ros.conversions.factory import VECTOR, MessageFactory, header, triple, upright_pose
from peft_dml_ros.conversions.markers import MOVING_MPS
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.tracking import TrackedBoxes, future
from peft_dml_ros.core.typing import FloatArray

PACKAGE: Final = "autoware_perception_msgs"
#: Message type by topic below the node's name
TOPICS: Final = {
    "objects": "DetectedObjects",
    "tracked_objects": "TrackedObjects",
    "predicted_objects": "PredictedObjects",
}
BOX, CYLINDER = 0, 1


class AutowareClass(NamedTuple):
    """What Autoware calls a class: `ObjectClassification.label`, and `Shape.type`."""

    label: int
    shape: int


#: Autoware has no construction vehicles; cones and barriers are HAZARD: not to be driven over, of no other class
KINDS: Final = {
    "car": AutowareClass(1, BOX),
    "truck": AutowareClass(2, BOX),
    "bus": AutowareClass(3, BOX),
    "trailer": AutowareClass(4, BOX),
    "construction_vehicle": AutowareClass(2, BOX),
    "pedestrian": AutowareClass(7, CYLINDER),
    "motorcycle": AutowareClass(5, BOX),
    "bicycle": AutowareClass(6, BOX),
    "traffic_cone": AutowareClass(9, CYLINDER),
    "barrier": AutowareClass(9, BOX),
}
UNKNOWN: Final = AutowareClass(0, BOX)

SIGN_UNKNOWN, AVAILABLE = 1, 2
SURE_RAD: Final = 0.6  #: A larger standard deviation of the heading does not tell front from back
DETECTED_SIGMA_MPS: Final = 1.0  #: Standard deviation of a detection's velocity; the network gives none
HORIZON_S, STEP_S = 5.0, 0.5  #: Length of a predicted path, and the time between its poses


def detected_to_msg(
    boxes: Boxes3D, stamp_ns: int, frame_id: str, make: MessageFactory, classes: tuple[str, ...]
) -> Any:
    """Return DetectedObjects of boxes in `frame_id` at a time; scores are calibrated, and so are existences."""
    spread = np.eye(2) * DETECTED_SIGMA_MPS**2
    objects = []
    for i in range(len(boxes)):
        known = bool(np.isfinite(boxes.velocities_mps[i]).all())
        kinematics = make(
            f"{PACKAGE}/msg/DetectedObjectKinematics",
            pose_with_covariance=_pose(boxes, i, np.diag(boxes.sigmas[i, :2] ** 2), make),
            has_position_covariance=bool(boxes.sigmas[i, 0] > 0),
            orientation_availability=_orientation(boxes, i),
            twist_with_covariance=_twist(boxes, i, spread, 0.0, make),
            has_twist=known,
            has_twist_covariance=known,
        )
        objects.append(make(f"{PACKAGE}/msg/DetectedObject", kinematics=kinematics, **_common(boxes, i, make, classes)))
    head = header(stamp_ns, frame_id, make)
    return make(f"{PACKAGE}/msg/DetectedObjects", header=head, objects=objects)


def tracked_to_msg(
    tracks: TrackedBoxes, stamp_ns: int, frame_id: str, make: MessageFactory, classes: tuple[str, ...], process: bytes
) -> Any:
    """Return TrackedObjects; `process` are the eight bytes that tell the ids of this process from those of others."""
    boxes, objects = tracks.boxes, []
    for i in range(len(boxes)):
        kinematics = make(
            f"{PACKAGE}/msg/TrackedObjectKinematics",
            pose_with_covariance=_pose(boxes, i, tracks.covariances[i, :2, :2], make),
            twist_with_covariance=_twist(boxes, i, tracks.covariances[i, 2:4, 2:4], tracks.turn_rates[i], make),
            acceleration_with_covariance=_no_acceleration(make),
            orientation_availability=_orientation(boxes, i),
            is_stationary=bool(np.hypot(*boxes.velocities_mps[i]) < MOVING_MPS),
        )
        common = {"object_id": _uuid(boxes.ids[i], process, make), **_common(boxes, i, make, classes)}
        objects.append(make(f"{PACKAGE}/msg/TrackedObject", kinematics=kinematics, **common))
    head = header(stamp_ns, frame_id, make)
    return make(f"{PACKAGE}/msg/TrackedObjects", header=head, objects=objects)


def predicted_to_msg(
    tracks: TrackedBoxes, stamp_ns: int, frame_id: str, make: MessageFactory, classes: tuple[str, ...], process: bytes
) -> Any:
    """Return PredictedObjects: of each track the path that its motion model takes, without a map."""
    boxes, objects = tracks.boxes, []
    paths = future(tracks, HORIZON_S, STEP_S)
    step = make("builtin_interfaces/msg/Duration", sec=0, nanosec=int(STEP_S * 1e9))
    for i in range(len(boxes)):
        poses = [upright_pose(pose[:3], float(pose[3]), make) for pose in paths[i]]
        path = make(f"{PACKAGE}/msg/PredictedPath", path=poses, time_step=step, confidence=1.0)
        kinematics = make(
            f"{PACKAGE}/msg/PredictedObjectKinematics",
            initial_pose_with_covariance=_pose(boxes, i, tracks.covariances[i, :2, :2], make),
            initial_twist_with_covariance=_twist(boxes, i, tracks.covariances[i, 2:4, 2:4], tracks.turn_rates[i], make),
            initial_acceleration_with_covariance=_no_acceleration(make),
            predicted_paths=[path],
        )
        common = {"object_id": _uuid(boxes.ids[i], process, make), **_common(boxes, i, make, classes)}
        objects.append(make(f"{PACKAGE}/msg/PredictedObject", kinematics=kinematics, **common))
    head = header(stamp_ns, frame_id, make)
    return make(f"{PACKAGE}/msg/PredictedObjects", header=head, objects=objects)


def _common(boxes: Boxes3D, i: int, make: MessageFactory, classes: tuple[str, ...]) -> dict[str, Any]:
    """Return what all three kinds of objects hold: existence, class and shape."""
    kind = KINDS.get(classes[int(boxes.labels[i])], UNKNOWN)
    length, width, height = boxes.sizes_m[i]
    size = (length, width, height) if kind.shape == BOX else ((length + width) / 2, (length + width) / 2, height)
    return {
        "existence_probability": float(boxes.scores[i]),
        "classification": [make(f"{PACKAGE}/msg/ObjectClassification", label=kind.label, probability=1.0)],
        "shape": make(
            f"{PACKAGE}/msg/Shape",
            type=kind.shape,
            footprint=make("geometry_msgs/msg/Polygon", points=[]),
            dimensions=triple(VECTOR, np.array(size), make),
        ),
    }


def _orientation(boxes: Boxes3D, i: int) -> int:
    return AVAILABLE if boxes.sigmas[i, 3] <= SURE_RAD else SIGN_UNKNOWN


def _pose(boxes: Boxes3D, i: int, xy: FloatArray, make: MessageFactory) -> Any:
    covariance = np.zeros((6, 6))
    covariance[:2, :2] = xy
    covariance[2, 2], covariance[5, 5] = boxes.sigmas[i, 2:] ** 2
    pose = upright_pose(boxes.centers_m[i], float(boxes.yaws_rad[i]), make)
    return make("geometry_msgs/msg/PoseWithCovariance", pose=pose, covariance=make.floats(covariance.ravel()))


def _twist(boxes: Boxes3D, i: int, spread: FloatArray, turn_rate: float, make: MessageFactory) -> Any:
    """Return the velocity in the axes of the object, as Autoware has it."""
    cos, sin = np.cos(boxes.yaws_rad[i]), np.sin(boxes.yaws_rad[i])
    turn = np.array([[cos, sin], [-sin, cos]])
    covariance = np.zeros((6, 6))
    covariance[:2, :2] = turn @ spread @ turn.T
    linear = np.array([*(turn @ np.nan_to_num(boxes.velocities_mps[i])), 0.0])
    twist = make(
        "geometry_msgs/msg/Twist",
        linear=triple(VECTOR, linear, make),
        angular=triple(VECTOR, np.array([0.0, 0.0, turn_rate]), make),
    )
    return make("geometry_msgs/msg/TwistWithCovariance", twist=twist, covariance=make.floats(covariance.ravel()))


def _no_acceleration(make: MessageFactory) -> Any:
    still = triple(VECTOR, np.zeros(3), make)
    accel = make("geometry_msgs/msg/Accel", linear=still, angular=still)
    return make("geometry_msgs/msg/AccelWithCovariance", accel=accel, covariance=make.floats(np.zeros(36)))


def _uuid(track: str, process: bytes, make: MessageFactory) -> Any:
    value = np.frombuffer(process + int(track).to_bytes(8, "big"), dtype=np.uint8)
    return make("unique_identifier_msgs/msg/UUID", uuid=value)
