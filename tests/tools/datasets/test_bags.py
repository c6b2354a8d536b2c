# SPDX-License-Identifier: Apache-2.0
import gc
import struct
import tempfile
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from peft_dml_ros.conversions import topics
from peft_dml_ros.core.errors import DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import (
    CameraImage,
    GnssFix,
    ImuSample,
    LidarSweep,
    OdometrySample,
    RadarSweep,
)
from peft_dml_ros.core.rig import Rig
from peft_dml_tools.datasets.bag_storage import BagStorage
from peft_dml_tools.datasets.bag_writer import messages_of
from peft_dml_tools.datasets.bags import NOT_FINITE, BagFile, BagSource, RosbagsFactory, typestore, write_bag
from peft_dml_tools.datasets.encode import imu_to_msg, lidar_to_msg, tf_static_to_msg
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.source import NuScenesSource, open_source

UPSTREAM_HASH = "RIHS01_793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018"
MAKE = RosbagsFactory()


@pytest.fixture
def source(mini):
    return open_source(mini)


@pytest.fixture
def bag(source, tmp_path):
    return write_bag(source, tmp_path / "drive.mcap")


def assert_equal(mine, theirs):
    """Bit for bit; rotations, which travel as quaternions, to 1e-12."""
    assert type(mine) is type(theirs)
    assert mine.stamp_ns == theirs.stamp_ns
    match mine:
        case LidarSweep() | RadarSweep():
            assert mine.points.dtype == theirs.points.dtype
            assert mine.points.tobytes() == theirs.points.tobytes()
        case CameraImage() | GnssFix():
            assert mine == theirs
        case ImuSample():
            assert np.array_equal(mine.accel_mps2, theirs.accel_mps2)
            assert np.array_equal(mine.gyro_radps, theirs.gyro_radps)
        case OdometrySample():
            assert np.array_equal(mine.odom_SE3_base.translation, theirs.odom_SE3_base.translation)
            assert np.allclose(mine.odom_SE3_base.rotation, theirs.odom_SE3_base.rotation, atol=1e-12, rtol=0)


def assert_same_source(original, again):
    for name, sensor in original.rig.sensors.items():
        other = again.rig[name]
        assert sensor.modality == other.modality
        assert np.allclose(sensor.base_SE3_sensor.rotation, other.base_SE3_sensor.rotation, atol=1e-12, rtol=0)
        assert np.array_equal(sensor.base_SE3_sensor.translation, other.base_SE3_sensor.translation)
        if sensor.camera:
            assert np.array_equal(sensor.camera.intrinsics, other.camera.intrinsics)
            assert (sensor.camera.width_px, sensor.camera.height_px) == (other.camera.width_px, other.camera.height_px)
    assert set(original.rig.sensors) == set(again.rig.sensors)
    assert [s.name for s in original.rig.of("camera")] == [s.name for s in again.rig.of("camera")]
    mine, theirs = list(original.measurements()), list(again.measurements())
    assert [(m.stamp_ns, name) for name, m in mine] == [(m.stamp_ns, name) for name, m in theirs]
    for (_, a), (_, b) in zip(mine, theirs, strict=True):
        assert_equal(a, b)
    assert original.truth.keys() == again.truth.keys()
    for stamp, boxes in original.truth.items():
        other = again.truth[stamp]
        for field in ("centers_m", "sizes_m", "labels", "attributes", "ids"):
            assert np.array_equal(getattr(boxes, field), getattr(other, field)), field
        assert np.allclose(boxes.velocities_mps, other.velocities_mps, equal_nan=True, atol=1e-5)
        assert np.allclose(np.cos(boxes.yaws_rad - other.yaws_rad), 1)


def test_types_are_upstreams():
    assert typestore().hash_rihs01("vision_msgs/msg/Detection3DArray") == UPSTREAM_HASH


@pytest.mark.parametrize(("name", "compress"), [("drive.mcap", False), ("drive.mcap", True), ("folder", False)])
def test_round_trip(source, tmp_path, name, compress):
    path = write_bag(source, tmp_path / name, compress=compress)
    assert path.is_file() == name.endswith(".mcap")
    assert_same_source(source, open_source(path))


