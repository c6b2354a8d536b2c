# SPDX-License-Identifier: Apache-2.0
"""Autoware's objects, in the real message classes."""

import numpy as np
import pytest

pytest.importorskip("autoware_perception_msgs", reason="run python interfaces/build.py")

from autoware_perception_msgs.msg import DetectedObjectKinematics, ObjectClassification, Shape

from peft_dml_ros.conversions.autoware import (
    HORIZON_S,
    KINDS,
    STEP_S,
    detected_to_msg,
    predicted_to_msg,
    tracked_to_msg,
)
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.tracking import Tracker
from peft_dml_ros.core.tracking.visibility import Coverage
from peft_dml_ros.nodes.factory import RclpyFactory

STAMP_NS = 1_700_000_000_123_456_789
PROCESS = bytes(range(8))


def boxes(yaw=np.pi / 2, sigma_yaw=0.2):
    made = Boxes3D.make(
        np.array([[10.0, 2.0, 0.9], [5.0, -1.0, 0.8]]),
        np.array([[4.6, 1.9, 1.7], [0.8, 0.6, 1.8]]),
        np.array([yaw, 0.0]),
        np.array([CLASSES.index("car"), CLASSES.index("pedestrian")]),
        velocities_mps=np.array([[0.0, 6.0], [np.nan, np.nan]]),
        scores=np.array([0.8, 0.6]),
    )
    made.sigmas[:] = [0.3, 0.4, 0.2, sigma_yaw]
    return made


def tracks():
    tracker = Tracker()
    for k in range(8):
        moved = boxes()
        moved.centers_m[0, 1] += 0.6 * k
        out = tracker(moved, STAMP_NS + k * 100_000_000, SE3.identity(), Coverage(np.ones(5)))
    return out


def test_every_class_has_a_label_of_autoware():
    words = ["CAR", "TRUCK", "BUS", "TRAILER", "MOTORCYCLE", "BICYCLE", "PEDESTRIAN", "HAZARD"]
    names = {getattr(ObjectClassification, word): word for word in words}
    assert set(KINDS) == set(CLASSES)
    assert {name: names[kind.label] for name, kind in KINDS.items()} == {
        "car": "CAR",
        "truck": "TRUCK",
        "bus": "BUS",
        "trailer": "TRAILER",
        "construction_vehicle": "TRUCK",
        "pedestrian": "PEDESTRIAN",
        "motorcycle": "MOTORCYCLE",
        "bicycle": "BICYCLE",
        "traffic_cone": "HAZARD",
        "barrier": "HAZARD",
    }


def test_detected_objects_hold_what_the_boxes_say():
    msg = detected_to_msg(boxes(), STAMP_NS, "base_link", RclpyFactory(), CLASSES)
    assert (msg.header.frame_id, msg.header.stamp.sec, msg.header.stamp.nanosec) == (
        "base_link",
        1_700_000_000,
        123456789,
    )
    car, walker = msg.objects
    assert car.existence_probability == pytest.approx(0.8)
    assert car.classification[0].label == ObjectClassification.CAR
    assert (car.shape.type, walker.shape.type) == (Shape.BOUNDING_BOX, Shape.CYLINDER)
    assert (car.shape.dimensions.x, car.shape.dimensions.y, car.shape.dimensions.z) == (4.6, 1.9, 1.7)
    assert walker.shape.dimensions.x == walker.shape.dimensions.y == pytest.approx(0.7)
    kinematics = car.kinematics
    assert kinematics.pose_with_covariance.pose.position.x == 10.0
    assert kinematics.pose_with_covariance.covariance[0] == pytest.approx(0.09)
    assert kinematics.pose_with_covariance.covariance[7] == pytest.approx(0.16)
    assert kinematics.pose_with_covariance.covariance[35] == pytest.approx(0.04)
    # Driving along +y with the heading along +y: forwards in its own axes.
    assert kinematics.twist_with_covariance.twist.linear.x == pytest.approx(6.0)
    assert kinematics.twist_with_covariance.twist.linear.y == pytest.approx(0.0)
    assert (kinematics.has_twist, walker.kinematics.has_twist) == (True, False)
    assert kinematics.orientation_availability == DetectedObjectKinematics.AVAILABLE
    unsure = detected_to_msg(boxes(sigma_yaw=0.9), STAMP_NS, "base_link", RclpyFactory(), CLASSES)
    assert unsure.objects[0].kinematics.orientation_availability == DetectedObjectKinematics.SIGN_UNKNOWN


def test_tracked_objects_keep_their_identity_and_covariance():
    found = tracks()
    msg = tracked_to_msg(found, STAMP_NS, "base_link", RclpyFactory(), CLASSES, PROCESS)
    ids = [bytes(o.object_id.uuid) for o in msg.objects]
    assert ids == [PROCESS + int(name).to_bytes(8, "big") for name in found.boxes.ids]
    car = next(o for o in msg.objects if o.classification[0].label == ObjectClassification.CAR)
    assert car.kinematics.twist_with_covariance.twist.linear.x == pytest.approx(6.0, abs=0.6)
    assert not car.kinematics.is_stationary
    assert car.kinematics.pose_with_covariance.covariance[0] > 0
    assert car.kinematics.twist_with_covariance.covariance[0] > 0


def test_predicted_paths_follow_the_motion():
    msg = predicted_to_msg(tracks(), STAMP_NS, "base_link", RclpyFactory(), CLASSES, PROCESS)
    car = next(o for o in msg.objects if o.classification[0].label == ObjectClassification.CAR)
    (path,) = car.kinematics.predicted_paths
    assert len(path.path) == HORIZON_S / STEP_S + 1
    assert path.time_step.nanosec == 500_000_000
    ahead = path.path[4].position.y - path.path[0].position.y
    assert ahead == pytest.approx(2.0 * 6.0, abs=2.0)


def test_nothing_is_an_empty_message():
    make = RclpyFactory()
    assert detected_to_msg(Boxes3D.empty(), STAMP_NS, "base_link", make, CLASSES).objects == []
    nothing = Tracker()(Boxes3D.empty(), STAMP_NS, None, Coverage(np.ones(5)))
    assert tracked_to_msg(nothing, STAMP_NS, "base_link", make, CLASSES, PROCESS).objects == []
    assert predicted_to_msg(nothing, STAMP_NS, "base_link", make, CLASSES, PROCESS).objects == []
