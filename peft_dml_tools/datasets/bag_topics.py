# SPDX-License-Identifier: Apache-2.0
"""Topics as bags name them, the truth's among them, and the order of sensors in a rig."""

from typing import Final

from peft_dml_ros.conversions.topics import SINGLE, camera_info_topic_of, raw_image_topic_of, topic_of
from peft_dml_ros.core.errors import ConfigError, nearest
from peft_dml_ros.core.rig import modality_of_channel
from peft_dml_ros.core.spec import CameraSpec

TF: Final = "/tf"
TRUTH: Final = "truth/boxes"
TRUTH_MARKERS: Final = "truth/markers"
TRUTH_VELOCITIES: Final = "truth/velocities"


def sensor_of(topic: str) -> str:
    """Return the sensor name of a topic, relative or absolute, of measurements or of a camera's calibration.

    Raises ConfigError: no sensor publishes on it.
    """
    bare = topic.removeprefix("/")
    for sensor, name in SINGLE.items():
        if bare == name:
            return sensor
    first, _, rest = bare.partition("/")
    sensor = first.upper()
    try:
        known = {topic_of(sensor)}
        if modality_of_channel(sensor) == "camera":
            known |= {raw_image_topic_of(sensor), camera_info_topic_of(sensor)}
    except ConfigError:
        known = set()
    if not rest or bare not in known:
        choices = [*SINGLE.values(), "lidar_top/points", "radar_front/points", "cam_front/image/compressed"]
        raise ConfigError(f"topic '{topic}' belongs to no sensor; {nearest(bare, choices)}")
    return sensor


def bag_topic(topic: str) -> str:
    """Return the absolute name under which a relative topic is recorded."""
    return topic if topic.startswith("/") else f"/{topic}"


def is_sensor_topic(topic: str) -> bool:
    """Return whether a topic belongs to a sensor of this package's names, a camera's calibration included."""
    try:
        sensor_of(topic)
    except ConfigError:
        return False
    return True


def rig_order(sensor: str) -> tuple[int, str]:
    """Return the sort key of sensors in a rig: cameras in the order of the network's slots, then all others by name."""
    cameras = CameraSpec().cameras
    return (cameras.index(sensor), "") if sensor in cameras else (len(cameras), sensor)
