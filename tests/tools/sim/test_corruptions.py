# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' corruptions against their protocols' numbers."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from peft_dml_ros.core.boxes import Boxes3D
from peft_dml_ros.core.errors import ConfigError
from peft_dml_ros.core.geometry import SE3
from peft_dml_ros.core.measurements import RADAR_DTYPE, CameraImage, LidarSweep, RadarSweep
from peft_dml_ros.core.rig import Rig, Sensor
from peft_dml_ros.core.snapshot import Snapshot
from peft_dml_ros.core.spec import ModelSpec
from peft_dml_tools.datasets.nuscenes import NuScenesReader
from peft_dml_tools.sim.corruptions import CORRUPTIONS, MULTICORRUPT, RADAR_NOISE, corrupt
from peft_dml_tools.sim.corruptions import camera as picture
from peft_dml_tools.sim.corruptions import lidar as cloud
from peft_dml_tools.sim.weather.images import decode

CAMERAS = ("CAM_FRONT", "CAM_BACK", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
TURN = SE3.from_yaw(-np.pi / 2, (0.9, 0.0, 1.8))
SEVERITIES = (1, 2, 3)


def make_frame(stamp_ns=1_000, seed=0):
    rng = np.random.default_rng(seed)
    points = np.zeros((6400, 5), np.float32)
    points[:, :3] = rng.uniform(-1, 1, (6400, 3)) * (60, 60, 2)
    points[:, 3], points[:, 4] = rng.integers(1, 120, 6400), np.arange(6400) % 32
    sweeps = tuple(LidarSweep(stamp_ns - 50 * i, points + np.float32(0.001 * i)) for i in range(2))
    radar = np.zeros(400, RADAR_DTYPE)
    radar["x"], radar["y"] = rng.uniform(5, 90, 400), rng.uniform(-20, 20, 400)
    radar["rcs"], radar["vx"], radar["ambig_state"] = rng.normal(8, 4, 400), -5.0, 3
    ramp = np.tile(np.linspace(10, 200, 160).astype(np.uint8)[None, :, None], (90, 1, 3))
    ramp[..., 1] //= 2
    images = {name: CameraImage(stamp_ns, pixels=np.roll(ramp, 7 * seed, axis=1)) for name in CAMERAS}
    return Snapshot(
        stamp_ns, "LIDAR_TOP", {"LIDAR_TOP": sweeps}, {"RADAR_FRONT": (RadarSweep(stamp_ns, radar),)}, images
    )


@pytest.fixture(scope="module")
def frame():
    return make_frame()


@pytest.fixture(scope="module")
def rig():
    cameras = {name: Sensor(name, "camera", SE3.identity()) for name in CAMERAS}
    lidar, radar = Sensor("LIDAR_TOP", "lidar", TURN), Sensor("RADAR_FRONT", "radar", SE3.identity())
    return Rig({"LIDAR_TOP": lidar, "RADAR_FRONT": radar, **cameras})


def content(snapshot):
    points = [s.points for sweeps in (*snapshot.lidar.values(), *snapshot.radars.values()) for s in sweeps]
    return [*points, *(image.pixels for image in snapshot.cameras.values())]


def differs(a, b):
    return a.shape != b.shape or bool((a != b).any())


def lidar_of(snapshot, sweep=0):
    return snapshot.lidar["LIDAR_TOP"][sweep].points


def test_the_ten_of_multicorrupt_are_there():
    assert len(MULTICORRUPT) == 10
    assert len(CORRUPTIONS) == 17


# ---------------------------------------------------------------- all of them
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_changes_something_and_always_the_same(name, frame, rig):
    boxes = Boxes3D.make(np.array([[10.0, 0, 1], [-20, 5, 1]]), np.full((2, 3), 8.0), np.zeros(2), np.zeros(2, int))
    given = {"previous": make_frame(500, seed=1), "boxes": boxes}
    before = [a.copy() for a in content(frame)]
    changed = 0
    for seed in range(4):
        first, second = (corrupt(frame, name, 3, rig, seed=seed, **given) for _ in range(2))
        assert not any(differs(a, b) for a, b in zip(content(first), content(second), strict=True))
        changed += any(differs(a, b) for a, b in zip(content(first), before, strict=True))
        assert first.lidar["LIDAR_TOP"][1].stamp_ns == frame.lidar["LIDAR_TOP"][1].stamp_ns
        assert all(np.isfinite(lidar_of(first, i)).all() for i in (0, 1))
    assert changed >= 2
    assert not any(differs(a, b) for a, b in zip(content(frame), before, strict=True)), "the input was written to"


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - {"object_failure"}))
def test_a_frame_without_sensors_stays_empty(name, rig):
    empty = Snapshot(7, "CAM_FRONT")
    assert corrupt(empty, name, 2, rig, previous=empty).present == ()


