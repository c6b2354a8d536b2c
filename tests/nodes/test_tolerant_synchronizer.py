# SPDX-License-Identifier: Apache-2.0
"""Where message_filters' ApproximateTimeSynchronizer falls silent for ever, this one goes on.

Its documented behaviour: a callback needs a message of every topic, so that one silent topic ends all; after a bag loop
new messages are older than the queued ones and are thrown away; an exception in a callback leaves its lock held.
Where message_filters is installed, the same messages go through it, too.
"""

import importlib.util

import pytest
from rclpy.clock import Clock

from peft_dml_ros import conversions
from peft_dml_ros.conversions.topics import frame_of
from peft_dml_ros.nodes.factory import RclpyFactory
from peft_dml_ros.nodes.tolerant_synchronizer import TolerantSynchronizer
from peft_dml_tools.datasets import encode
from tests.support import scenes
from tests.support.scenes import MS

pytestmark = pytest.mark.ros

MAKE = RclpyFactory()
HAS_FILTERS = importlib.util.find_spec("message_filters") is not None


class Feed:
    """The part of message_filters.SimpleFilter that a synchroniser sees."""

    def __init__(self):
        self.callbacks = []

    def registerCallback(self, callback, *args):
        self.callbacks.append((callback, args))
        return len(self.callbacks) - 1

    def send(self, message):
        for callback, args in self.callbacks:
            callback(message, *args)


class Rig:
    """A LiDAR and a camera, one message of each per 100 ms, into ours and, where it is there, into theirs."""

    def __init__(self, on_frame=lambda _: None, on_pair=lambda *_: None):
        self.feeds = {"LIDAR_TOP": Feed(), "CAM_FRONT": Feed()}
        self.ours = TolerantSynchronizer(self.feeds, Clock())
        self.ours.registerCallback(on_frame)
        if HAS_FILTERS:
            from message_filters import ApproximateTimeSynchronizer

            self.theirs = ApproximateTimeSynchronizer(list(self.feeds.values()), 10, 0.05)
            self.theirs.registerCallback(on_pair)
        self.begin_ns = Clock().now().nanoseconds - 20_000 * MS

    def play(self, times_ms, sensors=("LIDAR_TOP", "CAM_FRONT")):
        for t in times_ms:
            for name in sensors:
                stamp = self.begin_ns + t * MS + (7 * MS if name == "CAM_FRONT" else 0)
                message = (
                    encode.lidar_to_msg(scenes.lidar(stamp), frame_of(name), MAKE)
                    if name == "LIDAR_TOP"
                    else conversions.image_to_msg(scenes.image(stamp), frame_of(name), MAKE)
                )
                self.feeds[name].send(message)


def test_one_silent_topic_leaves_the_others_going():
    frames, pairs = [], []
    rig = Rig(frames.append, lambda *messages: pairs.append(messages))
    rig.play(range(0, 2000, 100), sensors=["LIDAR_TOP"])
    assert len(frames) == 20
    assert all(frame.gated == {"CAM_FRONT": "missing"} for frame in frames)
    assert not pairs


def test_a_bag_that_starts_over_goes_on():
    frames, pairs = [], []
    rig = Rig(frames.append, lambda *messages: pairs.append(messages))
    rig.play(range(0, 8000, 100))
    first, first_pairs = len(frames), len(pairs)
    rig.play(range(0, 2000, 100))
    assert first == 80
    assert len(frames) - first >= 18
    assert rig.ours.drops["clock stepped back"] == 1
    if HAS_FILTERS:
        assert first_pairs > 70
        assert len(pairs) == first_pairs


def test_an_exception_in_a_callback_ends_nothing(caplog):
    frames = []

    def fail(snapshot, text):
        frames.append(snapshot)
        raise RuntimeError(text)

    rig = Rig()
    rig.ours.registerCallback(fail, "on purpose")
    after = []
    rig.ours.registerCallback(after.append)
    rig.play(range(0, 500, 100), sensors=["LIDAR_TOP"])
    assert len(frames) == len(after) == rig.ours.failures == 5
    assert "on purpose" in caplog.text


def test_a_message_that_cannot_be_decoded_is_counted_and_the_next_taken():
    frames = []
    rig = Rig(frames.append)
    broken = encode.lidar_to_msg(scenes.lidar(rig.begin_ns), "lidar_top", MAKE)
    broken.width += 7
    rig.feeds["LIDAR_TOP"].send(broken)
    rig.play([100], sensors=["LIDAR_TOP"])
    assert rig.ours.drops == {"LIDAR_TOP: malformed": 1}
    assert len(frames) == 1


@pytest.mark.skipif(not importlib.util.find_spec("sensor_msgs_py"), reason="sensor_msgs_py comes with ROS from apt")
def test_our_decoding_of_clouds_agrees_with_sensor_msgs_py():
    from sensor_msgs_py.point_cloud2 import read_points

    sweep = scenes.lidar(5)
    message = encode.lidar_to_msg(sweep, "lidar_top", MAKE)
    theirs = read_points(message, field_names=("x", "y", "z", "intensity", "ring"))
    ours = conversions.lidar_from_msg(message).points
    for column, name in enumerate(("x", "y", "z", "intensity", "ring")):
        assert (theirs[name] == ours[:, column]).all()
