# SPDX-License-Identifier: Apache-2.0
"""Where message_filters' ApproximateTimeSynchronizer falls silent for ever, this one goes on.

Its documented behaviour: a callback needs a message of every topic, so that one silent topic ends all; after a bag loop
new messages are older than the queued ones and are thrown away; an exception in a callback leaves its lock held.
Where message_filters is installed, the same messages go through it, too.
"""

import importlib.util
import inspect
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, PointCloud2

from peft_dml_tools.nodes.synchronizer_example import SynchronizerExample
from peft_dml_tools.nodes.tolerant_synchronizer import SimpleFilter, TolerantSynchronizer
from tests.support.scenes import MS

pytestmark = pytest.mark.ros
HAS_FILTERS = importlib.util.find_spec("message_filters") is not None
BEGIN_NS = 1_700_000_000 * 10**9


def message(time_ms, name=""):
    seconds, nanoseconds = divmod(BEGIN_NS + round(time_ms * MS), 10**9)
    return SimpleNamespace(header=SimpleNamespace(stamp=SimpleNamespace(sec=seconds, nanosec=nanoseconds)), name=name)


class Rig:
    """A LiDAR and a camera 7 ms later, into this synchroniser and, where it is there, into message_filters'."""

    def __init__(self, **options):
        self.feeds = (SimpleFilter(), SimpleFilter())
        self.sets, self.pairs = [], []
        self.tolerant = TolerantSynchronizer(self.feeds, 10, 0.05, **options)
        self.tolerant.registerCallback(lambda *found: self.sets.append(found))
        if HAS_FILTERS:
            from message_filters import ApproximateTimeSynchronizer

            self.original = ApproximateTimeSynchronizer(list(self.feeds), 10, 0.05)
            self.original.registerCallback(lambda *found: self.pairs.append(found))

    def play(self, times_ms, sensors=(0, 1)):
        for time_ms in times_ms:
            for index in sensors:
                self.feeds[index].signalMessage(message(time_ms + 7 * index, f"{index} at {time_ms}"))


def test_the_constructor_is_that_of_the_original():
    parameters = inspect.signature(TolerantSynchronizer).parameters
    positional = [name for name, p in parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert positional == ["fs", "queue_size", "slop", "allow_headerless"]
    if HAS_FILTERS:
        from message_filters import ApproximateTimeSynchronizer

        assert positional == list(inspect.signature(ApproximateTimeSynchronizer).parameters)
    with pytest.raises(ValueError, match="0 filters"):
        TolerantSynchronizer([], 10, 0.1)


def test_whole_sets_while_all_topics_live():
    rig = Rig()
    rig.play(range(0, 2000, 100))
    assert [tuple(m.name for m in found) for found in rig.sets] == [
        (f"0 at {t}", f"1 at {t}") for t in range(0, 2000, 100)
    ]
    if HAS_FILTERS:
        assert rig.pairs == rig.sets


def test_one_silent_topic_leaves_the_others_going():
    rig = Rig()
    rig.play(range(0, 1000, 100))
    rig.play(range(1000, 3000, 100), sensors=[0])
    whole, rest = rig.sets[:10], rig.sets[10:]
    assert all(None not in found for found in whole)
    assert len(rest) == 15
    assert all(cloud.name.startswith("0") and image is None for cloud, image in rest)
    rig.play(range(3000, 4000, 100))
    assert all(None not in found for found in rig.sets[-9:])
    assert len(rig.pairs) in {0, 20}


def test_a_topic_that_never_came_is_waited_for_only_at_the_start():
    rig = Rig(silent_after=0.3)
    rig.play(range(0, 1000, 100), sensors=[1])
    assert [(cloud, image.name) for cloud, image in rig.sets] == [(None, f"1 at {t}") for t in range(300, 1000, 100)]


def test_a_bag_that_starts_over_goes_on():
    rig = Rig()
    rig.play(range(0, 8000, 100))
    rig.play(range(0, 2000, 100))
    assert len(rig.sets) == 100
    assert rig.tolerant.restarts == 1
    if HAS_FILTERS:
        assert len(rig.pairs) == 80


def test_an_exception_in_a_callback_ends_nothing(caplog):
    rig, after = Rig(), []

    def fail(_cloud, _image, text):
        raise RuntimeError(text)

    rig.tolerant.registerCallback(fail, "on purpose")
    rig.tolerant.registerCallback(lambda *found: after.append(found))
    rig.play(range(0, 500, 100))
    assert len(rig.sets) == len(after) == rig.tolerant.failures == 5
    assert "on purpose" in caplog.text


def test_messages_without_header_need_leave(caplog):
    feed, found = SimpleFilter(), []
    TolerantSynchronizer([feed], 10, 0.1).registerCallback(found.append)
    feed.signalMessage(SimpleNamespace())
    assert not found
    assert "allow_headerless" in caplog.text
    TolerantSynchronizer([feed], 10, 0.1, allow_headerless=True).registerCallback(found.append)
    feed.signalMessage(SimpleNamespace())
    assert len(found) == 1


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-40, 40)), max_size=80), st.integers(1, 5))
def test_no_set_is_wider_than_the_slop_and_no_message_is_given_twice(events, size):
    feeds, found = [SimpleFilter() for _ in range(3)], []
    synchronizer = TolerantSynchronizer(feeds, size, 0.05)
    synchronizer.registerCallback(lambda *messages: found.append(messages))
    for turn, (index, jitter_ms) in enumerate(events):
        feeds[index].signalMessage(message(turn * 33 + jitter_ms, str(turn)))
        assert all(len(queue) <= size for queue in synchronizer._queues)
    given_out = [m for messages in found for m in messages if m is not None]
    assert len({m.name for m in given_out}) == len(given_out)
    for messages in found:
        stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages if m is not None]
        assert max(stamps) - min(stamps) <= 50 * MS


def test_the_example_node_says_what_is_there(monkeypatch):
    import rclpy

    rclpy.init(args=[])
    node, lines = SynchronizerExample(), []
    monkeypatch.setattr(node, "get_logger", lambda: SimpleNamespace(info=lines.append))
    filters = [entry for entry in node.subscriptions if entry.topic.endswith(("points", "compressed"))]
    for time_s in range(3):
        for subscription, kind in zip(filters, (PointCloud2, CompressedImage), strict=True):
            if kind is PointCloud2 or time_s == 0:
                sent = kind()
                sent.header.stamp.sec = time_s + 1
                subscription.callback(sent)
    node.destroy_node()
    rclpy.try_shutdown()
    assert lines == ["0 points, image of 0 bytes", "0 points, no image", "0 points, no image"]
