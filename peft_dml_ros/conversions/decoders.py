# SPDX-License-Identifier: Apache-2.0
"""The decoder of each sensor, with what the parameters say of its messages: one table for the node and for bags."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from peft_dml_ros.conversions.decode import gnss_from_msg, imu_from_msg, odometry_from_msg
from peft_dml_ros.conversions.images import image_from_msg
from peft_dml_ros.conversions.lidar import ANY, IntensityField, lidar_from_msg
from peft_dml_ros.conversions.radar import radar_from_msg
from peft_dml_ros.core.classes import Modality
from peft_dml_ros.core.measurements import Measurement
from peft_dml_ros.core.params import InputParams, numbers_by_sensor, words_by_sensor
from peft_dml_ros.core.rig import modality_of_channel

_RECTIFIED: Final = re.compile("(^|[/_])rect")
Decoder: TypeAlias = Callable[[Any], Measurement]

_DECODERS: Final[dict[Modality | None, Decoder]] = {
    "lidar": lidar_from_msg,
    "radar": radar_from_msg,
    "camera": image_from_msg,
    "imu": imu_from_msg,
    "gnss": gnss_from_msg,
    None: odometry_from_msg,
}


def decoder_of(sensor: str, inputs: InputParams = InputParams()) -> Decoder:  # noqa: B008  it is immutable
    """Return what makes measurements of a sensor's messages. Raises ConfigError: the name has no known prefix."""
    modality = modality_of_channel(sensor)
    if sensor in inputs.thermal:
        return partial(image_from_msg, thermal=True)
    if modality == "lidar" and (chosen := intensity_of(sensor, inputs)) != ANY:
        return partial(lidar_from_msg, intensity=chosen)
    return _DECODERS[modality]


def intensity_of(sensor: str, inputs: InputParams) -> IntensityField:
    """Return the field and the scale of a LiDAR's intensity that the parameters name."""
    field = words_by_sensor(inputs.intensity_field, "FIELD").get(sensor, "")
    return IntensityField(field, numbers_by_sensor(inputs.intensity_scale, "FACTOR").get(sensor, 0.0))


def is_rectified(camera: str, topic: str, inputs: InputParams = InputParams()) -> bool:  # noqa: B008
    """Return whether a camera's images are rectified: the parameters or the topic say so."""
    return camera in inputs.rectified or _RECTIFIED.search(topic) is not None