def test_real_keyframe_round_trip(real_keyframe, tmp_path):
    source = open_source(real_keyframe)
    assert_same_source(source, open_source(write_bag(source, tmp_path / "real.mcap", compress=True)))


def test_simulated_scene_round_trip(miniature, tmp_path):
    source = NuScenesSource(NuScenesReader(miniature, filter_radar=False))
    again = open_source(write_bag(source, tmp_path / "drive.mcap", display=True))
    assert_same_source(source, again)


def test_recorded_topics_types_and_latching(source, bag):
    with Reader(bag) as reader:
        table = {c.topic: c for c in reader.connections}
        assert reader.message_count == 1 + 2 * 3 + 7 + sum(1 for _ in source.measurements())
    assert table["/lidar_top/points"].msgtype == "sensor_msgs/msg/PointCloud2"
    clouds = list(BagStorage(bag).messages({"/lidar_top/points", "/odometry"}))
    cloud, pose = (
        typestore().deserialize_cdr(next(m for m in reversed(clouds) if m.topic == t).cdr, table[t].msgtype)
        for t in ("/lidar_top/points", "/odometry")
    )
    assert [f.name for f in cloud.fields] == ["x", "y", "z", "intensity", "ring", "time"]
    assert pose.twist.twist.linear.x > 1
    assert table["/truth/boxes"].msgtype == "vision_msgs/msg/Detection3DArray"
    assert table["/cam_front/camera_info"].msgcount == table["/cam_front/image/compressed"].msgcount
    assert table["/tf_static"].ext.offered_qos_profiles[0].durability == QosDurability.TRANSIENT_LOCAL
    assert table["/imu/data"].ext.offered_qos_profiles[0].durability == QosDurability.VOLATILE


def test_inertial_samples_are_turned_between_sensor_and_vehicle(tmp_path):
    turned = SE3.from_yaw(np.pi / 2)
    sample = ImuSample(5, np.array([1.0, 2.0, 9.81]), np.array([0.1, 0.2, 0.3]))
    source = _Handmade({"IMU": turned}, [("IMU", sample)])
    ((topic, message),) = messages_of("IMU", sample, source.rig, MAKE)
    assert topic == "imu/data"
    assert message.linear_acceleration.x == pytest.approx(2.0)
    ((_, again),) = BagSource(write_bag(source, tmp_path / "imu.mcap")).measurements()
    assert np.allclose(again.accel_mps2, sample.accel_mps2)


def test_messages_recorded_out_of_order_come_in_stamp_order(source, tmp_path):
    late = {"IMU": 3_000_000, "LIDAR_TOP": 90_000_000, "CAM_FRONT": 150_000_000}
    with BagFile(tmp_path / "late.mcap") as bag:
        rows = [
            (m.stamp_ns + late.get(name, 0), topic, message)
            for name, m in source.measurements()
            for topic, message in messages_of(name, m, source.rig, MAKE)
        ]
        for time_ns, topic, message in sorted(rows, key=lambda row: row[0]):
            bag.write(topic, time_ns, message)
    again = BagSource(tmp_path / "late.mcap")
    with pytest.raises(
        DataError,
        match=r"LIDAR_TOP: no static transform from 'base_link' to 'lidar_top'.*calibration.*record /tf_static",
    ):
        _ = again.rig
    again.__dict__["rig"] = source.rig
    stamps = [m.stamp_ns for _, m in again.measurements()]
    assert stamps == [m.stamp_ns for _, m in source.measurements()]


@pytest.fixture
def long_source():
    """30 sweeps of full size: about 20 MB, some 20 chunks."""
    points = np.zeros((34_720, 5), np.float32)
    points[:, 1:4] = np.random.default_rng(5).normal(0, 20, (34_720, 3))
    first_column = np.eye(1, 5, dtype=np.float32)
    sweeps = (LidarSweep(k * 50_000_000, points + k * first_column) for k in range(30))
    return _Handmade({"LIDAR_TOP": SE3.identity()}, (("LIDAR_TOP", sweep) for sweep in sweeps))


