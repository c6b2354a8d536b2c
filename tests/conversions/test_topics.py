# SPDX-License-Identifier: Apache-2.0
import pytest

from peft_dml_ros.conversions import presets, topics
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.spec import CameraSpec
from peft_dml_tools.datasets import bag_topics

SENSORS = [
    "LIDAR_TOP", "RADAR_FRONT", "RADAR_BACK_LEFT", *CameraSpec().cameras, "IMU", "GNSS", "ODOM",
]  # fmt: skip


@pytest.mark.parametrize("sensor", SENSORS)
def test_topic_leads_back_to_its_sensor(sensor):
    assert bag_topics.sensor_of(topics.topic_of(sensor)) == sensor
    assert bag_topics.sensor_of(bag_topics.bag_topic(topics.topic_of(sensor))) == sensor
    if sensor != "ODOM":
        assert topics.sensor_of_frame(topics.frame_of(sensor)) == sensor


def test_table_is_what_the_nodes_agreed_on():
    assert topics.topic_of("LIDAR_TOP") == "lidar_top/points"
    assert topics.topic_of("CAM_FRONT") == "cam_front/image/compressed"
    assert topics.camera_info_topic_of("CAM_FRONT") == "cam_front/camera_info"
    assert bag_topics.sensor_of("/cam_front/camera_info") == bag_topics.sensor_of("cam_front/image") == "CAM_FRONT"
    assert (topics.topic_of("IMU"), topics.topic_of("GNSS"), topics.topic_of("ODOM")) == (
        "imu/data",
        "gnss/fix",
        "odometry",
    )
    assert topics.type_of("ODOM") == "nav_msgs/msg/Odometry"
    assert topics.frame_of("CAM_FRONT") == "cam_front"


@pytest.mark.parametrize(
    "topic", ["points", "lidar_top", "lidar_top/camera_info", "/diagnostics", "lidr_top/points", ""]
)
def test_foreign_topics_are_refused(topic):
    with pytest.raises(ConfigError, match="belongs to no sensor"):
        bag_topics.sensor_of(topic)


@pytest.mark.parametrize("ending", ["", "_frame", "_link", "_optical", "_optical_frame", "_link_optical"])
def test_frames_with_the_endings_of_rep_103_are_the_sensors(ending):
    assert topics.sensor_of_frame(f"cam_front_left{ending}") == "CAM_FRONT_LEFT"
    assert topics.sensor_of_frame(f"/lidar_top{ending}") == "LIDAR_TOP"
    connections = {"/driver/a": topics.IMAGE, "/driver/b": topics.COMPRESSED_IMAGE, "/driver/c": topics.POINT_CLOUD}
    frames = {
        "/driver/a": f"cam_back{ending}",
        "/driver/b": f"cam_front_left{ending}",
        "/driver/c": f"lidar_top{ending}",
    }
    found = presets.recognise(connections, frames.__getitem__)
    assert found.sensors == {"/driver/a": "CAM_BACK", "/driver/b": "CAM_FRONT_LEFT", "/driver/c": "LIDAR_TOP"}
