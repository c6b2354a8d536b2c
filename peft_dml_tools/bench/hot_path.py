# SPDX-License-Identifier: Apache-2.0
"""The parts of a frame that are this software's own: messages to arrays, pillars, pictures, boxes."""

import array
import struct
from types import SimpleNamespace
from typing import Any, Final

import cv2
import numpy as np

from peft_dml_ros.conversions import lidar_from_msg
from peft_dml_ros.core.boxes import decode_candidates, non_maximum_suppression
from peft_dml_ros.core.camera_view import load_image
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.pillars import lidar_pillars
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_ros.core.typing import AnyArray, Float32Array
from peft_dml_tools.bench.timing import interleaved, timed

SWEEP_POINTS: Final = 34_720
PILLAR_POINTS: Final = 270_000
CANDIDATES: Final = 500
_POINT: Final = struct.Struct("<fffff")


def hot_path(repeats: int) -> dict[str, dict[str, float]]:
    """Return milliseconds of each part, from so many repetitions; pictures are of 1600 × 900 pixels."""
    spec, rng = ModelSpec(), np.random.default_rng(0)
    msg = cloud_message(points(SWEEP_POINTS, rng))
    found = interleaved({"cloud_decode": lambda: lidar_from_msg(msg)}, repeats)
    found["cloud_decode_list"] = timed(lambda: listed(msg), max(repeats // 10, 3))
    accumulated = points(PILLAR_POINTS, rng)
    found["pillars_270k"] = timed(lambda: lidar_pillars(accumulated, spec.grid, spec.lidar), repeats)
    pictures = [made_image(rng)] * 6
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    found["jpeg6"] = timed(lambda: [load_image(picture, spec.camera) for picture in pictures], repeats)
    cv2.setNumThreads(threads)
    outputs = candidates(CANDIDATES, spec, rng)
    found["nms500"] = timed(lambda: boxes_of(outputs, spec), repeats)
    return found


def points(count: int, rng: np.random.Generator) -> Float32Array:
    """Return (N, 5) points as dense near the vehicle as a LiDAR's."""
    distance, angle = rng.gamma(2.0, 7.0, count), rng.uniform(-np.pi, np.pi, count)
    height, intensity = rng.normal(0.5, 1.0, count), rng.uniform(0, 1, count)
    columns = (distance * np.cos(angle), distance * np.sin(angle), height, intensity, np.zeros(count))
    cloud: Float32Array = np.stack(columns, axis=1).astype(np.float32)
    return cloud


def cloud_message(values: Float32Array) -> Any:
    """Return a stand-in for sensor_msgs/PointCloud2 with fields x, y, z, intensity, ring in float32."""
    names = ("x", "y", "z", "intensity", "ring")
    return SimpleNamespace(
        header=SimpleNamespace(frame_id="lidar", stamp=SimpleNamespace(sec=1, nanosec=0)),
        height=1,
        width=len(values),
        fields=[SimpleNamespace(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate(names)],
        is_bigendian=False,
        point_step=20,
        row_step=20 * len(values),
        data=array.array("B", values.tobytes()),
    )


def listed(msg: Any) -> AnyArray:
    """Return the cloud as a list of points, point by point, as sensor_msgs_py's `read_points_list` makes it."""
    data = memoryview(msg.data)
    rows = [_POINT.unpack_from(data, i * msg.point_step) for i in range(msg.width)]
    return np.array(rows, dtype=np.float32)


def made_image(rng: np.random.Generator) -> CameraImage:
    """Return a JPEG of 1600 × 900 pixels with as much detail as a street scene: about 140 kB."""
    coarse = rng.integers(0, 255, (90, 160, 3)).astype(np.uint8)
    picture = cv2.resize(coarse, (1600, 900), interpolation=cv2.INTER_CUBIC)
    _, data = cv2.imencode(".jpg", picture, (cv2.IMWRITE_JPEG_QUALITY, 85))
    return CameraImage(0, jpeg=data.tobytes())


def candidates(count: int, spec: ModelSpec, rng: np.random.Generator) -> dict[str, AnyArray]:
    """Return outputs of a fusion graph that sees an object everywhere."""
    regression = rng.normal(0, 0.3, (count, len(spec.regression))).astype(np.float32)
    return {
        "scores": np.sort(rng.uniform(0.2, 0.9, count))[::-1].astype(np.float32),
        "labels": rng.integers(0, len(spec.classes), count).astype(np.int32),
        "cells": rng.integers(0, spec.grid.size**2, count).astype(np.int32),
        "regression": regression,
        "attributes": rng.normal(0, 1, (count, 8)).astype(np.float32),
    }


def boxes_of(outputs: dict[str, AnyArray], spec: ModelSpec) -> object:
    """Decode and suppress."""
    return non_maximum_suppression(decode_candidates(outputs, spec, 0.1, 1.3), spec.classes)