def test_wrong_names_and_severities_are_told(frame, rig):
    with pytest.raises(ConfigError, match="did you mean 'pointsreducing'"):
        corrupt(frame, "pointreducing", 1, rig)
    with pytest.raises(ConfigError, match=r"severity 4 of .*; fix: give 1, 2 or 3"):
        corrupt(frame, "fog", 4, rig)
    with pytest.raises(ConfigError, match="pass boxes="):
        corrupt(frame, "object_failure", 1, rig)


# ---------------------------------------------------------------- LiDAR
@pytest.mark.parametrize(
    ("severity", "rings"), [(1, range(1, 32, 2)), (2, range(1, 32, 4)), (3, (1, 9, 17, 25))], ids=str
)
def test_beams_reducing_keeps_the_published_rings(frame, rig, severity, rings):
    out = corrupt(frame, "beamsreducing", severity, rig)
    for sweep in (0, 1):
        assert set(lidar_of(out, sweep)[:, 4].astype(int)) <= set(rings)
    whole = make_frame()
    exact = replace(whole, lidar={"LIDAR_TOP": (LidarSweep(1, ringed(whole)),)})
    assert set(lidar_of(corrupt(exact, "beamsreducing", severity, rig))[:, 4].astype(int)) == set(rings)


def ringed(snapshot):
    points = lidar_of(snapshot).copy()
    points[:, 4] = np.arange(len(points)) % 32
    return points


@pytest.mark.parametrize(("severity", "kept"), [(1, 1920), (2, 1280), (3, 640)])
def test_points_reducing_drops_70_80_90_percent(frame, rig, severity, kept):
    out = lidar_of(corrupt(frame, "pointsreducing", severity, rig))
    assert len(out) == kept
    rows = {row.tobytes() for row in lidar_of(frame)}
    assert all(row.tobytes() in rows for row in out)


@pytest.mark.parametrize(("severity", "alpha"), [(1, 0.02), (2, 0.03), (3, 0.06)])
def test_fog_attenuates_with_the_published_extinction(frame, rig, severity, alpha):
    before, after = lidar_of(frame), lidar_of(corrupt(frame, "fog", severity, rig))
    near = (before[:, :3] ** 2).sum(axis=1) < 12.0**2
    ratio = after[near, 3] / before[near, 3]
    expected = np.exp(-2 * alpha * np.linalg.norm(before[near, :3], axis=1))
    assert ratio == pytest.approx(expected, rel=1e-4)


def test_snow_takes_more_the_heavier_it_is(frame, rig):
    far = [(np.linalg.norm(lidar_of(corrupt(frame, "snow", s, rig))[:, :3], axis=1) > 20).sum() for s in SEVERITIES]
    clear = (np.linalg.norm(lidar_of(frame)[:, :3], axis=1) > 20).sum()
    assert clear > far[0] > far[1] > far[2] > 0


@pytest.mark.parametrize(("severity", "sigma_m"), [(1, 0.06), (2, 0.1), (3, 0.13)])
def test_motion_blur_shifts_and_jitters(severity, sigma_m):
    points = np.zeros((500, 5), np.float32)
    runs = np.stack([cloud.motion_blur(points, severity, np.random.default_rng(i))[:, :3] for i in range(400)])
    assert runs.mean(axis=1).std(axis=0) == pytest.approx(np.full(3, sigma_m), rel=0.12)
    jitter = (runs - runs.mean(axis=1, keepdims=True)).std(axis=(0, 1))
    assert jitter == pytest.approx(sigma_m * np.array([0.15, 0.2, 0.12]), rel=0.02)


