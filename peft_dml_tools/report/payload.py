# SPDX-License-Identifier: Apache-2.0
"""A recording as what the page draws: small integers and floats in base64, times in seconds since the first frame."""

import base64
from collections.abc import Sequence
from typing import Any, Final

import cv2
import numpy as np

from peft_dml_ros.core.box_wireframes import pixels_from_boxes
from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.classes import CLASS_COLOURS, CLASSES, MODALITIES
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.rig import Sensor
from peft_dml_ros.core.typing import AnyArray, Float32Array
from peft_dml_tools.drawing.cameras import in_rows
from peft_dml_tools.evaluation.alignment import Alignment
from peft_dml_tools.evaluation.recording import RecordedFrame, Recording, shown_sensors
from peft_dml_tools.evaluation.scene import FRESH_NS, decode_rgb, lidar_points_m, radar_points

WIDTH_PX: Final = 400
QUALITY: Final = 62
VIEWS: Final = 40  #: Moments of a session that carry images; spread evenly
RANGE_M: Final = 52.0
LIDAR_POINTS: Final = 6000  #: LiDAR points per frame in the page; more would not show and would weigh
BOXES: Final = 120
MIN_SCORE: Final = 0.1  #: Boxes below this score never reach the page; its slider starts here


def payload(recording: Recording) -> dict[str, Any]:
    """Return everything the page's script needs, ready for JSON; the session has at least one frame."""
    frames, start_ns = recording.frames, recording.start_ns
    alignment = Alignment(recording.odometry)
    names = shown_sensors(recording.rig)

    def seconds(stamp_ns: int) -> float:
        return round((stamp_ns - start_ns) * 1e-9, 4)

    return {
        "title": recording.title,
        "live": recording.live,
        "range_m": RANGE_M,
        "min_score": MIN_SCORE,
        "classes": CLASSES,
        "colours": [CLASS_COLOURS[name] for name in CLASSES],
        "modalities": MODALITIES,
        "sensors": _sensors(recording, names),
        "faults": [
            {"sensor": f.sensor, "fault": f.fault, "from": seconds(f.from_ns), "to": seconds(f.to_ns)}
            for f in recording.faults
        ],
        "time": [seconds(frame.stamp_ns) for frame in frames],
        "reference": [frame.reference for frame in frames],
        "latency": [round(frame.latency_ms, 2) for frame in frames],
        "gate": [[round(float(v), 4) for v in frame.gate] for frame in frames],
        "mask": [[int(v > 0) for v in frame.mask] for frame in frames],
        "state": _states(frames, names),
        "boxes": ragged([box_rows(_shown(frame.boxes)) for frame in frames], 11, np.float32),
        "truth": ragged([box_rows(frame.truth or Boxes3D.empty()) for frame in frames], 11, np.float32),
        "truth_known": [int(frame.truth is not None) for frame in frames],
        "lidar": ragged(_lidar_rows(recording, alignment), 3, np.int16),
        "radar": ragged(_radar_rows(recording, alignment), 4, np.int16),
        "views": camera_views(recording, alignment, start_ns),
    }


def ragged(rows: Sequence[AnyArray], width: int, dtype: type[np.generic]) -> dict[str, Any]:
    """Return arrays (N_i, width) as one base64 block with the offset of each, in rows."""
    parts = [np.asarray(part, dtype=dtype).reshape(-1, width) for part in rows]
    offsets = np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    block = np.concatenate(parts) if parts else np.zeros((0, width), dtype)
    data = base64.b64encode(np.ascontiguousarray(block).tobytes()).decode()
    return {"offsets": offsets.tolist(), "width": width, "type": np.dtype(dtype).name, "data": data}


def box_rows(boxes: Boxes3D) -> Float32Array:
    """Return (N, 11) float32: centre, size, yaw, velocity, label, score."""
    motion = [boxes.yaws_rad[:, None], np.nan_to_num(boxes.velocities_mps)]
    labels = boxes.labels[:, None].astype(np.float64)
    columns = [boxes.centers_m, boxes.sizes_m, *motion, labels, boxes.scores[:, None]]
    rows: Float32Array = np.concatenate(columns, axis=1).astype(np.float32)
    return rows


def _shown(boxes: Boxes3D) -> Boxes3D:
    best = np.argsort(-boxes.scores, kind="stable")[:BOXES]
    return boxes[best[boxes.scores[best] >= MIN_SCORE]]


def _sensors(recording: Recording, names: list[str]) -> list[dict[str, Any]]:
    sensors = []
    for name in names:
        sensor = recording.rig[name]
        camera = sensor.camera
        half_fov = None if camera is None else float(np.arctan2(camera.width_px / 2, camera.intrinsics[0, 0]))
        axis = sensor.base_SE3_sensor.rotation[:2, 2 if camera is not None else 0]
        heading = float(np.arctan2(axis[1], axis[0]))
        sensors.append({"name": name, "modality": sensor.modality, "heading": heading, "half_fov": half_fov})
    return sensors


def _states(frames: Sequence[RecordedFrame], names: list[str]) -> dict[str, Any]:
    """Return the reason code per frame and sensor: 0 in use, 1 unknown, else an index into `reasons`."""
    reasons = ["in use", "not reported"]
    rows = []
    for frame in frames:
        row = []
        for name in names:
            reading = frame.sensors.get(name)
            text = "not reported" if reading is None else reading.reason or "in use"
            if text not in reasons:
                reasons.append(text)
            row.append(reasons.index(text))
        rows.append(row)
    return {"reasons": reasons, "rows": rows}


def _lidar_rows(recording: Recording, alignment: Alignment) -> list[AnyArray]:
    """Return (N, 3) int16 per frame: x, y, z in cm, thinned."""
    rows: list[AnyArray] = []
    for frame in recording.frames:
        points = lidar_points_m(recording, alignment, frame.stamp_ns)
        points = points[(np.abs(points[:, :2]) < RANGE_M).all(axis=1) & (points[:, 2] < 8.0)]
        rows.append((_thin(points) * 100).astype(np.int16))
    return rows


def _thin(points: Float32Array) -> Float32Array:
    """Return fewer points: one on the ground is eight times less likely to stay than one above it."""
    if len(points) <= LIDAR_POINTS:
        return points
    weight = np.where(points[:, 2] > 0.25, 8.0, 1.0)
    draw = np.random.default_rng(0).random(len(points)) ** (1.0 / weight)
    kept: Float32Array = points[np.argpartition(-draw, LIDAR_POINTS)[:LIDAR_POINTS]]
    return kept


def _radar_rows(recording: Recording, alignment: Alignment) -> list[AnyArray]:
    """Return (N, 4) int16 per frame: x, y in cm and vx, vy in cm/s."""
    rows: list[AnyArray] = []
    for frame in recording.frames:
        points = radar_points(recording, alignment, frame.stamp_ns)
        rows.append((points[(np.abs(points[:, :2]) < RANGE_M).all(axis=1)] * 100).astype(np.int16))
    return rows


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
    matrix = pixels_from_boxes(sensor, alignment.now_SE3_then(image.stamp_ns, frame.stamp_ns), WIDTH_PX)
    return {
        "time": round((image.stamp_ns - start_ns) * 1e-9, 4),
        "size": [WIDTH_PX, height],
        "projection": None if matrix is None else [round(float(v), 5) for v in matrix.ravel()],
        "jpeg": base64.b64encode(jpeg.tobytes()).decode(),
    }
