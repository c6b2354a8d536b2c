# SPDX-License-Identifier: Apache-2.0
"""Pictures decoded before a frame asks for them give the very same input, are decoded once, and never pile up."""

from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.core import inputs as module
from peft_dml_ros.core.inputs import AHEAD, InputAssembler
from peft_dml_ros.core.measurements import CameraImage
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from tests.support import scenes
from tests.support.scenes import MS, START_NS

SPEC = ModelSpec()


def frame(stamp_ns, **cameras):
    return Snapshot(stamp_ns, "LIDAR_TOP", cameras=cameras)


@pytest.fixture
def decoded(monkeypatch):
    """Stamps of the pictures that were decoded, in order."""
    stamps, load = [], module.load_image

    def counting(image, spec, camera):
        stamps.append(image.stamp_ns)
        return load(image, spec, camera)

    monkeypatch.setattr(module, "load_image", counting)
    return stamps


def test_the_same_input_decoded_once(decoded):
    front, back = scenes.image(START_NS), scenes.image(START_NS + 7 * MS)
    ahead = InputAssembler(SPEC, scenes.rig(), threads=2)
    ahead.prepare("CAM_FRONT", front)
    # An offset of the sensor's clock makes another measurement of the same picture.
    moved = replace(front, stamp_ns=front.stamp_ns - 3 * MS)
    found = ahead(frame(START_NS + 10 * MS, CAM_FRONT=moved, CAM_BACK=back)).feeds["camera"]
    assert sorted(decoded) == [front.stamp_ns, back.stamp_ns]
    plain = InputAssembler(SPEC, scenes.rig())(frame(START_NS + 10 * MS, CAM_FRONT=front, CAM_BACK=back))
    for name, array in plain.feeds["camera"].items():
        np.testing.assert_array_equal(found[name], array)


def test_only_so_many_are_decoded_ahead_of_a_frame(decoded):
    assemble = InputAssembler(SPEC, scenes.rig(), threads=2)
    shots = [scenes.image(START_NS + k * 80 * MS) for k in range(6)]
    for shot in shots:
        assemble.prepare("CAM_FRONT", shot)
    # A frame of the second leaves what comes after it, one of a later one takes all.
    assemble(frame(START_NS + 90 * MS, CAM_FRONT=shots[1]))
    assert sorted(decoded) == [shot.stamp_ns for shot in shots[:AHEAD]]
    assemble(frame(START_NS + 410 * MS, CAM_FRONT=shots[5]))
    assert len(decoded) == AHEAD + 1
    # There is room again.
    last = scenes.image(START_NS + 480 * MS)
    assemble.prepare("CAM_FRONT", last)
    assemble(frame(START_NS + 480 * MS, CAM_FRONT=last))
    assert len(decoded) == AHEAD + 2


def test_a_frame_that_does_not_ask_for_the_newest_leaves_it_for_the_next(decoded):
    assemble = InputAssembler(SPEC, scenes.rig(), threads=2)
    early, late = scenes.image(START_NS), scenes.image(START_NS + 80 * MS)
    assemble.prepare("CAM_FRONT", early)
    assemble.prepare("CAM_FRONT", late)
    assemble(frame(START_NS + 50 * MS, CAM_FRONT=early))
    assemble(frame(START_NS + 150 * MS, CAM_FRONT=late))
    assert sorted(decoded) == [early.stamp_ns, late.stamp_ns]


def test_what_no_frame_can_use_is_not_begun(decoded):
    alone, assemble = (InputAssembler(SPEC, scenes.rig(), threads=n) for n in (1, 2))
    alone.prepare("CAM_FRONT", scenes.image(START_NS))
    # Neither is there a calibration for the one, nor is the other a camera of the network.
    assemble.prepare("CAM_FRONT_LEFT", scenes.image(START_NS))
    assemble.prepare("CAM_ROOF", scenes.image(START_NS))
    assemble(frame(START_NS))
    assert not decoded


def test_a_damaged_picture_is_counted_by_the_frame():
    assemble = InputAssembler(SPEC, scenes.rig(), threads=2)
    broken = CameraImage(START_NS, b"\xff\xd8broken")
    assemble.prepare("CAM_FRONT", broken)
    assert assemble(frame(START_NS, CAM_FRONT=broken)).drops == {"camera: corrupt image CAM_FRONT": 1}
