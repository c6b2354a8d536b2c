# SPDX-License-Identifier: Apache-2.0
"""What users of drivers have reported, from the bag to the words and boxes of `peft-dml run`."""

import json

import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_ros.conversions import topics
from peft_dml_tools.datasets.bag_types import typestore
from tests.support.drive_bag import make_drive_bag

CAMERA_INFO = "sensor_msgs/msg/CameraInfo"


def without_row_step(message):
    """ros-drivers/velodyne issue 279: the header has row_step 0, the data are right."""
    message.row_step = 0


def impossible(message):
    """A cloud whose data are shorter than its points."""
    message.row_step, message.data = 0, message.data[:-7]


def in_g_and_degrees(message):
    """livox_ros_driver2 issue 157."""
    for vector, factor in ((message.linear_acceleration, 1 / 9.81), (message.angular_velocity, 57.3)):
        vector.x, vector.y, vector.z = (factor * value for value in (vector.x, vector.y, vector.z))
    message.angular_velocity.z += 17.0


def binned_twice(message):
    """avt_vimba_camera issue 82: K is that of the small image already, and binning says 4."""
    message.binning_x = message.binning_y = 4
    message.width, message.height = 4 * message.width, 4 * message.height


def altered(drive, out, kind, change):
    """Write the bag again with every message of a type changed."""
    store = typestore()
    with Reader(drive) as reader, Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        made = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=store) for c in reader.connections}
        for connection, stamp_ns, cdr in reader.messages():
            message = store.deserialize_cdr(cdr, connection.msgtype)
            if connection.msgtype == kind:
                change(message)
            writer.write(made[connection.id], stamp_ns, store.serialize_cdr(message, connection.msgtype))
    return out


@pytest.fixture(scope="module")
def drive(tmp_path_factory):
    return make_drive_bag(tmp_path_factory.mktemp("reports") / "drive.mcap", 1500, 2000)


@pytest.fixture
def run(drive, bundle, tmp_path):
    def go(kind, change):
        bag, out = altered(drive, tmp_path / change.__name__, kind, change), tmp_path / f"{change.__name__}_out"
        done = CliRunner().invoke(app, ["run", str(bag), "--out", str(out), "--bundle", str(bundle)])
        assert done.exit_code == 0, done.output
        summary = json.loads((out / "run.json").read_text())
        hints = {(hint["sensor"], hint["id"]) for hint in summary["hints"]}
        return hints, " ".join(done.output.split()), (out / "boxes.jsonl").read_text()

    return go


def as_it_is(message):
    """Change nothing."""


def test_a_stale_row_step_changes_no_box_and_too_short_data_are_said(run):
    _, _, boxes = run(topics.POINT_CLOUD, as_it_is)
    _, _, same = run(topics.POINT_CLOUD, without_row_step)
    assert '"lidar":1.0' in boxes
    assert same == boxes
    _, text, blind = run(topics.POINT_CLOUD, impossible)
    assert '"lidar":1.0' not in blind
    assert "LIDAR_TOP: malformed" in text


def test_an_imu_in_g_and_degrees_is_named(run):
    usual, _, _ = run(topics.IMU, as_it_is)
    hints, text, _ = run(topics.IMU, in_g_and_degrees)
    assert hints - usual == {("IMU", "SEN301"), ("IMU", "SEN304")}
    assert "gravity in g, where 9.81 m/s² is expected [SEN301]; fix: let the driver publish m/s²" in text


def test_a_binning_that_counts_twice_is_named_with_the_numbers(run):
    usual, _, _ = run(CAMERA_INFO, as_it_is)
    hints, text, _ = run(CAMERA_INFO, binned_twice)
    assert hints - usual == {("CAM_FRONT", "SEN201"), ("CAM_BACK", "SEN201")}
    assert "of half an image, expected near 1 [SEN201]; fix: correct CameraInfo" in text