@pytest.mark.parametrize(("severity", "chance", "degrees"), [(1, 0.2, 1), (2, 0.4, 2), (3, 0.6, 3)])
def test_spatial_misalignment_has_the_published_chance_and_size(severity, chance, degrees):
    errors = [cloud.misalignment(severity, np.random.default_rng(i)) for i in range(1500)]
    hit = [e for e in errors if e.translation[0]]
    assert len(hit) / 1500 == pytest.approx(chance, abs=0.04)
    assert hit[0].translation.tolist() == [2.0, 0.0, 0.0]
    s, c = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    about = (
        np.array([[1, 0, 0], [0, c, s], [0, -s, c]]),
        np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]]),
        np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]]),
    )
    assert hit[0].rotation == pytest.approx(about[0] @ about[1] @ about[2], abs=1e-12)


@pytest.mark.parametrize(("severity", "half_deg"), [(1, 90), (2, 60)])
def test_field_of_view_is_cut_about_the_vehicles_front(frame, rig, severity, half_deg):
    out = lidar_of(corrupt(frame, "field_of_view", severity, rig))
    # This LiDAR's y axis looks ahead, as nuScenes' does.
    bearing = np.rad2deg(np.arctan2(-out[:, 0], out[:, 1]))
    assert half_deg - 1 < np.abs(bearing).max() <= half_deg + 1e-3
    assert len(out) / 6400 == pytest.approx(half_deg / 180, abs=0.03)


def test_failing_objects_lose_all_their_points_and_nothing_else(frame, rig):
    rng = np.random.default_rng(1)
    spots = np.column_stack([rng.uniform(-50, 50, (300, 2)), np.full(300, 1.8)])
    boxes = Boxes3D.make(spots, np.full((300, 3), 4.0), rng.uniform(-3, 3, 300), np.zeros(300, int))
    base = TURN.transform(lidar_of(frame)[:, :3].astype(np.float64))
    # Boxes that share points with no other one tell whether each failed as a whole.
    inside = boxes.contain(base, 0.05)
    alone = np.flatnonzero((inside.sum(axis=1) > 0) & ~(inside & (inside.sum(axis=0) > 1)).any(axis=1))
    boxes = boxes[alone]
    for severity, chance in ((1, 0.25), (2, 0.5), (3, 0.75)):
        out = corrupt(frame, "object_failure", severity, rig, boxes=boxes)
        left = {row.tobytes() for row in lidar_of(out)}
        stays = np.array([row.tobytes() in left for row in lidar_of(frame)])
        member = boxes.contain(base, 0.05)
        shares = np.array([stays[m].mean() for m in member])
        assert set(shares) <= {0.0, 1.0}
        assert (shares == 0).mean() == pytest.approx(chance, abs=4 * np.sqrt(0.25 / len(boxes)))
        assert stays[~member.any(axis=0)].all()


def test_other_objects_fail_in_the_next_frame(rig):
    spots = np.random.default_rng(0).uniform(-50, 50, (40, 3)) * (1, 1, 0) + (0, 0, 1.8)
    boxes = Boxes3D.make(spots, np.full((40, 3), 4.0), np.zeros(40), np.zeros(40, int))
    left = [corrupt(make_frame(stamp), "object_failure", 2, rig, boxes=boxes) for stamp in (1_000, 2_000)]
    assert {row.tobytes() for row in lidar_of(left[0])} != {row.tobytes() for row in lidar_of(left[1])}