def test_memory_does_not_grow_with_the_drive(long_source, tmp_path):
    tracemalloc.start()
    write_bag(long_source, tmp_path / "long.mcap")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (tmp_path / "long.mcap").stat().st_size > 20e6
    assert peak < 12e6


@pytest.mark.parametrize("compress", [False, True])
def test_what_stands_before_a_cut_is_yielded(long_source, tmp_path, compress):
    bag = write_bag(long_source, tmp_path / "cut.mcap", compress=compress)
    data = bag.read_bytes()
    bag.write_bytes(data[: int(len(data) * 0.6)])
    seen, source = [], open_source(bag)
    with pytest.raises(DataError, match=r"cut\.mcap is damaged.*mcap recover"):
        seen.extend(source.measurements())
    # The first one's stamp is 0, which is none.
    assert 13 <= len(seen) < 21
    assert [m.stamp_ns for _, m in seen] == [k * 50_000_000 for k in range(1, len(seen) + 1)]
    assert all((m.points[:, 0] == k).all() for k, (_, m) in enumerate(seen, 1))


def test_a_cut_bag_whose_messages_were_not_recorded_in_order_is_put_in_order(long_source, tmp_path):
    """Drivers that write from several threads are some milliseconds out of order; without its index that must do."""
    rows = [(m.stamp_ns + 200_000_000 * (k % 2), m) for k, (_, m) in enumerate(long_source.measurements())]
    with BagFile(tmp_path / "mixed.mcap") as bag:
        for logged_ns, sweep in rows:
            bag.write("lidar_top/points", logged_ns, lidar_to_msg(sweep, "base_link", MAKE))
    data = (tmp_path / "mixed.mcap").read_bytes()
    (tmp_path / "mixed.mcap").write_bytes(data[:-1_000_000])
    storage = BagStorage(tmp_path / "mixed.mcap")
    logged = [message.logged_ns for message in storage.logged({"/lidar_top/points"})]
    assert logged == sorted(logged)
    assert len(logged) >= 27
    assert set(logged) <= {logged_ns for logged_ns, _ in rows}


def test_a_mended_copy_lasts_as_long_as_it_is_used(long_source, tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    bag = write_bag(long_source, tmp_path / "cut.mcap")
    bag.write_bytes(bag.read_bytes()[:-1_000_000])
    storage = BagStorage(bag)
    first, second = (len(list(storage.logged({"/lidar_top/points"}))) for _ in range(2))
    assert first == second >= 27
    assert len(list(temporary.iterdir())) == 1
    del storage
    gc.collect()
    assert not list(temporary.iterdir())


def test_cut_folder_without_metadata_is_read_as_well(long_source, tmp_path):
    folder = write_bag(long_source, tmp_path / "folder")
    (file,) = folder.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-1_000_000])
    seen = []
    with pytest.raises(DataError, match="damaged"):
        seen.extend(open_source(folder).measurements())
    assert len(seen) >= 27
    (folder / "metadata.yaml").unlink()
    with pytest.raises(DataError, match="damaged"):
        list(open_source(folder).measurements())


@pytest.mark.parametrize("content", [b"", b"\x89MCAP0\r\n", b"not a bag at all", b"\x89MCAP0\r\n" + b"\xff" * 400])
def test_files_that_are_no_bag_are_named(tmp_path, content):
    path = tmp_path / "broken.mcap"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"broken\.mcap"):
        open_source(path)


def test_damage_inside_never_raises_anything_else(bag):
    data = bytearray(bag.read_bytes())
    rng = np.random.default_rng(3)
    for _ in range(12):
        broken = data.copy()
        for place in rng.integers(100, len(data), 30):
            broken[place] = rng.integers(0, 256)
        bag.write_bytes(broken)
        try:
            for _ in open_source(bag).measurements():
                pass
        except DataError:
            pass


