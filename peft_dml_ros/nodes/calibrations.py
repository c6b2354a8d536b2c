# SPDX-License-Identifier: Apache-2.0
"""Which CameraInfo of each camera is in force. It comes with every image, and one damaged message must not count."""

from __future__ import annotations

from dataclasses import dataclass

from sensor_msgs.msg import CameraInfo

from peft_dml_ros.conversions import camera_model_from_msg
from peft_dml_ros.conversions.cdr import HEADER_END
from peft_dml_ros.core.rig import CameraModel
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.subscribing import unpacked

PATIENCE = 1
"""Looks, one a second, after which a calibration that was told once and never contradicted counts."""


@dataclass(slots=True)
class _Told:
    """What was told of one camera: the content in force, and another one that waits for its confirmation."""

    content: bytes = b""
    pending: bytes = b""
    model: CameraModel | None = None
    looks: int = 0


class Calibrations:
    """Takes the first calibration of a camera at once, another one when it is told twice in a row.

    A calibration that is latched is told once: it counts when for a second nothing says otherwise.

    Args:
        drops: Counts calibrations that nothing confirmed.
    """

    def __init__(self, drops: DropCounter) -> None:
        self._drops = drops
        self._cameras: dict[str, _Told] = {}

    def take(self, camera: str, cdr: bytes) -> CameraModel | None:
        """A serialised CameraInfo in; its projection when that is news, and certain.

        Raises:
            DataError: the bytes are no CameraInfo, or the camera is not calibrated.
        """
        content, told = cdr[HEADER_END:], self._cameras.setdefault(camera, _Told())
        if content == told.pending:
            return self._confirmed(told)
        if told.pending:
            told.pending = b""
            self._drops.count(f"{camera} calibration: unconfirmed", "it differs from those before and after it")
        if content == told.content:
            return None
        told.model, told.looks = camera_model_from_msg(unpacked(cdr, CameraInfo)), 0
        told.pending = content
        return None if told.content else self._confirmed(told)

    def unopposed(self) -> dict[str, CameraModel]:
        """By camera, calibrations that waited long enough; to be called once a second."""
        found = {}
        for camera, told in self._cameras.items():
            if not told.pending:
                continue
            told.looks += 1
            if told.looks > PATIENCE and (model := self._confirmed(told)) is not None:
                found[camera] = model
        return found

    @staticmethod
    def _confirmed(told: _Told) -> CameraModel | None:
        told.content, told.pending = told.pending, b""
        return told.model
