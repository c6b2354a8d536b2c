# SPDX-License-Identifier: Apache-2.0
"""nuScenes -> bag -> nuScenes: keyframes, poses, what is left out."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peft_dml_ros.core.errors import ConfigError, DataError
from peft_dml_ros.core.lenses import Lens
from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep, OdometrySample, RadarSweep
from peft_dml_tools.datasets.bag_import import import_bag
from peft_dml_tools.datasets.bag_recording import BagRecording, choose_keyframes
from peft_dml_tools.datasets.bags import BagSource, RosbagsFactory, write_bag
from peft_dml_tools.datasets.checks import check_dataset
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.datasets.source import NuScenesSource, open_source
from tests.support import scenes
from tests.support.made_source import MadeSource, pose, scene_of, sweep

MAKE = RosbagsFactory()


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
    """Boxes of the same objects, by their places: tokens of instances are new."""
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
        ("scene-0002.mcap", "default", {}),
        ("scene-0002.mcap", "nuscenes2bag", {"compress": True}),
        ("scene-0002.db3", "autoware", {"display": True}),
        ("folder", "default", {"sqlite3": True, "compress": True}),
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
    # Points counted again in every box, against the official counts.
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
    stamps = [17 * 10**17 + i * 10**8 for i in range(12)]
    shifted = MadeSource([*map(sweep, stamps), *(pose(stamp, 0.0) for stamp in stamps)])
    assert import_bag(BagSource(write_bag(shifted, tmp_path / "x.mcap")), out).scene == "scene-9001"
    reader = NuScenesReader(out)
    assert reader.splits == {"bag": ("scene-0001", "scene-0002", "scene-9001")}
    assert check_dataset(out).passed()
    with pytest.raises(ConfigError, match="four digits"):
        import_bag(BagSource(bag), out, scene="monday")
    with pytest.raises(ConfigError, match=r"no import wrote \(scene-0001"):
        import_bag(BagSource(bag), mini, version="v1.0-test-rig")
    for outside in ("", "..", "../other", "v1.0/mini"):
        with pytest.raises(ConfigError, match="fix: the name of a folder below --out"):
            import_bag(BagSource(bag), tmp_path / "set", version=outside)


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


def test_poses_are_interpolated_and_measurements_without_one_left_out():
    ms = 1_000_000
    rows = [sweep(t * ms) for t in (0, 500, 1000, 1500, 2000, 5000)] + [pose(t * ms, t / 1000) for t in (400, 2100)]
    recording = BagRecording(MadeSource(rows))
    assert recording.stamps["LIDAR_TOP"] == [500 * ms, 1000 * ms, 1500 * ms, 2000 * ms]
    assert recording.keyframes_ns == tuple(recording.stamps["LIDAR_TOP"])
    assert recording.left_out == {"LIDAR_TOP: before or after the odometry, or twice": 2}
    middle = recording.global_SE3_base(1000 * ms)
    assert np.allclose(middle.translation, (1.0, 0, 0))
    assert middle.yaw_rad == pytest.approx(0.1)
    assert [m.stamp_ns for n, m in recording.measurements() if n == "LIDAR_TOP"] == recording.stamps["LIDAR_TOP"]


def test_a_bag_without_odometry_is_refused_unless_the_vehicle_stood():
    source = MadeSource([sweep(0), sweep(500_000_000)])
    with pytest.raises(DataError, match="--assume-still"):
        BagRecording(source)
    assert BagRecording(source, assume_still=True).global_SE3_base(7).translation.tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="nothing to make keyframes of; fix: record LiDAR"):
        BagRecording(MadeSource([pose(0, 0)]))


def test_raw_images_are_compressed_and_uncalibrated_cameras_left_out(tmp_path):
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, :, 0] = 200
    rows = [sweep(10**18), pose(10**18, 0), ("CAM_FRONT", CameraImage(10**18, pixels=pixels))]
    bag = write_bag(MadeSource(rows), tmp_path / "raw.mcap")
    assert import_bag(BagSource(bag), tmp_path / "raw").files == 2
    ((_, image),) = [row for row in scene_of(tmp_path / "raw", "scene-9001").measurements() if row[0] == "CAM_FRONT"]
    import cv2

    assert abs(int(cv2.imdecode(np.frombuffer(image.jpeg, np.uint8), cv2.IMREAD_COLOR)[20, 20, 2]) - 200) < 4
    lost = BagRecording(MadeSource(rows, camera=False))
    assert "CAM_FRONT" not in lost.rig.sensors
    assert "CAM_FRONT: the camera has no CameraInfo" in lost.left_out


def test_damaged_images_are_left_out_and_counted(tmp_path):
    sound = scenes.image(10**18)
    middle = len(sound.jpeg) // 2
    broken = CameraImage(10**18 + 1, jpeg=sound.jpeg[:middle] + b"\xff\xd9")
    rows = [sweep(10**18), pose(10**18, 0), ("CAM_FRONT", sound), ("CAM_FRONT", broken)]
    made = import_bag(BagSource(write_bag(MadeSource(rows), tmp_path / "hit.mcap")), tmp_path / "out")
    assert (made.files, made.left_out) == (2, {"CAM_FRONT: the image is damaged": 1})


def test_a_sensor_that_falls_silent_leaves_later_keyframes_alone(tmp_path):
    start, period = 10**18, 500_000_000
    rows = [sweep(start + k * period) for k in range(6)] + [pose(start + k * period, k) for k in range(6)]
    rows += [("RADAR_FRONT", RadarSweep(start + k * period + 1000, _radar(3))) for k in range(2)]
    import_bag(BagSource(write_bag(MadeSource(rows), tmp_path / "b.mcap")), tmp_path / "out")
    data = NuScenesReader(tmp_path / "out").tables.rows("sample_data")
    assert [r["is_key_frame"] for r in data if "RADAR" in r["filename"]] == [True, True]
    report = check_dataset(tmp_path / "out")
    assert [(o.rule.id, o.examples[0].what) for o in report.broken if o.rule.id[:3] != "FMT"] == [
        ("REF004", "4 keyframe(s) without RADAR_FRONT")
    ]


def _radar(n: int):
    from peft_dml_ros.core.measurements import RADAR_DTYPE

    return np.zeros(n, RADAR_DTYPE)


def test_viewers_get_a_tree_and_markers(mini, tmp_path):
    from rosbags.rosbag2 import Reader

    from peft_dml_ros.conversions.markers import VELOCITY_NAMESPACE
    from peft_dml_tools.datasets.bags import typestore

    bag = write_bag(scene_of(mini), tmp_path / "seen.mcap", display=True)
    with Reader(bag) as reader:
        types = {c.topic: c for c in reader.connections}
        assert types["/tf"].msgcount == types["/odometry"].msgcount
        _, _, cdr = next(reader.messages([types["/truth/markers"]]))
        markers = typestore().deserialize_cdr(cdr, types["/truth/markers"].msgtype).markers
    boxes = next(iter(scene_of(mini).truth.values()))
    cubes = [m for m in markers[1:] if m.ns != VELOCITY_NAMESPACE]
    assert [m.action for m in markers] == [3, *([0] * (len(markers) - 1))]
    assert [m.scale.x for m in cubes] == boxes.sizes_m[:, 0].tolist()


def test_derived_fixes_are_marked_and_lie_where_the_map_is(mini, tmp_path):
    from peft_dml_tools.datasets import derived_gnss

    ms = 1_000_000
    source = MadeSource([sweep(k * 50 * ms) for k in range(20)] + [pose(k * 50 * ms, 10.0 * k) for k in range(20)])
    derived = derived_gnss.WithDerivedGnss(source, "singapore-onenorth")
    bag = write_bag(derived, tmp_path / "d.mcap", frames={"GNSS": derived_gnss.FRAME})
    again = BagSource(bag)
    assert again._calibration()[1]["GNSS"] == "gnss_derived"
    fixes = [m for name, m in again.measurements() if name == "GNSS"]
    assert [fix.stamp_ns for fix in fixes] == [k * 100 * ms for k in range(1, 10)]  # a stamp of 0 is none
    assert {fix.sigma_m for fix in fixes} == {derived_gnss.SIGMA_M}
    east_m = np.deg2rad(fixes[-1].longitude_deg - 103.78475189208984) * 6378137.0 * np.cos(np.deg2rad(1.2882))
    assert east_m == pytest.approx(180.0, rel=1e-6)
    with pytest.raises(ConfigError, match="fixes of its own"):
        derived_gnss.WithDerivedGnss(scene_of(mini), "singapore-onenorth")
    with pytest.raises(ConfigError, match="'x' lies is not known"):
        derived_gnss.WithDerivedGnss(source, "x")


def test_the_same_drive_is_not_imported_twice_by_accident(mini, tmp_path):
    bag = write_bag(scene_of(mini), tmp_path / "drive.mcap")
    first = import_bag(BagSource(bag), tmp_path / "out")
    with pytest.raises(ConfigError, match=rf"has this drive already, as {first.scene}.*--scene"):
        import_bag(BagSource(bag), tmp_path / "out")
    assert import_bag(BagSource(bag), tmp_path / "out", scene="scene-0077").scene == "scene-0077"


def test_a_lens_and_a_mosaic_survive(tmp_path):
    k = np.array([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
    lens = Lens.make("equidistant", k, [0.1, 0.01, 0.0, 0.0], "camera")
    mosaic = cv2.imencode(".jpg", np.full((48, 64), 90, np.uint8))[1].tobytes()
    rows = [("CAM_FRONT", CameraImage(i * 10**8, jpeg=mosaic, mosaic="rggb")) for i in range(12)]
    source = MadeSource([*rows, *(pose(i * 10**8, 0.0) for i in range(12))])
    camera = source.rig["CAM_FRONT"]
    source.rig.sensors["CAM_FRONT"] = replace(camera, camera=replace(camera.camera, lens=lens))
    bag = write_bag(source, tmp_path / "drive.mcap")
    read = BagSource(bag)
    assert read.rig["CAM_FRONT"].camera.lens.model == "equidistant"
    assert {m.mosaic for n, m in read.measurements() if n == "CAM_FRONT"} == {"rggb"}
    import_bag(read, tmp_path / "out")
    again = open_source(tmp_path / "out")
    np.testing.assert_allclose(again.rig["CAM_FRONT"].camera.lens.coefficients, lens.coefficients)