def test_malformed_messages_are_left_out_and_counted(source, tmp_path):
    path = tmp_path / "bad.mcap"
    sweeps = [m for name, m in source.measurements() if name == "LIDAR_TOP"][:3]
    rows = [lidar_to_msg(sweep, "base_link", MAKE) for sweep in sweeps]
    rows[1] = replace(rows[1], width=7_000_000)
    with BagFile(path) as bag:
        for sweep, row in zip(sweeps, rows, strict=True):
            bag.write("lidar_top/points", sweep.stamp_ns, row)
    again = BagSource(path)
    assert len(list(again.measurements())) == 2
    ((sensor, reason),) = again.dropped
    assert sensor == "LIDAR_TOP"
    assert "point_step" in reason


def test_a_topic_without_messages_is_no_sensor(source, tmp_path):
    sweep = next(m for name, m in source.measurements() if name == "LIDAR_TOP")
    with BagFile(tmp_path / "quiet.mcap") as bag:
        bag.write("lidar_top/points", 1, lidar_to_msg(sweep, "base_link", MAKE))
        bag._writer.add_connection("/radar_front/points", topics.POINT_CLOUD, typestore=typestore())
    assert list(BagSource(tmp_path / "quiet.mcap").rig.sensors) == ["LIDAR_TOP"]


def test_points_that_are_not_finite_are_counted(source, tmp_path):
    sweep = next(m for name, m in source.measurements() if name == "LIDAR_TOP")
    points = sweep.points.copy()
    points[:7, 0] = np.nan
    with BagFile(tmp_path / "nan.mcap") as bag:
        bag.write("lidar_top/points", 1, lidar_to_msg(replace(sweep, points=points), "base_link", MAKE))
    again = BagSource(tmp_path / "nan.mcap")
    ((_, read),) = again.measurements()
    assert len(read.points) == len(points) - 7
    assert again.dropped == {("LIDAR_TOP", NOT_FINITE): 7}


def test_wrong_and_unknown_topics_are_named(tmp_path):
    message = imu_to_msg(ImuSample(1, np.zeros(3), np.zeros(3)), "imu", MAKE)
    with BagFile(tmp_path / "wrong.mcap") as bag:
        bag.write("lidar_top/points", 1, message)
    with pytest.raises(DataError, match="/lidar_top/points is sensor_msgs/msg/Imu, not sensor_msgs/msg/PointCloud2"):
        BagSource(tmp_path / "wrong.mcap")
    with BagFile(tmp_path / "foreign.mcap") as bag:
        bag.write("my_tree", 1, tf_static_to_msg(Rig(), MAKE))
    with pytest.raises(DataError, match=r"none of the known sensor topics, but: /my_tree.*inputs.topics"):
        BagSource(tmp_path / "foreign.mcap")
    with BagFile(tmp_path / "blind.mcap") as bag:
        bag.write("my_imu", 1, message)
    assert BagSource(tmp_path / "blind.mcap").where("IMU") == "/my_imu"


def test_messages_of_types_nobody_knows_do_no_harm(source, tmp_path):
    """A bag of sqlite3 with a topic of a private type among the known ones."""
    types = typestore()
    with Writer(tmp_path / "db", version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        private = writer.add_connection(
            "/secret", "acme_msgs/msg/Secret", msgdef="int32 x\n", rihs01="RIHS01_" + "0" * 64
        )
        imu = writer.add_connection("/imu/data", topics.IMU, typestore=types)
        for n in range(5):
            writer.write(private, n, b"\0\1\0\0" + struct.pack("<i", n))
            message = imu_to_msg(ImuSample(n, np.zeros(3), np.zeros(3)), "base_link", MAKE)
            writer.write(imu, n, types.serialize_cdr(message, topics.IMU))
    assert [(name, m.stamp_ns) for name, m in open_source(tmp_path / "db").measurements()] == [
        ("IMU", n) for n in range(1, 5)
    ]


def test_nothing_is_overwritten(source, bag):
    with pytest.raises(DataError, match="exists already"):
        write_bag(source, bag)


class _Handmade:
    """A source from a list."""

    name = "handmade"
    truth = {}  # noqa: RUF012

    def __init__(self, poses, rows):
        from peft_dml_ros.core.rig import Sensor, modality_of_channel

        self.rig = Rig({name: Sensor(name, modality_of_channel(name), pose) for name, pose in poses.items()})
        self.rows = rows

    def measurements(self):
        return iter(self.rows)
