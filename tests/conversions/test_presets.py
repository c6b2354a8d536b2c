# SPDX-License-Identifier: Apache-2.0
"""Topics of other makers: by their names, by types and frames, by words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_dml_ros.conversions import header, presets, topics
from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, ImuSample, OdometrySample
from peft_dml_tools.datasets.bag_writer import messages_of
from peft_dml_tools.datasets.bags import BagFile, BagSource, RosbagsFactory
from peft_dml_tools.datasets.encode import tf_static_to_msg, tf_to_msg
from peft_dml_tools.datasets.renaming import renamer
from tests.support import scenes
from tests.support.made_source import MadeSource, pose, sweep

MAKE = RosbagsFactory()


@pytest.mark.parametrize("topic", ["/radar_front/points", "/ars540/front_radar/scan"])
def test_a_bag_with_radar_scans_is_read(tmp_path, topic):
    returns = [
        MAKE("radar_msgs/msg/RadarReturn", range=20.0, azimuth=a, elevation=0.0, doppler_velocity=-9.0, amplitude=7.0)
        for a in (-0.1, 0.0, 0.1)
    ]
    with BagFile(tmp_path / "scans.mcap") as bag:
        bag.write("/tf_static", 10**18, tf_static_to_msg(scenes.rig(), MAKE))
        scan = MAKE("radar_msgs/msg/RadarScan", header=header(10**18, "radar_front", MAKE), returns=returns)
        bag.write(topic, 10**18, scan)
    ((name, cycle),) = BagSource(tmp_path / "scans.mcap").measurements()
    assert name == "RADAR_FRONT"
    np.testing.assert_allclose(cycle.points["x"], 20 * np.cos([-0.1, 0.0, 0.1]), rtol=1e-6)


def test_a_foreign_bag_is_understood_by_types_frames_and_words(tmp_path):
    """LiDAR by its driver's name, cameras by place, the tree on /tf alone, and an IMU on the usual topic."""
    source = MadeSource(
        [sweep(10**18), sweep(10**18 + 1000), pose(10**18, 0), ("IMU", ImuSample(10**18, np.zeros(3), np.ones(3)))]
        + [(name, CameraImage(10**18 + 5, jpeg=b"\xff\xd8\xff\xd9")) for name in ("CAM_FRONT_LEFT", "CAM_BACK")]
    )
    names = {
        "lidar_top/points": "/velodyne_points",
        "odometry": "/robot/odom",
        "cam_front_left/image/compressed": "/camera/front_left/image_raw/compressed",
        "cam_front_left/camera_info": "/camera/front_left/camera_info",
        "cam_back/image/compressed": "/camera/rear/image_raw/compressed",
    }
    with BagFile(tmp_path / "foreign.mcap") as bag:
        bag.write("/tf", 10**18, tf_to_msg(OdometrySample(10**18, SE3.identity()), MAKE))
        bag.write("/tf", 10**18, tf_static_to_msg(source.rig, MAKE))
        for name, measurement in source.measurements():
            for topic, message in messages_of(name, measurement, source.rig, MAKE):
                bag.write(names.get(topic, topic), measurement.stamp_ns, message)
    again = BagSource(tmp_path / "foreign.mcap")
    assert again.preset == presets.GUESSED
    assert set(again.rig.sensors) == {"LIDAR_TOP", "CAM_FRONT_LEFT", "CAM_BACK", "IMU", "ODOM"}
    assert again.rig["CAM_FRONT_LEFT"].camera is not None
    assert again.rig["CAM_BACK"].camera is None
    assert len(list(again.measurements())) == 6
    with pytest.raises(DataError, match="none of the known sensor topics"):
        BagSource(tmp_path / "foreign.mcap", preset="autoware")
    with pytest.raises(ConfigError, match="did you mean 'autoware'"):
        BagSource(tmp_path / "foreign.mcap", preset="autowear")


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_presets_name_every_sensor_once(preset):
    table = presets.PRESETS[preset]
    everything = [topic for candidates in table.sensors.values() for topic in candidates] + [*table.infos.values()]
    assert len(set(everything)) == len(everything)
    assert set(table.sensors) == {"LIDAR_TOP", *presets._CAMERAS, *presets._RADARS, "IMU", "GNSS", "ODOM"}
    named = renamer(preset)
    connections = {named(topics.topic_of(sensor)): topics.type_of(sensor) for sensor in table.sensors}
    found = presets.recognise(connections, lambda _: "")
    assert found is not None
    assert found.preset == preset
    assert set(found.sensors.values()) == set(table.sensors)
    assert named("truth/boxes") == "/truth/boxes"


WORDS = st.sampled_from(
    ["lidar", "front", "left", "rear", "radar", "camera", "image", "points", "raw", "cam_back", "x"]
)


@settings(max_examples=100, deadline=None)
@given(
    connections=st.dictionaries(
        st.lists(WORDS, min_size=1, max_size=4).map(lambda words: "/" + "/".join(words)),
        st.sampled_from([topics.POINT_CLOUD, topics.IMAGE, topics.COMPRESSED_IMAGE, topics.IMU, topics.CAMERA_INFO]),
        max_size=8,
    ),
    frame=WORDS,
)
def test_a_guess_gives_each_sensor_to_one_topic_of_its_type(connections, frame):
    found = presets.recognise(connections, lambda _: frame)
    if found is None:
        return
    assert len(set(found.sensors.values())) == len(found.sensors)
    for topic, sensor in found.sensors.items():
        assert connections[topic] in {topics.type_of(sensor), topics.IMAGE}
    assert set(found.infos.values()) <= set(found.sensors.values())
