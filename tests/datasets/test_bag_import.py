# SPDX-License-Identifier: Apache-2.0
"""nuScenes -> bag -> nuScenes, topic presets, and disks that fill up."""

import errno
import io
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, OdometrySample, RadarSweep
from peft_dml_ros.core.rig import CameraModel, Rig, Sensor, modality_of_channel
from peft_dml_ros.datasets import presets, topics
from peft_dml_ros.datasets.bag_import import import_bag
from peft_dml_ros.datasets.bag_recording import BagRecording, choose_keyframes
from peft_dml_ros.datasets.bag_writer import messages_of
from peft_dml_ros.datasets.bags import BagFile, BagSource, RosbagsFactory, write_bag
from peft_dml_ros.datasets.checks import check_dataset
from peft_dml_ros.datasets.conversions import tf_static_to_msg, tf_to_msg
from peft_dml_ros.datasets.nuscenes import NuScenesReader
from peft_dml_ros.datasets.source import NuScenesSource, open_source

MAKE = RosbagsFactory()
SCENE = "scene-0002"


def scene_of(root: Path, scene: str = SCENE) -> NuScenesSource:
    return NuScenesSource(NuScenesReader(root, filter_radar=False), scene)


def assert_same_measurements(original, again) -> None:
    """Arrays and images bit for bit, stamps to the microsecond that nuScenes holds."""
    mine, theirs = list(original.measurements()), list(again.measurements())
    assert [(m.stamp_ns, name) for name, m in mine] == [(m.stamp_ns, name) for name, m in theirs]
    for (name, a), (_, b) in zip(mine, theirs, strict=True):
        match a:
            case LidarSweep() | RadarSweep():
                assert a.points.dtype == b.points.dtype
                assert a.points.tobytes() == b.points.tobytes(), name
            case CameraImage() | GnssFix():
                assert a == b
            case ImuSample():
                assert np.array_equal(a.accel_mps2, b.accel_mps2)
                assert np.array_equal(a.gyro_radps, b.gyro_radps)
            case OdometrySample():
                assert np.array_equal(a.odom_SE3_base.translation, b.odom_SE3_base.translation)
                assert np.allclose(a.odom_SE3_base.rotation, b.odom_SE3_base.rotation, atol=1e-12, rtol=0)


def assert_same_truth(original, again) -> None:
    """Boxes of the same objects, by their places: tokens of instances are made anew."""
    assert original.truth.keys() == again.truth.keys()
    for stamp, boxes in original.truth.items():
        other = again.reader.truth(again.tokens[list(again.truth).index(stamp)], keep_unseen=True)
        assert sorted(boxes.labels) == sorted(other.labels)
        for i in range(len(boxes)):
            j = int(np.argmin(np.linalg.norm(other.centers_m - boxes.centers_m[i], axis=1)))
            assert np.allclose(other.centers_m[j], boxes.centers_m[i], atol=1e-6)
            assert np.allclose(other.sizes_m[j], boxes.sizes_m[i])
            assert other.labels[j] == boxes.labels[i]
            assert other.attributes[j] == boxes.attributes[i]
            assert abs(np.sin(other.yaws_rad[j] - boxes.yaws_rad[i])) < 2e-3  # the miniature vehicle is tilted


@pytest.mark.parametrize(
    ("name", "preset", "options"),
    [
        ("scene-0002.mcap", "ours", {}),
        ("scene-0002.mcap", "nuscenes2bag", {"compress": True}),
        ("scene-0002.db3", "autoware", {"display": True}),
        ("folder", "ours", {"sqlite3": True, "compress": True}),
        ("folder", "autoware", {"display": True}),
    ],
)
def test_round_trip(mini, tmp_path, name, preset, options):
    original = scene_of(mini)
    bag = write_bag(original, tmp_path / name, preset=preset, **options)
    assert bag.is_file() == ("." in name)
    assert sorted(p.name for p in tmp_path.iterdir()) == [name]
    source = BagSource(bag)
    assert source.preset == preset
    made = import_bag(source, tmp_path / "back", scene="scene-0002")
    assert (made.keyframes, made.files, made.left_out) == (3, 55, {})
    again = scene_of(tmp_path / "back")
    assert_same_measurements(original, again)
    assert_same_truth(original, again)
    assert again.rig.sensors.keys() == original.rig.sensors.keys()
    for sensor, mine in original.rig.sensors.items():
        theirs = again.rig[sensor]
        assert np.array_equal(mine.base_SE3_sensor.translation, theirs.base_SE3_sensor.translation)
        assert np.allclose(mine.base_SE3_sensor.rotation, theirs.base_SE3_sensor.rotation, atol=1e-12, rtol=0)
    assert check_dataset(tmp_path / "back").passed(strict=True)


