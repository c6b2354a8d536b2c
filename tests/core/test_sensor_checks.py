# SPDX-License-Identifier: Apache-2.0
"""Each hint is given for what it names, with the numbers, and not for what is right."""

import re
from dataclasses import replace

import numpy as np
import pytest

from peft_dml_ros.conversions import camera_model_from_msg
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import CameraImage, GnssFix, ImuSample, LidarSweep
from peft_dml_ros.core.pillars import TRAINED, Levels, lidar_cloud
from peft_dml_ros.core.rig import CameraModel, Sensor
from peft_dml_ros.core.sensor_checks import SensorChecks
from peft_dml_ros.core.spec import ModelSpec
from tests.conversions.test_images import info

RNG = np.random.default_rng(0)
TOP = Sensor("LIDAR_TOP", "lidar", SE3(np.eye(3), np.array([1.0, 0.0, 1.8])))
NOT_OPTICAL = Sensor("CAM_FRONT", "camera", SE3.identity())
OPTICAL = SE3(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0.0]]), np.zeros(3))


def street(intensity=12.0, field="intensity"):
    """Points on the ground around, and on a wall, seen by `TOP`."""
    flat = RNG.uniform(-40, 40, (4000, 2))
    ground = np.column_stack([flat, np.full(len(flat), -1.8)])
    wall = np.column_stack([RNG.uniform(-40, 40, 1500), np.full(1500, 9.0), RNG.uniform(-1.8, 4, 1500)])
    points = np.concatenate([ground, wall]) + RNG.normal(0, 0.02, (5500, 3))
    shine = RNG.gamma(2.0, intensity / 1.68, 5500) if intensity else np.zeros(5500)
    return LidarSweep(1, np.column_stack([points, shine, np.zeros(5500)]).astype(np.float32), field)


def photons():
    """Counts that fall with the square of the distance: no factor makes reflectivities of them."""
    sweep = street()
    sweep.points[::7, :3] *= 0.05  # the vehicle itself, as in nuScenes' sweeps
    RNG.shuffle(sweep.points)
    sweep.points[:, 3] *= 6000 / (sweep.points[:, :3] ** 2).sum(axis=1)
    return sweep


def reflectors(share):
    """A street of which some points shine far beyond the scale."""
    sweep = street()
    sweep.points[RNG.random(len(sweep.points)) < share, 3] = 4000
    return sweep


def hints(measurement, sensor=TOP, times=1):
    checks = SensorChecks(ModelSpec())
    for k in range(times):
        checks.look(sensor.name, replace(measurement, stamp_ns=k) if times > 1 else measurement, sensor)
    return {hint.id: hint for hint in checks.hints.values()}


def test_a_usual_street_is_right():
    assert hints(street()) == {}
    assert hints(street(intensity=45)) == {}


def test_places_of_an_organised_cloud_where_nothing_returned_say_nothing_on_intensity():
    """Ouster and others fill them with (0, 0, 0) and intensity 0: in the open they are most of a cloud."""
    sweep = street()
    empty = np.zeros((9000, 5), np.float32)
    assert hints(replace(sweep, points=np.concatenate([sweep.points, empty]))) == {}
    counted = np.concatenate([street(200).points, empty])
    (found,) = hints(replace(sweep, points=counted)).values()
    assert found.id == "SEN102"
    assert np.median(counted[:, 3]) == 0
    assert 150 < Levels.of(counted).median < 250
    # Without the range of a network nothing is scaled: 200 over all places would be a mean below the limit.
    assert counted[:, 3].mean() < 128 < Levels.of(counted).mean
    assert not lidar_cloud([(counted, SE3.identity(), 0.0)], 1.0)[:, 3].any()


@pytest.mark.parametrize(
    ("sweep", "wanted", "words"),
    [
        (street(0), "SEN101", "all 0"),
        (street(0, ""), "SEN101", "no intensity"),
        (street(100), "SEN102", "medians of 2 to 60 and maxima of 100 to 255; it is multiplied by 0.12 here"),
        (street(0.5), "SEN102", r"multiplied by 2\d here.*LIDAR_TOP=2\d"),
        (street(12 * 60), "SEN102", "multiplied by 0.017 here"),
        (photons(), "SEN103", "its intensity is not used"),
        (reflectors(0.05), "SEN103", "maximum 4000"),
    ],
)
def test_intensities(sweep, wanted, words):
    (found,) = hints(sweep).values()
    assert found.id == wanted
    assert re.search(words, str(found))


def test_a_few_retroreflectors_beyond_the_scale_and_fog_say_nothing_of_it():
    assert hints(reflectors(0.004)) == {}
    fog = street(1.5)
    fog.points[:20, 3] = 254  # signs shine through
    assert hints(fog).keys() == {"SEN102"}
    assert Levels.of(fog.points).factor(TRAINED) == 1.0


def test_places():
    flat = replace(TOP, base_SE3_sensor=SE3.identity())
    fix = hints(street(), flat)["SEN112"].fix
    assert re.search(r"z of the transform base_link -> lidar_top: 1\.[78]\d m would put the ground at 0", fix)
    leaning = SE3(np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0.0]]), TOP.base_SE3_sensor.translation)
    assert {"SEN111", "SEN113"} & hints(street(), replace(TOP, base_SE3_sensor=leaning)).keys()
    far = replace(TOP, base_SE3_sensor=SE3(np.eye(3), np.array([4000.0, 0, 1.8])))
    assert "0 of 5" in hints(street(), far)["SEN111"].problem
    assert "x and y of the transform" in hints(street(), far)["SEN111"].fix
    big = street()
    big.points[:, :3] *= 1000
    assert "millimetres" in hints(big)["SEN111"].fix


