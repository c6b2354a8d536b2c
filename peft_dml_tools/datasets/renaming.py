# SPDX-License-Identifier: Apache-2.0
"""Topics of another maker for those of this package: bags may be written under them."""

from collections.abc import Callable

from peft_dml_ros.conversions import presets, topics
from peft_dml_tools.datasets import bag_topics


def renamer(preset: str) -> Callable[[str], str]:
    """Return the function from a relative topic of `conversions.topics` to the absolute topic of a preset.

    Topics that the preset does not know, the truth for example, keep their names. Raises ConfigError: no such preset.
    """
    if preset == presets.DEFAULT:
        return bag_topics.bag_topic
    presets.check_preset(preset)
    table = presets.PRESETS[preset]
    names = {topics.topic_of(sensor): candidates[0] for sensor, candidates in table.sensors.items()}
    names |= {topics.camera_info_topic_of(camera): topic for camera, topic in table.infos.items()}
    names |= {topics.raw_image_topic_of(camera): topic for camera, topic in table.raw_images.items()}
    return lambda topic: names.get(topic, bag_topics.bag_topic(topic))