def test_real_keyframe_round_trip(real_keyframe, tmp_path):
    original = NuScenesSource(NuScenesReader(real_keyframe, filter_radar=False))
    bag = write_bag(original, tmp_path / "scene-0061.mcap", compress=True, display=True)
    made = import_bag(BagSource(bag), tmp_path / "back", location="singapore-onenorth")
    again = NuScenesSource(NuScenesReader(tmp_path / "back", filter_radar=False))
    assert (made.scene, again.name, made.keyframes, made.left_out) == ("scene-0061", "scene-0061", 1, {})
    assert_same_measurements(original, again)
    assert_same_truth(original, again)
    # Points counted anew in every box, against the official counts.
    mine, theirs = (
        sorted(r["num_lidar_pts"] for r in s.reader.tables.rows("sample_annotation") if r["num_lidar_pts"])
        for s in (original, again)
    )
    assert sum(theirs) == pytest.approx(sum(mine), rel=0.05)
    assert {o.rule.id for o in check_dataset(tmp_path / "back").broken} <= {"REF004"}


def test_devkit_loads_what_was_imported(mini, tmp_path):
    nuscenes = pytest.importorskip("nuscenes")
    import_bag(BagSource(write_bag(scene_of(mini), tmp_path / "scene-0002.mcap")), tmp_path / "back")
    loaded = nuscenes.NuScenes("v1.0-bag", str(tmp_path / "back"), verbose=False)
    assert len(loaded.sample) == 3
    path, boxes, _ = loaded.get_sample_data(loaded.sample[1]["data"]["LIDAR_TOP"])
    assert Path(path).is_file()
    assert len(boxes) == 2


def test_scenes_gather_in_one_folder(mini, tmp_path):
    out = tmp_path / "all"
    for name in ("scene-0001", "scene-0002"):
        bag = write_bag(scene_of(mini, name), tmp_path / f"{name}.mcap")
        assert import_bag(BagSource(bag), out).scene == name
    with pytest.raises(ConfigError, match="has 'scene-0001' already"):
        import_bag(BagSource(bag), out, scene="scene-0001")
    assert import_bag(BagSource(bag), out).scene == "scene-9001"
    reader = NuScenesReader(out)
    assert reader.splits == {"bag": ("scene-0001", "scene-0002", "scene-9001")}
    assert check_dataset(out).passed(strict=True)
    with pytest.raises(ConfigError, match="four digits"):
        import_bag(BagSource(bag), out, scene="monday")
    with pytest.raises(ConfigError, match=r"no import wrote \(scene-0001"):
        import_bag(BagSource(bag), mini, version="v1.0-test-rig")