IMU = Sensor("IMU", "imu", SE3.identity())


def sample(accel, gyro=(0.0, 0.0, 0.02)):
    return ImuSample(1, np.array(accel, float), np.array(gyro, float))


@pytest.mark.parametrize(
    ("accel", "gyro", "wanted"),
    [
        ((0.1, 0.0, 9.8), (0.0, 0.0, 0.3), set()),
        ((0.01, 0.0, 1.0), (0.0, 0.0, 0.3), {"SEN301"}),
        ((0.01, 0.0, 1.0), (0.0, 0.0, 17.0), {"SEN301", "SEN304"}),
        ((0.2, 0.1, 0.0), (0.0, 0.0, 0.1), {"SEN302"}),
        ((0.0, 9.8, 0.1), (0.0, 0.0, 0.1), {"SEN303"}),
        ((0.0, 0.0, -9.8), (0.0, 0.0, 0.1), {"SEN303"}),
    ],
)
def test_units_and_axes_of_an_imu(accel, gyro, wanted):
    """Reported: livox_ros_driver2 157, HesaiLidar_ROS_2.0 31 (g and degrees a second)."""
    assert hints(sample(accel, gyro), IMU, times=100).keys() == wanted


def camera(k=(600.0, 600.0, 320.0, 240.0), size=(640, 480), pose=OPTICAL):
    fx, fy, cx, cy = k
    return Sensor("CAM_FRONT", "camera", pose, CameraModel(np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), *size))


def test_calibrations():
    image = CameraImage(1, jpeg=b"")
    assert hints(image, camera()) == {}
    # K was scaled for binning 4 already, and was divided again.
    doubled = hints(image, camera(k=(150.0, 150.0, 80.0, 60.0), size=(640, 480)))
    assert "(80, 60) px in images of 640 x 480: 0.25 and 0.25" in doubled["SEN201"].problem
    assert "SEN202" in hints(image, camera(k=(4.0, 4.0, 320.0, 240.0)))
    assert "up" in hints(image, camera(pose=SE3.identity()))["SEN203"].problem


def test_binning_that_counts_twice():
    """Reported: avt_vimba_camera 82: K was scaled for binning 4 already, and the message says binning_x = 4."""
    right = camera_model_from_msg(info(binning_x=2, binning_y=2))
    assert hints(CameraImage(1, jpeg=b""), replace(camera(), camera=right)) == {}
    twice = camera_model_from_msg(info(k=(150.0, 150.0, 80.0, 60.0), binning_x=4, binning_y=4, width=640, height=480))
    found = hints(CameraImage(1, jpeg=b""), replace(camera(), camera=twice))
    assert "principal point (20, 15) px in images of 160 x 120: 0.25 and 0.25" in found["SEN201"].problem


def test_a_receiver_that_claims_a_fix():
    gnss = Sensor("GNSS", "gnss", SE3.identity())
    assert hints(GnssFix(1, 0.0, 0.0, 0.0, 1.0), gnss).keys() == {"SEN311"}
    assert hints(GnssFix(1, 0.0, 0.0, 0.0, 1.0, has_fix=False), gnss) == {}


def test_the_real_keyframe_gives_no_hint_and_its_changes_do(real_keyframe):
    from peft_dml_tools.datasets.nuscenes import NuScenesReader

    reader = NuScenesReader(real_keyframe, allow_missing=True)
    (token,) = reader.samples()
    rig, snapshot = reader.rig(token), reader.snapshot(token, ModelSpec())
    checks = SensorChecks(ModelSpec())
    for name, (sweep, *_) in (*snapshot.lidar.items(), *snapshot.radars.items()):
        checks.look(name, sweep, rig[name])
    for name, image in snapshot.cameras.items():
        checks.look(name, image, rig[name])
    assert checks.hints == {}
    sweep, top = snapshot.lidar["LIDAR_TOP"][0], rig["LIDAR_TOP"]
    recorded = lidar_cloud([(sweep.points, SE3.identity(), 0.0)], 1.0)
    for gain in (0.25, 4, 60):
        other = sweep.points * np.array([1, 1, 1, gain, 1], np.float32)
        assert f"it is multiplied by {1 / gain:.2g} here" in hints(LidarSweep(1, other), top)["SEN102"].problem
        np.testing.assert_allclose(lidar_cloud([(other, SE3.identity(), 0.0)], 1.0, TRAINED), recorded, rtol=1e-5)
    assert hints(sweep, replace(top, base_SE3_sensor=SE3.identity())).keys() == {"SEN112"}


def test_every_hint_of_the_code_is_in_the_table(repository):
    sources = [p for room in ("peft_dml_ros", "peft_dml_tools") for p in (repository / room).rglob("*.py")]
    given = {name for path in sources for name in re.findall(r"SEN\d{3}", path.read_text(encoding="utf-8"))}
    table = (repository / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    assert given == set(re.findall(r"^\| (SEN\d{3}) \| [^|]+ \| [^|]+ \|$", table, flags=re.MULTILINE))
    pages = [repository / "docs" / name for name in ("troubleshooting.md", "sensors.md")]
    explained, mentioned = (set(re.findall(r"SEN\d{3}", page.read_text(encoding="utf-8"))) for page in pages)
    assert given == explained
    assert mentioned == given, "the page on sensors says when each of them comes"
