# SPDX-License-Identifier: Apache-2.0
"""Whatever bytes arrive, for whatever input: the intake counts them, and never more than its own errors come of it."""

import time

import numpy as np
import pytest
import rclpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rclpy.context import Context
from rclpy.node import Node
from rclpy.serialization import deserialize_message

from peft_dml_tools.nodes.chaos_fuzz import IntakeHarness, samples_of, stamped_now
from peft_dml_tools.nodes.chaos_malformed import MalformedMessages
from tests.support.drive_bag import make_drive_bag
from tests.support.random_bundle import make_random_bundle

pytestmark = pytest.mark.ros

CHECKS = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
INPUTS = ("LIDAR_TOP", "RADAR_FRONT", "CAM_FRONT", "CAM_FRONT raw", "CAM_FRONT calibration", "IMU", "GNSS", "ODOM")
INPUTS += ("/tf_static",)
EDITS = st.lists(st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return samples_of(make_drive_bag(tmp_path_factory.mktemp("drive") / "drive.mcap", 1000, lidar_points=300))


@pytest.fixture(scope="module")
def harness(tmp_path_factory, samples):
    context = Context()
    rclpy.init(context=context, args=[])
    node = Node("test_fuzz", context=context)
    made = IntakeHarness(node, samples, str(make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")))
    assert set(made.inputs) >= set(INPUTS)
    made.sound()
    yield made
    made.intake.destroy()
    node.destroy_node()
    context.try_shutdown()


def check(harness):
    """Everything is counted, and nothing came as a surprise."""
    assert harness.unaccounted() == 0
    assert not {r: harness.reasons.get(r) for r in harness.drops.totals() if r.endswith(": failed")}


@CHECKS
@given(key=st.sampled_from(INPUTS), cdr=st.binary(max_size=600), begins=st.booleans())
def test_any_bytes(harness, key, cdr, begins):
    harness(key, b"\x00\x01\x00\x00" * begins + cdr)
    check(harness)


@CHECKS
@given(key=st.sampled_from(INPUTS), edits=EDITS, cut=st.integers(0, 5000) | st.none(), fresh=st.booleans())
def test_any_damage_to_a_sound_message(harness, samples, key, edits, cut, fresh):
    cdr = samples[key][0][0]
    for anywhere, written in edits:
        at = anywhere % len(cdr)
        cdr = (cdr[:at] + written + cdr[at + len(written) :])[: len(cdr)]
    harness(key, (stamped_now(cdr) if fresh and key != "/tf_static" else cdr)[:cut])
    check(harness)


def test_the_intake_still_works_afterwards(harness):
    harness.sees.clear()
    for _ in range(12):
        time.sleep(0.06)
        harness.sound()
    assert harness.sees >= {"camera", "lidar", "radar"}


def test_malformed_messages_are_the_same_for_a_seed_and_of_every_kind(samples):
    inputs = {key: (cdrs[0], kind) for key, (cdrs, kind) in samples.items()}
    first, again = (
        [next(stream) for _ in range(600)] for stream in (iter(MalformedMessages(inputs, 3)) for _ in range(2))
    )
    # Bytes between the fields are left as they come.
    assert [(key, what, len(cdr)) for key, what, cdr in first] == [(key, what, len(cdr)) for key, what, cdr in again]
    assert {key for key, _, _ in first} == set(inputs)
    assert {what for _, what, _ in first} >= {"cut", "noise", "flipped", "lengthened", "fields", "numbers", "header"}
    sound = sum(cdr == inputs[key][0] for key, _, cdr in first)
    assert sound < 60
    assert isinstance(deserialize_message(*inputs["IMU"]).linear_acceleration_covariance, np.ndarray)