# ---------------------------------------------------------------- keyframes and poses
@settings(max_examples=100, deadline=None)
@given(
    stamps=st.lists(st.integers(0, 5_000_000_000), min_size=1, max_size=120, unique=True).map(sorted),
    truth=st.lists(st.integers(0, 5_000_000_000), max_size=40, unique=True).map(sorted),
    annotate=st.booleans(),
)
def test_keyframes_are_reference_stamps_in_order(stamps, truth, annotate):
    truth = sorted({*truth, *stamps[::7]}) if annotate else truth
    chosen = choose_keyframes(stamps, truth)
    assert chosen
    assert list(chosen) == sorted(set(chosen))
    assert set(chosen) <= set(stamps)
    assert len(chosen) <= max(len(set(stamps) & set(truth)), (stamps[-1] - stamps[0]) // 500_000_000 + 2)


def test_keyframes_come_twice_a_second_where_nothing_says_otherwise():
    sweeps = [k * 50_000_000 + (k % 3) * 1000 for k in range(101)]
    chosen = choose_keyframes(sweeps, [])
    assert len(chosen) == 11
    assert np.abs(np.diff(chosen) - 500_000_000).max() <= 2000
    assert choose_keyframes(sweeps, sweeps) == chosen
    assert choose_keyframes(sweeps, sweeps[4::10]) == tuple(sweeps[4::10])


class _Made:
    """A source from rows."""

    truth = {}  # noqa: RUF012
    name = "made"

    def __init__(self, rows, *, camera=True):
        intrinsics = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
        names = sorted({name for name, _ in rows})
        models = {n: CameraModel(intrinsics, 64, 48) if n.startswith("CAM") and camera else None for n in names}
        self.rig = Rig({n: Sensor(n, modality_of_channel(n), SE3.identity(), models[n]) for n in names})
        self._rows = sorted(rows, key=lambda row: row[1].stamp_ns)

    def measurements(self):
        return iter(self._rows)


def _sweep(stamp_ns: int, value: float = 1.0) -> tuple[str, LidarSweep]:
    return "LIDAR_TOP", LidarSweep(stamp_ns, np.full((4, 5), value, np.float32))


def _pose(stamp_ns: int, x: float) -> tuple[str, OdometrySample]:
    return "ODOM", OdometrySample(stamp_ns, SE3.from_yaw(0.1 * x, (x, 0.0, 0.0)))


def test_poses_are_interpolated_and_measurements_without_one_left_out():
    ms = 1_000_000
    rows = [_sweep(t * ms) for t in (0, 500, 1000, 1500, 2000, 5000)] + [_pose(t * ms, t / 1000) for t in (400, 2100)]
    recording = BagRecording(_Made(rows))
    assert recording.stamps["LIDAR_TOP"] == [500 * ms, 1000 * ms, 1500 * ms, 2000 * ms]
    assert recording.keyframes_ns == tuple(recording.stamps["LIDAR_TOP"])
    assert recording.left_out == {"LIDAR_TOP: before or after the odometry, or twice": 2}
    pose = recording.global_SE3_base(1000 * ms)
    assert np.allclose(pose.translation, (1.0, 0, 0))
    assert pose.yaw_rad == pytest.approx(0.1)
    assert [m.stamp_ns for n, m in recording.measurements() if n == "LIDAR_TOP"] == recording.stamps["LIDAR_TOP"]


def test_a_bag_without_odometry_is_refused_unless_the_vehicle_stood():
    source = _Made([_sweep(0), _sweep(500_000_000)])
    with pytest.raises(DataError, match="--assume-still"):
        BagRecording(source)
    assert BagRecording(source, assume_still=True).global_SE3_base(7).translation.tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="no measurement of a LiDAR, radar or camera"):
        BagRecording(_Made([_pose(0, 0)]))


def test_raw_images_are_compressed_and_uncalibrated_cameras_left_out(tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :, 0] = 200
    rows = [_sweep(10**18), _pose(10**18, 0), ("CAM_FRONT", CameraImage(10**18, pixels=pixels))]
    bag = write_bag(_Made(rows), tmp_path / "raw.mcap")
    assert import_bag(BagSource(bag), tmp_path / "raw").files == 2
    ((_, image),) = [row for row in scene_of(tmp_path / "raw", "scene-9001").measurements() if row[0] == "CAM_FRONT"]
    import cv2

    assert abs(int(cv2.imdecode(np.frombuffer(image.jpeg, np.uint8), cv2.IMREAD_COLOR)[20, 20, 2]) - 200) < 4
    lost = BagRecording(_Made(rows, camera=False))
    assert "CAM_FRONT" not in lost.rig.sensors
    assert "CAM_FRONT: the camera has no CameraInfo" in lost.left_out


def test_a_sensor_that_falls_silent_leaves_later_keyframes_alone(tmp_path):
    start, period = 10**18, 500_000_000
    rows = [_sweep(start + k * period) for k in range(6)] + [_pose(start + k * period, k) for k in range(6)]
    rows += [("RADAR_FRONT", RadarSweep(start + k * period + 1000, _radar(3))) for k in range(2)]
    import_bag(BagSource(write_bag(_Made(rows), tmp_path / "b.mcap")), tmp_path / "out")
    data = NuScenesReader(tmp_path / "out").tables.rows("sample_data")
    assert [r["is_key_frame"] for r in data if "RADAR" in r["filename"]] == [True, True]
    report = check_dataset(tmp_path / "out")
    assert [(o.rule.id, o.examples[0].what) for o in report.broken if o.rule.id[:3] != "FMT"] == [
        ("REF004", "4 keyframe(s) without RADAR_FRONT")
    ]


