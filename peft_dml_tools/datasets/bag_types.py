# SPDX-License-Identifier: Apache-2.0
"""Message types for bags: those of ROS 2 Jazzy, and those of vision_msgs, radar_msgs and continental_msgs."""

from functools import cache
from typing import Any, Final

import numpy as np
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.typing import AnyArray

_VISION_MSGS: Final = {
    "ObjectHypothesis": "string class_id\nfloat64 score\n",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\ngeometry_msgs/PoseWithCovariance pose\n",
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "Detection3D": (
        "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
        "vision_msgs/BoundingBox3D bbox\nstring id\n"
    ),
    "Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n",
    "VisionClass": "uint16 class_id\nstring class_name\n",
    "LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n",
    "VisionInfo": "std_msgs/Header header\nstring method\nstring database_location\nint32 database_version\n",
}

_RADAR_MSGS: Final = {
    "RadarReturn": ("float32 range\nfloat32 azimuth\nfloat32 elevation\nfloat32 doppler_velocity\nfloat32 amplitude\n"),
    "RadarScan": "std_msgs/Header header\nradar_msgs/RadarReturn[] returns\n",
}


_CONTINENTAL_MSGS: Final = {
    "ContinentalArs548Detection": (
        "float32 azimuth_angle\nfloat32 azimuth_angle_std\nbool invalid_distance\nbool invalid_distance_std\n"
        "bool invalid_azimuth\nbool invalid_azimuth_std\nbool invalid_elevation\nbool invalid_elevation_std\n"
        "bool invalid_range_rate\nbool invalid_range_rate_std\nfloat32 elevation_angle\nfloat32 elevation_angle_std\n"
        "float32 range\nfloat32 range_std\nfloat32 range_rate\nfloat32 range_rate_std\nint8 rcs\n"
        "uint16 measurement_id\nuint8 raw_positive_predictive_value\nuint8 classification\n"
        "uint8 raw_multi_target_probability\nuint16 object_id\nuint8 raw_ambiguity_flag\n"
    ),
    "ContinentalArs548DetectionList": (
        "std_msgs/Header header\nuint8 stamp_sync_status\ngeometry_msgs/Point origin_pos\nfloat32 origin_pitch\n"
        "float32 origin_pitch_std\nfloat32 origin_yaw\nfloat32 origin_yaw_std\nfloat32 ambiguity_free_velocity_min\n"
        "float32 ambiguity_free_velocity_max\nfloat32 alignment_azimuth_correction\n"
        "float32 alignment_elevation_correction\nuint8 alignment_status\n"
        "continental_msgs/ContinentalArs548Detection[] detections\n"
    ),
}


@cache
def typestore() -> Typestore:
    """Return all message types that bags of this package hold; shared, do not register more."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for package, definitions in (
        ("vision_msgs", _VISION_MSGS),
        ("radar_msgs", _RADAR_MSGS),
        ("continental_msgs", _CONTINENTAL_MSGS),
    ):
        for name, text in definitions.items():
            msgtype = f"{package}/msg/{name}"
            if msgtype not in store.types:
                store.register(get_types_from_msg(text, msgtype))
    return store


class RosbagsFactory:
    """Builds rosbags messages for the encoders of `datasets.encode`."""

    def __init__(self) -> None:
        self._types = typestore().types

    def __call__(self, msgtype: str, /, **fields: Any) -> Any:
        """Return a message of that type. Raises DataError: the type is not known."""
        try:
            kind = self._types[msgtype]
        except KeyError:
            raise DataError(
                f"message type '{msgtype}' is not known to bags; fix: take one of ROS 2 Jazzy's common packages,"
                " vision_msgs or radar_msgs"
            ) from None
        return kind(**fields)

    def bytes(self, data: "AnyArray | bytes") -> AnyArray:
        """Return a uint8 view of the memory; nothing is copied."""
        if isinstance(data, bytes):
            return np.frombuffer(data, dtype=np.uint8)
        return np.ascontiguousarray(data).reshape(-1).view(np.uint8)

    def floats(self, values: AnyArray) -> AnyArray:
        """Return a float64 array."""
        return np.ascontiguousarray(values, dtype=np.float64)
