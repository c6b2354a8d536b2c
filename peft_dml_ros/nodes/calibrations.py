# SPDX-License-Identifier: Apache-2.0
"""Calibration store: the mounting and projection of every sensor, from a file, /tf_static and CameraInfo."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor_msgs.msg import CameraInfo
from tf2_msgs.msg import TFMessage

from peft_dml_ros.conversions import camera_model_from_msg, transforms_from_msg
from peft_dml_ros.conversions.cdr import HEADER_END
from peft_dml_ros.conversions.topics import TF_STATIC, frame_of
from peft_dml_ros.core.calibration import load_calibration
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.rig import CameraModel, Rig
from peft_dml_ros.core.transforms import MAX_FRAMES, RigBuilder
from peft_dml_ros.nodes.decoder import unpacked
from peft_dml_ros.nodes.drops import DropCounter

INFO: Final = " calibration"
CONFIRMED_AFTER: Final = 1  #: Seconds after which a calibration that came once and was never contradicted counts


def info_of(camera: str) -> str:
    """Return the key of a camera's calibration among the connections."""
    return f"{camera}{INFO}"


@dataclass(slots=True)
class _CameraInfos:
    """CameraInfo of one camera: the content in force, and another one that waits for its confirmation."""

    content: bytes = b""
    pending: bytes = b""
    model: CameraModel | None = None
    waited_s: int = 0

    def confirm(self) -> CameraModel | None:
        """Put the pending content in force; return its projection."""
        self.content, self.pending = self.pending, b""
        return self.model


class CameraInfoFilter:
    """Takes the first calibration of a camera at once, another one when it comes twice in a row.

    CameraInfo comes with every image, and one damaged message must not count. A calibration that is latched comes once:
    it counts when for a second nothing contradicts it.
    """

    def __init__(self, drops: DropCounter) -> None:
        self._drops = drops
        self._cameras: dict[str, _CameraInfos] = {}

    def take(self, camera: str, cdr: bytes, *, rectified: bool = False) -> CameraModel | None:
        """Take a serialised CameraInfo; return its projection when that is new, and certain.

        Raises DataError: the bytes are no CameraInfo, or the camera is not calibrated.
        """
        content, infos = cdr[HEADER_END:], self._cameras.setdefault(camera, _CameraInfos())
        if content == infos.pending:
            return infos.confirm()
        if infos.pending:
            infos.pending = b""
            self._drops.count(f"{camera} calibration: unconfirmed", "it differs from those before and after it")
        if content == infos.content:
            return None
        infos.model, infos.waited_s = camera_model_from_msg(unpacked(cdr, CameraInfo), rectified=rectified), 0
        infos.pending = content
        return None if infos.content else infos.confirm()

    def uncontradicted(self) -> dict[str, CameraModel]:
        """Return by camera the calibrations that waited long enough; to be called once a second."""
        found = {}
        for camera, infos in self._cameras.items():
            infos.waited_s += bool(infos.pending)
            if infos.pending and infos.waited_s > CONFIRMED_AFTER and (model := infos.confirm()) is not None:
                found[camera] = model
        return found


class CalibrationStore:
    """Keeps the rig up to date. Raises ConfigError: the file is no calibration.

    Args:
        sensors: Names, in rig order.
        base_frame: Frame of the boxes.
        file: Calibration file; for the sensors in it, it counts whatever ROS says. Empty for none.
        drops: Counts what is refused.
        on_change: Called after the rig has changed.

    Attributes:
        rig: Sensors whose mounting, and projection, are known.
        missing: Why each other sensor is not in the rig.
        frames: Frame of the last message of each sensor that was accepted with the present rig.
    """

    def __init__(
        self, sensors: Sequence[str], base_frame: str, file: str, drops: DropCounter, on_change: Callable[[], None]
    ) -> None:
        given = load_calibration(Path(file)) if file else None
        self._builder = RigBuilder({name: frame_of(name) for name in sensors}, base_frame, given)
        self._infos, self._drops, self._on_change = CameraInfoFilter(drops), drops, on_change
        self.rig: Rig = self._builder.rig()
        self.missing = self._builder.missing()
        self.frames: dict[str, str] = {}

    def other_frame(self, name: str, frame_id: str) -> str:
        """Take in that a sensor's message names another frame than before; return in words why it cannot be used."""
        if self._builder.unconnected(name, frame_id):
            return f"its frame '{frame_id[:40]}' has no static transform"
        if self._builder.name_frame(name, frame_id):
            self._rebuild()
        self.frames[name] = frame_id
        return ""

    def take_camera_info(self, camera: str, cdr: bytes, *, rectified: bool) -> None:
        """Take a serialised CameraInfo, of images that are rectified or not; a damaged one is counted."""
        try:
            model = self._infos.take(camera, cdr, rectified=rectified)
        except DataError as error:
            self._drops.count(f"{info_of(camera)}: malformed", error)
            return
        if model is not None:
            self._builder.set_camera(camera, model)
            self._rebuild()

    def take_transforms(self, cdr: bytes) -> None:
        """Take a serialised message of /tf_static; a damaged one is counted."""
        tree = self._builder.tree
        before = tree.refused
        try:
            changed = tree.update(transforms_from_msg(unpacked(cdr, TFMessage)))
        except DataError as error:
            self._drops.count(f"{TF_STATIC}: malformed", error)
            return
        if changed:
            self._rebuild()
        if refused := tree.refused - before:
            detail = f"'{tree.last_refused}' and others; at most {MAX_FRAMES} are kept, does a node invent names?"
            self._drops.count(f"{TF_STATIC}: too many frames", detail, n=refused)

    def every_second(self) -> None:
        """Put calibrations in force that nothing contradicted."""
        for camera, model in self._infos.uncontradicted().items():
            self._builder.set_camera(camera, model)
            self._rebuild()

    def _rebuild(self) -> None:
        self.rig, self.missing = self._builder.rig(), self._builder.missing()
        self.frames.clear()
        self._on_change()