def _radar(n: int):
    from peft_dml_ros.core.measurements import RADAR_DTYPE

    return np.zeros(n, RADAR_DTYPE)


# ---------------------------------------------------------------- topics of others
def test_a_foreign_bag_is_understood_by_types_frames_and_words(tmp_path):
    """LiDAR by its driver's name, cameras by place, the tree on /tf alone, and an IMU on the usual topic."""
    source = _Made(
        [_sweep(10**18), _sweep(10**18 + 1000), _pose(10**18, 0), ("IMU", ImuSample(10**18, np.zeros(3), np.ones(3)))]
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
    named = presets.renamer(preset)
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


def test_viewers_get_a_tree_and_markers(mini, tmp_path):
    from rosbags.rosbag2 import Reader

    from peft_dml_ros.datasets.bags import typestore

    bag = write_bag(scene_of(mini), tmp_path / "seen.mcap", display=True)
    with Reader(bag) as reader:
        types = {c.topic: c for c in reader.connections}
        assert types["/tf"].msgcount == types["/odometry"].msgcount
        _, _, cdr = next(reader.messages([types["/truth/markers"]]))
        markers = typestore().deserialize_cdr(cdr, types["/truth/markers"].msgtype).markers
    boxes = next(iter(scene_of(mini).truth.values()))
    assert [m.action for m in markers] == [3, *([0] * len(boxes))]
    assert [m.scale.x for m in markers[1:]] == boxes.sizes_m[:, 0].tolist()


def test_derived_fixes_are_marked_and_lie_where_the_map_is(mini, tmp_path):
    from peft_dml_ros.datasets import derived_gnss
    from peft_dml_ros.sim import motion

    assert motion.MAP_ORIGINS_DEG.items() <= derived_gnss.MAP_ORIGINS_DEG.items()
    ms = 1_000_000
    source = _Made([_sweep(k * 50 * ms) for k in range(20)] + [_pose(k * 50 * ms, 10.0 * k) for k in range(20)])
    derived = derived_gnss.WithDerivedGnss(source, "singapore-onenorth")
    bag = write_bag(derived, tmp_path / "d.mcap", frames={"GNSS": derived_gnss.FRAME})
    again = BagSource(bag)
    assert again._calibration()[2]["GNSS"] == "gnss_derived"
    fixes = [m for name, m in again.measurements() if name == "GNSS"]
    assert [fix.stamp_ns for fix in fixes] == [k * 100 * ms for k in range(10)]
    assert {fix.sigma_m for fix in fixes} == {derived_gnss.SIGMA_M}
    east_m = np.deg2rad(fixes[-1].longitude_deg - 103.78475189208984) * 6378137.0 * np.cos(np.deg2rad(1.2882))
    assert east_m == pytest.approx(180.0, rel=1e-6)
    with pytest.raises(ConfigError, match="fixes of its own"):
        derived_gnss.WithDerivedGnss(scene_of(mini), "singapore-onenorth")
    with pytest.raises(ConfigError, match="'x' lies is not known"):
        derived_gnss.WithDerivedGnss(source, "x")


# ---------------------------------------------------------------- damage, full disks, second runs
def test_a_bag_cut_short_is_named_and_imported_on_demand(tmp_path):
    long = [_sweep(10**18 + k * 50_000_000, k) for k in range(40)]
    long = [(n, replace(m, points=np.full((20_000, 5), k, np.float32))) for k, (n, m) in enumerate(long)]
    bag = write_bag(_Made([*long, *(_pose(m.stamp_ns, k) for k, (_, m) in enumerate(long))]), tmp_path / "long.mcap")
    data = bag.read_bytes()
    bag.write_bytes(data[: int(len(data) * 0.7)])
    with pytest.raises(DataError, match=r"long\.mcap is damaged.*whole records end at byte \d+ of \d+"):
        import_bag(BagSource(bag), tmp_path / "out")
    made = import_bag(BagSource(bag), tmp_path / "out", allow_damaged=True)
    assert "long.mcap is damaged" in made.damage
    assert 2 <= made.keyframes <= 3
    assert check_dataset(tmp_path / "out", exclude=("FMT009",)).passed(strict=True)


class _FullDisk:
    """Files opened for writing take this many bytes in all, then the disk is full."""

    def __init__(self, room: int) -> None:
        self.room = room

    def take(self, size: int) -> None:
        self.room -= size
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk(monkeypatch):
    """Gives a function that lets the disk under Path.open and Path.write_bytes fill up after so many bytes."""

    def fill(room: int) -> _FullDisk:
        disk = _FullDisk(room)
        real_open = io.open

        class Limited(io.FileIO):
            def write(self, data, /):
                disk.take(len(memoryview(data).cast("B")))
                return super().write(data)

        def limited_open(self, mode="r", *args, **kwargs):
            if mode in {"wb", "xb"}:
                return io.BufferedWriter(Limited(self, "w"))
            return real_open(self, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", limited_open)
        return disk

    return fill


def _files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_full_disk_while_exporting_leaves_the_earlier_bag_and_nothing_else(mini, tmp_path, full_disk, monkeypatch):
    out = tmp_path / "scene.mcap"
    before = write_bag(scene_of(mini, "scene-0001"), out).read_bytes()
    whole = write_bag(scene_of(mini), tmp_path / "other" / "scene.mcap").read_bytes()
    for room in (10, 100_000, len(whole) - 100):
        full_disk(room)
        with pytest.raises(DataError, match=r"scene\.mcap after \d+ bytes: No space left.*run it again"):
            write_bag(scene_of(mini), out, overwrite=True)
        monkeypatch.undo()
        assert out.read_bytes() == before
        assert sorted(p.name for p in tmp_path.iterdir()) == ["other", "scene.mcap"]
    with pytest.raises(DataError, match="exists already"):
        write_bag(scene_of(mini), out)
    assert write_bag(scene_of(mini), out, overwrite=True).read_bytes() == whole


def test_what_a_killed_export_left_is_cleared_but_nothing_of_others(mini, tmp_path):
    part = tmp_path / "scene.part" / "scene"
    part.mkdir(parents=True)
    (part / "scene.mcap").write_bytes(b"half")
    write_bag(scene_of(mini), tmp_path / "scene.mcap")
    assert not part.exists()
    (tmp_path / "other.part").mkdir()
    (tmp_path / "other.part" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match=r"other\.part exists already"):
        write_bag(scene_of(mini), tmp_path / "other.mcap")
    assert (tmp_path / "other.part" / "thesis.tex").is_file()


@pytest.mark.parametrize("room", [100, 50_000, 400_000])
def test_full_disk_while_importing_is_named_and_a_second_run_completes(mini, tmp_path, full_disk, monkeypatch, room):
    out = tmp_path / "out"
    import_bag(BagSource(write_bag(scene_of(mini, "scene-0001"), tmp_path / "scene-0001.mcap")), out)
    bag = write_bag(scene_of(mini), tmp_path / "scene-0002.mcap")
    import_bag(BagSource(bag), tmp_path / "whole", scene="scene-0002")
    before = _files(out)
    full_disk(room)
    with pytest.raises(DataError, match=r"cannot write .*No space left.*run the same command again"):
        import_bag(BagSource(bag), out)
    monkeypatch.undo()
    now = _files(out)
    assert {name: now[name] for name in before} == before or room == 400_000
    assert not [name for name in now if name.endswith(".part")]
    assert import_bag(BagSource(bag), out).scene == "scene-0002"
    assert check_dataset(out).passed(strict=True)
    whole = _files(tmp_path / "whole")
    again = _files(out)
    assert all(again[name] == content for name, content in whole.items() if name.startswith(("samples", "sweeps")))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="a small disk needs root to mount it")
def test_a_disk_that_is_really_full(mini, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        for name in ("scene.mcap", "scene.db3", "folder"):
            with pytest.raises(DataError, match=r"after \d+ bytes: .*(No space left|disk is full)"):
                write_bag(scene_of(mini), disk / name)
            assert not list(disk.iterdir())
        bag = write_bag(scene_of(mini), tmp_path / "scene.mcap")
        with pytest.raises(DataError, match=r"cannot write .*No space left"):
            import_bag(BagSource(bag), disk / "out")
        assert open_source(bag).truth
    finally:
        subprocess.run(["umount", str(disk)], check=True)