# ---------------------------------------------------------------- time
@pytest.mark.parametrize(("severity", "chance"), [(1, 0.2), (2, 0.4), (3, 0.6)])
def test_late_and_missing_sensors_have_the_published_chance(rig, severity, chance):
    late_lidar, late_cameras, black = [], [], []
    small = np.full((2, 2, 3), 9, np.uint8)
    for stamp in range(1, 301):
        now = replace(make_stub(stamp), cameras={n: CameraImage(stamp, pixels=small) for n in CAMERAS})
        past = replace(make_stub(stamp - 1), cameras={n: CameraImage(stamp - 1, pixels=small + 1) for n in CAMERAS})
        out = corrupt(now, "temporalmisalignment", severity, rig, previous=past)
        assert [s.stamp_ns for s in out.lidar["LIDAR_TOP"]] == [stamp, stamp - 2]
        assert all(image.stamp_ns == stamp for image in out.cameras.values())
        late_lidar.append(lidar_of(out)[0, 0] == stamp - 1)
        assert (lidar_of(out, 1)[0, 0] == stamp - 3) == late_lidar[-1]
        late_cameras += [image.pixels[0, 0, 0] == 10 for image in out.cameras.values()]
        gone = corrupt(now, "missingcamera", severity, rig)
        black += [not image.pixels.any() for image in gone.cameras.values()]
        assert corrupt(now, "temporalmisalignment", severity, rig) is now
    assert np.mean(late_lidar) == pytest.approx(chance, abs=0.11)
    assert np.mean(late_cameras) == pytest.approx(chance, abs=0.05)
    assert np.mean(black) == pytest.approx(chance, abs=0.05)


def make_stub(stamp_ns):
    """A frame whose LiDAR points carry their true stamps."""
    sweeps = tuple(LidarSweep(t, np.full((1, 5), t, np.float32)) for t in (stamp_ns, stamp_ns - 2))
    return Snapshot(stamp_ns, "LIDAR_TOP", {"LIDAR_TOP": sweeps})


# ---------------------------------------------------------------- radar
@pytest.mark.parametrize("severity", SEVERITIES)
def test_radar_noises_do_what_they_say(frame, rig, severity):
    def points(name):
        return corrupt(frame, name, severity, rig).radars["RADAR_FRONT"][0].points

    before = frame.radars["RADAR_FRONT"][0].points
    lost = points("radar_keypoint_missing")
    assert len(lost) / 400 == pytest.approx(1 - (0.2, 0.4, 0.6)[severity - 1], abs=0.08)
    more = points("radar_spurious_points")
    assert len(more) == 400 + (80, 200, 400)[severity - 1]
    assert (more[:400] == before).all()
    assert np.abs(np.arctan2(more["y"][400:], more["x"][400:])).max() <= np.deg2rad(60) + 1e-6
    shifted = points("radar_point_shifting")
    assert (shifted["x"] - before["x"]).std() == pytest.approx((0.3, 0.7, 1.5)[severity - 1], rel=0.15)
    assert (shifted["rcs"] == before["rcs"]).all()
    falsified = points("radar_non_positional")
    assert (falsified["rcs"] - before["rcs"]).std() == pytest.approx((3, 6, 10)[severity - 1], rel=0.15)
    assert (falsified["x"] == before["x"]).all()
    error = np.stack([falsified["vx_comp"], falsified["vy_comp"]]) - np.stack([before["vx_comp"], before["vy_comp"]])
    across = error[0] * before["y"] - error[1] * before["x"]
    assert np.abs(across).max() < 1e-3
    assert falsified["vx"] - before["vx"] == pytest.approx(error[0], abs=1e-5)


def test_radar_noise_is_the_four_kinds_one_after_the_other(frame, rig):
    worse = frame
    for name in RADAR_NOISE:
        worse = corrupt(worse, name, 2, rig)
    at_once = corrupt(frame, "radar_noise", 2, rig)
    for name, sweeps in worse.radars.items():
        assert all((a.points == b.points).all() for a, b in zip(sweeps, at_once.radars[name], strict=True))


# ---------------------------------------------------------------- pictures
def picture_in():
    return np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8)


@pytest.mark.parametrize(("severity", "added"), [(1, 0.5), (2, 0.6), (3, 0.7)])
def test_brightness_raises_the_value_of_hsv(severity, added):
    pixels = picture_in()
    hsv = cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 2] = np.minimum(hsv[..., 2] + added, 1)
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    assert np.abs(picture.brightness(pixels, severity) - expected).max() < 1.0
    assert (picture.brightness(np.zeros((2, 2, 3), np.uint8), severity) == round(255 * added + 0.01)).all()


