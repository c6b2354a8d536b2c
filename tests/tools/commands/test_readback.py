# SPDX-License-Identifier: Apache-2.0
"""What is taken from the recording of a session, and what is not."""

import numpy as np

from peft_dml_ros.core.classes import CLASSES
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_tools.datasets.bag_writer import messages_of
from peft_dml_tools.datasets.bags import BagFile, RosbagsFactory
from peft_dml_tools.datasets.encode import boxes_to_msg, tf_static_to_msg
from peft_dml_tools.live.readback import PlayedDrive, read_session
from peft_dml_tools.live.session import BOXES
from tests.support.drive_bag import MadeUpDrive
from tests.support.scenes import MS, START_NS
from tests.tools.commands.fabricated import truth

MAKE = RosbagsFactory()


def recorded(path, stamps):
    """A session of 0.5 s with boxes at these stamps, its front camera uncompressed."""
    drive = MadeUpDrive(500)
    with BagFile(path) as bag:
        bag.write("/tf_static", START_NS, tf_static_to_msg(drive.rig, MAKE), latched=True)
        for name, measurement in drive.measurements():
            raw = CameraImage(measurement.stamp_ns, pixels=np.full((198, 352, 3), 90, np.uint8))
            taken = raw if name == "CAM_FRONT" else measurement
            for topic, message in messages_of(name, taken, drive.rig, MAKE):
                bag.write(topic, measurement.stamp_ns, message)
        for stamp in stamps:
            bag.write(BOXES, stamp, boxes_to_msg(truth(0.0), stamp, "base_link", CLASSES, MAKE))
    return path


def test_frames_are_those_of_the_drive(tmp_path):
    end_ns = START_NS + 400 * MS
    stamps = [START_NS - 100 * MS, START_NS, START_NS + 200 * MS, end_ns + 1000, end_ns + 50 * MS]
    session = read_session(recorded(tmp_path / "s.mcap", stamps), PlayedDrive("", START_NS, end_ns, 5))
    assert [frame.stamp_ns for frame in session.frames] == stamps[1:4]


def test_uncompressed_images_are_not_held_as_such(tmp_path):
    session = read_session(recorded(tmp_path / "s.mcap", [START_NS]), PlayedDrive("", START_NS, START_NS + 400 * MS, 5))
    images = session.measurements["CAM_FRONT"]
    assert images
    assert sum(len(image.jpeg) for image in images) < len(images) * 198 * 352 * 3 / 20


def test_a_frame_whose_status_was_lost_has_the_latency_of_its_arrival(tmp_path):
    played = PlayedDrive("", START_NS, START_NS + 400 * MS, 5)
    (frame,) = read_session(recorded(tmp_path / "s.mcap", [START_NS + 100 * MS]), played).frames
    assert frame.latency_ms == 0.0
    assert frame.sensors == {}
