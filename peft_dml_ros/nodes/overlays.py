# SPDX-License-Identifier: Apache-2.0
"""Pictures with boxes in them, made in a thread of their own and only of cameras that somebody looks at."""

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import cv2

from peft_dml_ros.conversions import image_to_msg
from peft_dml_ros.conversions.topics import frame_of
from peft_dml_ros.core.box_wireframes import draw_wireframes, pixels_from_boxes
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.camera_view import decoded
from peft_dml_ros.core.classes import CLASS_COLOURS
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.motion import EgoMotion
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.typing import UInt8Array
from peft_dml_ros.nodes.drops import DropCounter
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.frame_loop import LatestWorker

WIDTH_PX: Final = 640  #: Images are shrunk while they are decoded, but not below this width
JPEG_QUALITY: Final = 80
YIELDING: Final = 10  #: Niceness of the thread: the detector goes first
#: Part of a core that drawing takes at most; where six cameras need 40 ms, their pictures come at 6 Hz
SHARE: Final = 0.25


class OverlayJob(NamedTuple):
    """What the pictures of one frame are made of."""

    snapshot: Snapshot
    rig: Rig
    boxes: Boxes3D
    classes: Sequence[str]
    cameras: frozenset[str]


class Overlays:
    """Publishes the newest frame's pictures; a frame that comes while one is drawn replaces the one that waits.

    After each frame the thread rests, so that a recorder of everything does not cost the detector a core.
    """

    def __init__(self, publishers: Mapping[str, Any], drops: DropCounter) -> None:
        self._publishers, self._drops = dict(publishers), drops
        self._make = RclpyFactory()
        self._worker: LatestWorker[OverlayJob] | None = None
        self._yields = False
        self._closing = threading.Event()

    def submit(self, snapshot: Snapshot, rig: Rig, boxes: Boxes3D, classes: Sequence[str]) -> bool:
        """Hand a frame over, if a camera of it is looked at; returns at once, with whether it was."""
        listened = {name for name, publisher in self._publishers.items() if publisher.get_subscription_count()}
        wanted = frozenset(listened.intersection(snapshot.cameras))
        if not wanted:
            return False
        if self._worker is None:
            self._worker = LatestWorker(self._draw_all, lambda error: self._drops.count("overlay: failed", repr(error)))
        self._worker.submit(OverlayJob(snapshot, rig, boxes, classes, wanted))
        return True

    def close(self) -> None:
        """End the thread."""
        if self._worker is not None:
            self._closing.set()
            self._worker.close()
            self._worker = None
            self._closing.clear()

    def _draw_all(self, frame: OverlayJob) -> None:
        if not self._yields:
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, max(YIELDING, os.getpriority(os.PRIO_PROCESS, thread)))
            self._yields = True
        start_s = time.monotonic()
        motion = EgoMotion(frame.snapshot)
        for name in sorted(frame.cameras):
            image = frame.snapshot.cameras[name]
            frame_SE3_then = motion.now_SE3_then(image.stamp_ns) or SE3.identity()
            try:
                picture = overlay(image, frame.rig[name], frame_SE3_then.inverse(), frame.boxes, frame.classes)
            except DataError as error:
                self._drops.count("overlay: failed", f"{name}: {error}")
                continue
            bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            jpeg = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
            message = image_to_msg(CameraImage(image.stamp_ns, jpeg=jpeg), frame_of(name), self._make)
            self._publishers[name].publish(message)
        self._closing.wait((time.monotonic() - start_s) * (1 / SHARE - 1))


def overlay(
    image: CameraImage, sensor: Sensor, then_SE3_frame: SE3, boxes: Boxes3D, classes: Sequence[str]
) -> UInt8Array:
    """Return an image with wireframes in the colours of their classes. Raises DataError: the bytes are no image.

    Args:
        image: Of the camera.
        sensor: Its mounting and projection.
        then_SE3_frame: Maps `base_link` at the boxes' time to `base_link` at the image's.
        boxes: In `base_link`.
        classes: Names that `boxes.labels` index.

    Returns:
        (H, W, 3) uint8 RGB, at least `WIDTH_PX` wide where the image is.
    """
    pixels = decoded(image, WIDTH_PX, sensor.camera)
    # What is drawn into must not be what the network still reads.
    pixels = pixels.copy() if pixels is image.pixels else pixels
    matrix = pixels_from_boxes(sensor, then_SE3_frame, pixels.shape[1])
    if matrix is not None:
        colours = [CLASS_COLOURS.get(classes[int(i)], (200, 200, 200)) for i in boxes.labels]
        draw_wireframes(pixels, boxes, matrix, colours, max(1, round(pixels.shape[1] / 400)))
    return pixels
