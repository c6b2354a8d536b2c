# SPDX-License-Identifier: Apache-2.0
"""The rig as the vehicle describes it at run time: mounting from /tf_static, projection from CameraInfo."""

from collections.abc import Iterable, Mapping
from typing import Final

from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor, modality_of_channel

MAX_FRAMES: Final = 1000  #: Frames of a vehicle; whoever publishes ever new names must not fill the memory
LONGEST_NAME: Final = 256


class StaticTree:
    """Fixed transforms between frames, each given to its parent. It takes `MAX_FRAMES`; more are refused.

    Attributes:
        refused: Transforms that were not taken in, for their number or for the length of their names.
        last_refused: Child frame of the last of them.
    """

    def __init__(self) -> None:
        self._parents: dict[str, tuple[str, SE3]] = {}
        self.refused, self.last_refused = 0, ""

    def update(self, transforms: Iterable[tuple[str, str, SE3]]) -> bool:
        """Take (parent, child, parent_SE3_child) in; True when that changed anything."""
        changed = False
        for parent, child, parent_SE3_child in transforms:
            known = self._parents.get(child)
            if max(len(parent), len(child)) > LONGEST_NAME or (known is None and len(self._parents) >= MAX_FRAMES):
                self.refused, self.last_refused = self.refused + 1, child[:40]
                continue
            if known is None or known[0] != parent or not _equal(known[1], parent_SE3_child):
                self._parents[child] = (parent, parent_SE3_child)
                changed = True
        return changed

    def lookup(self, target: str, source: str) -> SE3 | None:
        """Return `target_SE3_source` over any number of hops, also by a common ancestor; `None` when not connected."""
        from_target, from_source = self._ancestors(target), self._ancestors(source)
        for ancestor, ancestor_SE3_source in from_source.items():
            if ancestor in from_target:
                return from_target[ancestor].inverse() @ ancestor_SE3_source
        return None

    @property
    def roots(self) -> list[str]:
        """Frames at which the trees start."""
        return sorted({parent for parent, _ in self._parents.values()} - self._parents.keys())

    def _ancestors(self, frame: str) -> dict[str, SE3]:
        """Return `ancestor_SE3_frame` of the frame itself and all above it; a loop in the tree ends the walk."""
        found = {frame: SE3.identity()}
        here = frame
        while here in self._parents and self._parents[here][0] not in found:
            parent, parent_SE3_here = self._parents[here]
            found[parent] = parent_SE3_here @ found[here]
            here = parent
        return found


class RigBuilder:
    """Collects what is known of the wanted sensors; what is incomplete stays out of the rig, with a reason.

    Args:
        frames: Frame id by sensor name, in rig order, as expected until a message of the sensor names another.
        base_frame: Frame of the boxes.
        given: Sensors whose mounting, and projection, are known beforehand; for these it counts, whatever ROS says.
    """

    def __init__(self, frames: Mapping[str, str], base_frame: str, given: Rig | None = None) -> None:
        self.tree = StaticTree()
        self._frames, self._base = dict(frames), base_frame
        self._given = {} if given is None else given.sensors
        self._cameras: dict[str, CameraModel] = {}

    def name_frame(self, sensor: str, frame_id: str) -> bool:
        """Learn in which frame a sensor measures; True when that is news. An empty frame id changes nothing."""
        frame_id = frame_id.lstrip("/")
        if not frame_id or self._frames[sensor] == frame_id:
            return False
        self._frames[sensor] = frame_id
        return True

    def unconnected(self, sensor: str, frame_id: str) -> bool:
        """Return whether a frame leads nowhere, while the sensor's own is mounted: the message is damaged."""
        frame_id, known = frame_id.lstrip("/"), self._frames[sensor]
        if not frame_id or frame_id == known or sensor in self._given or modality_of_channel(sensor) is None:
            return False
        return self.tree.lookup(self._base, frame_id) is None and self.tree.lookup(self._base, known) is not None

    def set_camera(self, sensor: str, model: CameraModel) -> None:
        """Learn how a camera projects."""
        self._cameras[sensor] = model

    def missing(self) -> dict[str, str]:
        """Return why each sensor that is not in the rig is not."""
        reasons = {}
        for sensor, frame in self._frames.items():
            modality = modality_of_channel(sensor)
            # Fixes are used as relative motion, wherever the antenna sits.
            if modality not in {None, "gnss"} and self._mounting(sensor, frame) is None:
                reasons[sensor] = f"no static transform from '{self._base}' to '{frame}'"
            elif modality == "camera" and self._projection(sensor) is None:
                reasons[sensor] = "no CameraInfo yet"
        return reasons

    def _mounting(self, sensor: str, frame: str) -> SE3 | None:
        given = self._given.get(sensor)
        return self.tree.lookup(self._base, frame) if given is None else given.base_SE3_sensor

    def _projection(self, sensor: str) -> CameraModel | None:
        given = self._given.get(sensor)
        return self._cameras.get(sensor) if given is None or given.camera is None else given.camera

    def rig(self) -> Rig:
        """Return all sensors that are complete, each time under a new version.

        Odometry needs no mounting: it tells of the base frame itself.
        """
        absent = self.missing()
        sensors = {
            name: Sensor(
                name, modality_of_channel(name), self._mounting(name, frame) or SE3.identity(), self._projection(name)
            )
            for name, frame in self._frames.items()
            if name not in absent
        }
        return Rig(sensors)


def _equal(first: SE3, second: SE3) -> bool:
    return bool((first.rotation == second.rotation).all() and (first.translation == second.translation).all())
