# SPDX-License-Identifier: Apache-2.0
"""Publishers of tracks, and of Autoware's objects where they are asked for; nothing is computed for nobody."""

import secrets
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from vision_msgs.msg import Detection3DArray
from visualization_msgs.msg import MarkerArray

from peft_dml_ros.conversions import trails_to_cdr
from peft_dml_ros.conversions.autoware import PACKAGE, TOPICS, detected_to_msg, predicted_to_msg, tracked_to_msg
from peft_dml_ros.conversions.boxes import boxes_to_cdr
from peft_dml_ros.core.detector import Detections
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.motion import EgoMotion
from peft_dml_ros.core.tracking import TrackedBoxes, Tracker, compile_kernels
from peft_dml_ros.core.tracking.visibility import Coverage, camera_sectors
from peft_dml_ros.core.typing import FloatArray
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.matched_subscription import message_class
from peft_dml_ros.nodes.parameter_file import NodeParams
from peft_dml_ros.nodes.pipeline import FrameJob

DEPTH: Final = 10
TRAIL: Final = 40  #: Positions that a trail keeps: four seconds at 10 Hz


class ObjectOutputs:
    """Tracks and Autoware's messages of one node. Raises ConfigError: these are wanted, and are not installed."""

    def __init__(self, new: Callable[[type[Any], str, int], Any], params: NodeParams) -> None:
        self._params, self._frame, self._make = params, params.base_frame, RclpyFactory()
        self._process = secrets.token_bytes(8)
        self._tracks = new(Detection3DArray, "~/tracks", DEPTH)
        self._markers = new(MarkerArray, "~/track_markers", DEPTH)
        wanted = TOPICS.items() if params.autoware else ()
        self._autoware = {topic: new(self._class(kind), f"~/{topic}", 1) for topic, kind in wanted}
        compile_kernels()
        self._tracker: Tracker | None = None
        self._last_ns = 0
        self._trails: dict[str, FloatArray] = {}

    @staticmethod
    def _class(kind: str) -> type[Any]:
        try:
            return message_class(f"{PACKAGE}/msg/{kind}")
        except ConfigError:
            raise ConfigError(
                f"autoware is true, but {PACKAGE} is not installed; fix: source Autoware, or build it: "
                "apt install ros-$ROS_DISTRO-autoware-perception-msgs, or python interfaces/build.py"
            ) from None

    @property
    def publishers(self) -> tuple[Any, ...]:
        """Every publisher, for their owner to destroy."""
        return (self._tracks, self._markers, *self._autoware.values())

    def publish(self, found: Detections, job: FrameJob, classes: tuple[str, ...]) -> None:
        """Publish what is listened to; tracks start when their first listener comes, and end with the last."""
        if self._heard("objects"):
            message = detected_to_msg(found.boxes, found.stamp_ns, self._frame, self._make, classes)
            self._autoware["objects"].publish(message)
        wanted = any(p.get_subscription_count() for p in (self._tracks, self._markers))
        if not wanted and not self._heard("tracked_objects") and not self._heard("predicted_objects"):
            self._tracker, self._trails = None, {}
            return
        tracks = self._track(found, job)
        if self._tracks.get_subscription_count():
            self._tracks.publish(boxes_to_cdr(tracks.boxes, found.stamp_ns, self._frame, classes))
        if self._markers.get_subscription_count():
            self._markers.publish(trails_to_cdr(tracks.boxes, self._trails, found.stamp_ns, self._frame))
        for topic, convert in (("tracked_objects", tracked_to_msg), ("predicted_objects", predicted_to_msg)):
            if self._heard(topic):
                message = convert(tracks, found.stamp_ns, self._frame, self._make, classes, self._process)
                self._autoware[topic].publish(message)

    def _heard(self, topic: str) -> bool:
        return topic in self._autoware and self._autoware[topic].get_subscription_count() > 0

    def _track(self, found: Detections, job: FrameJob) -> TrackedBoxes:
        if self._tracker is None:
            self._tracker, self._last_ns = Tracker(self._params.tracking), found.stamp_ns
        motion = EgoMotion(job.snapshot).now_SE3_then(self._last_ns)
        self._last_ns = found.stamp_ns
        coverage = Coverage(found.mask, camera_sectors(job.rig, job.snapshot.cameras))
        tracks = self._tracker(found.boxes, found.stamp_ns, motion, coverage)
        trails = {}
        for name, center_m in zip(tracks.boxes.ids, tracks.boxes.centers_m, strict=True):
            before = self._trails.get(name, np.zeros((0, 3)))[1 - TRAIL :]
            moved = before if motion is None or not len(before) else motion.transform(before)
            trails[name] = np.concatenate([moved, center_m[None]])
        self._trails = trails
        return tracks