@pytest.mark.parametrize(
    ("severity", "scale", "photons", "sigma"), [(1, 0.6, 250, 0.008), (2, 0.4, 120, 0.018), (3, 0.3, 50, 0.026)]
)
def test_dark_scales_and_adds_photon_noise(severity, scale, photons, sigma):
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[:100], pixels[0, 0] = 180, 255
    out = picture.dark(pixels, severity, np.random.default_rng(0))[2:90] / 255
    level = (180 / 255) ** 2 * scale
    assert out.mean() == pytest.approx(level, rel=0.01)
    assert out.std() == pytest.approx(np.hypot(np.sqrt(level / photons), sigma), rel=0.05)


def test_motion_blur_smears_level_edges_less_than_upright_ones():
    upright = np.zeros((90, 160, 3), np.uint8)
    upright[:, 80:] = 255
    blurred = picture._smear(upright, 15, 13.0, 0.0, 1600).astype(np.uint8)
    assert ((blurred[45, :, 0] > 5) & (blurred[45, :, 0] < 250)).sum() > 15
    assert (picture._smear(upright.transpose(1, 0, 2), 15, 13.0, 0.0, 1600).astype(np.uint8) % 255 == 0).all()
    flat = np.full((60, 80, 3), 77, np.uint8)
    assert np.abs(picture.motion_blur(flat, 3, np.random.default_rng(0)).astype(int) - 77).max() <= 1


@pytest.mark.parametrize(("severity", "plasma", "beta"), [(1, 2, 0.0005), (2, 3, 0.001), (3, 4, 0.002)])
def test_fog_leaves_the_published_share_of_contrast(severity, plasma, beta):
    foggy = []
    for level in (20, 220):
        pixels = np.full((180, 320, 3), level, np.uint8)
        pixels[0, 0] = 255
        foggy.append(picture.fog(pixels, severity, np.random.default_rng(0)).astype(int))
    left = (foggy[1] - foggy[0]) / 200
    # In the road's part of the picture the distance is 40 pixels, the root of 1600.
    assert left[130:170, 60:240].mean() == pytest.approx(np.exp(-beta * 40) / (1 + plasma), rel=0.02)
    assert left[20:30].mean() < left[130:170].mean()


def test_snow_whitens_the_more_the_heavier_it_is():
    pixels = np.tile(np.linspace(0, 120, 320).astype(np.uint8)[None, :, None], (180, 1, 3))
    means = [picture.snow(pixels, severity, np.random.default_rng(0)).mean() for severity in SEVERITIES]
    assert pixels.mean() < means[0] < means[1] < means[2]


def test_plasma_spans_its_range_at_all_scales():
    clouds = picture.plasma(120, 200, np.random.default_rng(0))
    assert (clouds.shape, clouds.min(), clouds.max()) == ((120, 200), 0.0, pytest.approx(1.0))
    assert np.abs(np.diff(clouds, axis=1)).mean() < 0.1 * clouds.std() * 5


def test_real_keyframe_takes_every_corruption(real_keyframe):
    reader = NuScenesReader(real_keyframe)
    (token,) = reader.samples()
    whole, rig = reader.snapshot(token, ModelSpec()), reader.rig(token)
    small = cv2.resize(decode(whole.cameras["CAM_FRONT"]).copy(), (320, 180))
    frame = replace(whole, cameras={"CAM_FRONT": CameraImage(whole.stamp_ns, pixels=small)})
    truth = reader.truth(token)
    for name in CORRUPTIONS:
        out = corrupt(frame, name, 3, rig, boxes=truth, previous=frame)
        assert lidar_of(out).dtype == np.float32
        assert out.radars["RADAR_FRONT"][0].points.dtype == RADAR_DTYPE
        assert out.cameras["CAM_FRONT"].pixels.shape == (180, 320, 3)
    rings = lidar_of(corrupt(frame, "beamsreducing", 3, rig))
    assert 0.08 < len(rings) / 34_688 < 0.14
    cut = lidar_of(corrupt(frame, "field_of_view", 1, rig))[:, :3].astype(np.float64)
    assert rig["LIDAR_TOP"].base_SE3_sensor.rotate(cut)[:, 0].min() > -1e-3
