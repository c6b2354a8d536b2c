# SPDX-License-Identifier: Apache-2.0
"""Camera images of the page: small JPEGs with the projection that puts a frame's boxes on them."""

import base64
from typing import Any, Final

import cv2

from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.rig import Sensor
from peft_dml_tools.drawing.cameras import in_rows
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording
from peft_dml_tools.evaluation.scene import FRESH_NS, decode_rgb, pixels_from_base

WIDTH_PX: Final = 400
QUALITY: Final = 62
VIEWS: Final = 40  #: Moments of a session that carry images; spread evenly


def camera_views(recording: Recording, alignment: Alignment, start_ns: int) -> list[dict[str, Any]]:
    """Return moments with the images nearest to them; None stands for an image that is not there."""
    step = max(1, -(-len(recording.frames) // VIEWS))
    cameras = in_rows(recording.rig)
    moments = []
    for index in range(0, len(recording.frames), step):
        frame = recording.frames[index]
        views = {sensor.name: _view(recording, alignment, frame, sensor, start_ns) for sensor in cameras}
        moments.append({"frame": index, "views": views})
    return moments


def _view(
    recording: Recording, alignment: Alignment, frame: RecordedFrame, sensor: Sensor, start_ns: int
) -> dict[str, Any] | None:
    image = recording.nearest(sensor.name, frame.stamp_ns, FRESH_NS)
    pixels = decode_rgb(image, sensor) if isinstance(image, CameraImage) else None
    if image is None or pixels is None:
        return None
    height = round(WIDTH_PX * pixels.shape[0] / pixels.shape[1])
    small = cv2.resize(pixels, (WIDTH_PX, height), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    matrix = pixels_from_base(sensor, alignment, frame.stamp_ns, image.stamp_ns, WIDTH_PX)
    return {
        "time": round((image.stamp_ns - start_ns) * 1e-9, 4),
        "size": [WIDTH_PX, height],
        "projection": None if matrix is None else [round(float(v), 5) for v in matrix.ravel()],
        "jpeg": base64.b64encode(jpeg.tobytes()).decode(),
    }
