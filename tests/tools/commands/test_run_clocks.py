# SPDX-License-Identifier: Apache-2.0
"""Bags of a vehicle whose clocks disagree: frames of the other sensors stay as they are, and the user reads why."""

import json

import pytest
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from typer.testing import CliRunner

from peft_dml_ros.cli.main import app
from peft_dml_tools.datasets.bag_options import BagOptions
from peft_dml_tools.datasets.bag_types import typestore
from peft_dml_tools.datasets.bags import NO_STAMP, BagSource
from tests.support.drive_bag import make_drive_bag
from tests.support.scenes import MS

RADAR, CAMERA = "/radar_front/points", "/cam_back/image/compressed"
AHEAD_NS = 700 * MS


def restamped(bag, out, stamps):
    """Write the bag again with stamps changed by topic; the times of recording stay."""
    store = typestore()
    with Reader(bag) as reader, Writer(out, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        made = {c.id: writer.add_connection(c.topic, c.msgtype, typestore=store) for c in reader.connections}
        for connection, logged_ns, cdr in reader.messages():
            if connection.topic in stamps:
                message = store.deserialize_cdr(cdr, connection.msgtype)
                stamp = message.header.stamp
                stamp.sec, stamp.nanosec = divmod(stamps[connection.topic](stamp.sec * 10**9 + stamp.nanosec), 10**9)
                writer.write(made[connection.id], logged_ns, store.serialize_cdr(message, connection.msgtype))
            else:
                writer.write(made[connection.id], logged_ns, cdr)
    return out


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return make_drive_bag(tmp_path_factory.mktemp("clocks") / "drive.mcap", 2500)


@pytest.fixture(scope="module")
def team(sound):
    """One radar ahead by .7 s, one camera that does not stamp at all."""
    changes = {RADAR: lambda stamp_ns: stamp_ns + AHEAD_NS, CAMERA: lambda _: 0}
    return restamped(sound, sound.parent / "team", changes)


def test_a_message_without_stamp_does_not_change_the_order_of_the_others(team):
    source = BagSource(team)
    stamps = [measurement.stamp_ns for _, measurement in source.measurements()]
    assert stamps == sorted(stamps)
    assert source.dropped == {("CAM_BACK", NO_STAMP): 30}
    assert source.lag_ns["RADAR_FRONT"] == -AHEAD_NS
    assert source.lag_ns["LIDAR_TOP"] == 0


def test_offsets_correct_stamps_and_order_as_the_bag_is_read(sound, team):
    def of(bag, **options):
        return [(n, m.stamp_ns) for n, m in BagSource(bag, options=BagOptions(**options)).measurements()]

    expected = [(name, stamp) for name, stamp in of(sound) if name != "CAM_BACK"]
    assert of(team) != expected
    assert of(team, offsets_ns={"RADAR_FRONT": -AHEAD_NS}) == expected
    assert (
        BagSource(team, options=BagOptions(offsets_ns={"RADAR_FRONT": -AHEAD_NS})).last_stamp_ns
        == max(expected, key=lambda e: e[1])[1]
    )


def run(bag, out, bundle, *more):
    done = CliRunner().invoke(app, ["run", str(bag), "--out", str(out), "--bundle", str(bundle), *more])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (out / "boxes.jsonl").read_text().splitlines()]
    return " ".join(done.output.split()), {f["stamp_ns"]: f["mask"] for f in lines if f["reference"] == "LIDAR_TOP"}


def test_run_names_the_clock_and_the_named_offset_makes_it_right(sound, team, bundle, tmp_path):
    _, whole = run(sound, tmp_path / "sound", bundle, "--sensors", "lidar,CAM_FRONT,radar,imu,gnss")
    words, ahead = run(team, tmp_path / "team_out", bundle)
    assert ahead.keys() == whole.keys(), "a radar's clock takes no LiDAR frame away"
    fix = "RADAR_FRONT: its stamps are 0.70 s ahead of their recording [SEN003]; fix: synchronise its clock, or"
    assert f"{fix} sync.offsets: [RADAR_FRONT=-0.70]" in words
    assert "refused: 30 of CAM_BACK (/cam_back/image/compressed): stamp is 0 [SEN001]" in words
    config = tmp_path / "robot.yaml"
    config.write_text("perception: {ros__parameters: {sync: {offsets: [RADAR_FRONT=-0.70]}}}")
    words, corrected = run(team, tmp_path / "corrected", bundle, "--config", str(config))
    assert corrected == whole
    assert "SEN003" not in words


def test_a_scene_of_a_bag_is_refused(sound, tmp_path):
    done = CliRunner().invoke(app, ["run", str(sound), "--scene", "scene-0061", "--out", str(tmp_path / "out")])
    assert done.exit_code == 2
    assert "has no scenes; fix: leave --scene out" in " ".join(done.output.split())
